"""What transformers and those who start them share: classes as text, and the hops of a result."""

from __future__ import annotations

import base64
import inspect
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from aistore.wire import params

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore.sdk.etl.webserver.base_etl_server import ETLServer

__all__ = ["compose_etl_direct_put_url", "deserialize_class", "parse_etl_pipeline", "serialize_class"]


def serialize_class(cls: type[ETLServer], encoding: str = "utf-8") -> str:
    """A class of a transformer as text: base64 of its pickle (protocol/50 8.1).

    Classes of `__main__`, of notebooks and of functions travel by value, with the globals that they use; those of importable modules by
    name, so the module must be importable where the class runs. Raises TypeError for what is no subclass of `ETLServer`, and for what cannot
    be pickled.
    """
    import cloudpickle  # type: ignore[import-untyped]  # it has no types

    from aistore.sdk.etl.webserver.base_etl_server import ETLServer

    if not (inspect.isclass(cls) and issubclass(cls, ETLServer)):
        raise TypeError(f"{cls!r} is not a subclass of ETLServer")
    try:
        return base64.b64encode(cloudpickle.dumps(cls)).decode(encoding)
    except Exception as error:  # whatever an object's own way to pickle raises
        names = ", ".join(_unpicklable(cls, cloudpickle.dumps))
        what = f" (it uses {names})" if names else ""
        raise TypeError(
            f"{cls.__name__} cannot be sent{what}: {error}. Make such things in __init__(), which runs where the class does"
        ) from error


def _unpicklable(cls: type, dumps: Callable[[object], bytes]) -> list[str]:
    """Names of what methods of a class use, and of its attributes, that do not pickle."""
    used: dict[str, object] = {}
    for name, value in vars(cls).items():
        if inspect.isfunction(value):
            found = inspect.getclosurevars(value)
            used |= {**found.globals, **found.nonlocals}
        elif not name.startswith(("__", "_abc_")):
            used[name] = value
    failing = []
    for name, value in used.items():
        try:
            dumps(value)
        except Exception:  # as above
            failing.append(name)
    return failing


def deserialize_class(payload: str) -> type[ETLServer]:
    """The class that `serialize_class` made `payload` of: runs its code, so only for payloads of those who may.

    Raises TypeError for what is no subclass of `ETLServer`, and whatever unpickling raises.
    """
    import pickle

    from aistore.sdk.etl.webserver.base_etl_server import ETLServer

    cls = pickle.loads(base64.b64decode(payload, validate=True))  # noqa: S301  running code of the user's is the purpose
    if not (inspect.isclass(cls) and issubclass(cls, ETLServer)):
        raise TypeError(f"{cls!r} is not a subclass of ETLServer")
    return cls


def parse_etl_pipeline(pipeline_header: str | None) -> tuple[str, str]:
    """The first hop of an `Ais-Node-Url` header, and the rest of it; both empty without one. Raises `InvalidPipelineError` for empty hops."""
    if not pipeline_header or not pipeline_header.strip():
        return "", ""
    first, *rest = pipeline_header.split(",")
    if not all(hop.strip() for hop in (first, *rest)):
        from aistore.sdk.errors import InvalidPipelineError

        raise InvalidPipelineError("Pipeline header contains empty entry")
    return first.strip(), ",".join(rest).strip()


def compose_etl_direct_put_url(direct_put_url: str, host_target: str, obj_path: str, etl_args: str = "") -> str:
    """URL to PUT a result to (protocol/50 6.8).

    A hop without a path is a further stage, which gets `obj_path` (not encoded yet). One with a path is a target: `host_target`, the URL
    that this transformer has for its own target, says scheme and route. `etl_args` replaces those of the hop's query.
    """
    hop, target = urlsplit(direct_put_url), urlsplit(host_target)
    path = target.path + hop.path if hop.path else "/" + quote(obj_path.lstrip("/"), safe="/@~")
    scheme = target.scheme if hop.path else hop.scheme or target.scheme
    query = hop.query
    if etl_args:
        query = urlencode(
            [*((k, v) for k, v in parse_qsl(query, True) if k != params.ETL_ARGS), (params.ETL_ARGS, etl_args)]
        )
    return urlunsplit((scheme or "http", hop.netloc, path, query, ""))
