"""Init messages: what an ETL is asked to be (protocol/50 3)."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import Final, cast

import msgspec

from aistore.wire.errors import ApiError
from aistore.wire.messages import BadMessage, convert, parse_json
from aistore.wire.values import SECOND, format_duration, parse_bool, parse_duration, parse_size

__all__ = ["InitMessage", "Launch", "Variable", "check_name", "launch_of", "parse_init", "seconds"]

_COMM_TYPES: Final = ("hpush://", "hpull://", "ws://")
_NAME_MIN: Final = 6
_NAME_MAX: Final = 32
_INIT_TIMEOUT: Final = 45 * SECOND
_OBJ_TIMEOUT: Final = 10 * SECOND
_PORT: Final = 8000
_PORT_NAME: Final = "default"
_SPEC_MAX: Final = 64 << 10  # manifests have a few KiB, and the parser takes a second for this many


class Variable(msgspec.Struct):
    """One variable of an environment; both fields are always told, an empty value too (protocol/50 4.2)."""

    name: str = ""
    value: str = ""


class Runtime(msgspec.Struct, omit_defaults=True):
    image: str = ""
    command: list[str] = []
    env: list[Variable] = []


class InitMessage(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The message as it came, with defaults filled in: what details echo."""

    name: str = ""
    communication: str = ""
    init_timeout: str = ""
    obj_timeout: str = ""
    support_direct_put: bool = False
    runtime: Runtime | None = None
    spec: str = ""
    resources: dict[str, object] = {}
    env: list[Variable] = []


@dataclass(frozen=True)
class Launch:
    """What a message says about the process: image, command, environment, its own idea of the port, its readiness probe."""

    image: str
    command: tuple[str, ...]
    env: dict[str, str]
    last: dict[str, str] = field(default_factory=dict)
    """What wins over all other variables."""
    port: int = _PORT
    probe: str = "/health"
    memory: int = 0
    """Bytes, 0 for no limit of its own."""
    args: tuple[str, ...] = field(default=())
    """Arguments of an image's own command, where the message names no command."""


def parse_init(body: bytes) -> InitMessage:
    """Decode and check; raises ApiError 400 with what is wrong with either form."""
    try:
        document = parse_json(body)
        message = convert(document, InitMessage)
    except BadMessage as error:
        raise _invalid(str(error), str(error)) from None
    if not isinstance(document, dict):
        raise _invalid("expected an object", "expected an object")
    try:
        _check_runtime(message)
    except ApiError as first:
        try:
            _check_spec(message)
        except ApiError as second:
            raise _invalid(first.message, second.message) from None
        message.runtime = None
    else:
        message.spec = ""
    return message


def _invalid(of_runtime: str, of_spec: str) -> ApiError:
    return ApiError(400, f"invalid etl.InitMsg: ETLSpecMsg error: {of_runtime}; InitSpecMsg error: {of_spec}")


def check_name(name: str) -> str:
    """The name, or ApiError 400 (protocol/50 2.1)."""
    if not name:
        raise ApiError(400, 'ETL name "" is empty')
    if len(name) < _NAME_MIN:
        raise ApiError(400, f'ETL name "{name}" is too short')
    if len(name) > _NAME_MAX:
        raise ApiError(400, f'ETL name "{name}" is too long')
    if not re.fullmatch(r"[a-z0-9-]+", name):
        raise ApiError(400, f'ETL name "{name}" is invalid: can only contain [a-z0-9-]')
    return name


def _check_runtime(message: InitMessage) -> None:
    kind = "init-etl-spec"
    runtime = message.runtime
    if runtime is None or not runtime.image:
        raise ApiError(400, f'[etl="{message.name}"] runtime.image must be specified')
    _check_common(message, kind)


def _check_spec(message: InitMessage) -> None:
    if not message.spec:
        raise ApiError(400, f'[etl="{message.name}"] spec must be specified')
    _check_common(message, "init-spec")
    container = _Container(message)
    if container.direct_put:
        message.support_direct_put = True
    _check_direct_put(message, "init-spec")


def _check_common(message: InitMessage, kind: str) -> None:
    """Check what both forms share, and fill in defaults."""
    try:
        check_name(message.name)
    except ApiError as error:
        raise ApiError(400, f"{error.message} {_printed(message, kind)}") from None
    message.communication = message.communication or _COMM_TYPES[0]
    if message.communication not in _COMM_TYPES:
        raise ApiError(
            400,
            f'[etl="{message.name}"] unknown comm-type "{message.communication}" (expecting one of {", ".join(_COMM_TYPES)}) {_printed(message, kind)}',
        )
    message.init_timeout = _duration(message, "init_timeout", message.init_timeout, _INIT_TIMEOUT)
    message.obj_timeout = _duration(message, "obj_timeout", message.obj_timeout, _OBJ_TIMEOUT)
    if kind == "init-etl-spec":
        _check_direct_put(message, kind)


def _check_direct_put(message: InitMessage, kind: str) -> None:
    if message.communication == "ws://" and not message.support_direct_put:
        raise ApiError(400, f"WebSocket without direct put is not supported yet. {_printed(message, kind)}")


def _printed(message: InitMessage, kind: str) -> str:
    variables = message.env + (message.runtime.env if message.runtime else [])
    names = " ".join(one.name for one in variables)  # values may be secrets
    return (
        f"[{kind}[{message.name}-{message.communication}], env=[{names}], "
        f"timeout=({message.init_timeout}, {message.obj_timeout})]"
    )


def _duration(message: InitMessage, field_name: str, text: str, default: int) -> str:
    if not text:
        return format_duration(default)
    try:
        value = parse_duration(text)
    except ValueError as error:
        raise ApiError(400, f'[etl="{message.name}"] {field_name}: {error}') from None
    if value < 0:
        raise ApiError(400, f'[etl="{message.name}"] {field_name} must not be negative, have {text}')
    return format_duration(value or default)


def seconds(duration: str) -> float:
    """Seconds of a duration of a checked message."""
    return parse_duration(duration) / SECOND


def launch_of(message: InitMessage) -> Launch:
    """What to start for a checked message."""
    extra = {one.name: one.value for one in message.env}
    if message.runtime is not None:
        own = {one.name: one.value for one in message.runtime.env}
        memory = _memory(message.resources)
        return Launch(message.runtime.image, tuple(message.runtime.command), own, extra, memory=memory)
    container = _Container(message)
    return Launch(
        container.image,
        container.command,
        container.env,
        extra,
        container.port,
        container.probe,
        _memory(container.resources),
        container.args,
    )


def _memory(resources: dict[str, object]) -> int:
    """Bytes of a Kubernetes limit such as `512Mi` or `2G`; 0 without one, or for one that cannot be read."""
    limits = resources.get("limits")
    text = limits.get("memory") if isinstance(limits, dict) else None
    if not isinstance(text, (str, int, float)):  # lists of a manifest may be longer than memory
        return 0
    try:
        return parse_size(str(text), decimal=True)
    except ValueError:
        return 0


class _Container:
    """The one container of a Pod manifest (protocol/50 3.4). Raises ApiError 400 for one that cannot be an ETL."""

    def __init__(self, message: InitMessage) -> None:
        self._name = message.name
        pod = self._parse(message.spec)
        containers = _list(_dict(pod.get("spec")).get("containers"))
        if len(containers) != 1:
            raise self._bad(f"unsupported number of containers ({len(containers)}), expected: 1")
        container = _dict(containers[0])
        ports = _list(container.get("ports"))
        if len(ports) != 1:
            raise self._bad(f"unsupported number of container ports ({len(ports)}), expected: 1")
        port = _dict(ports[0])
        name = self._text(port.get("name"))
        if name != _PORT_NAME:
            raise self._bad(f'expected port name: "{_PORT_NAME}", got: "{name}"')
        number = port.get("containerPort")
        self.port = number if isinstance(number, int) and 0 < number < 65536 else _PORT
        self.probe = self._probe(container)
        self.image = self._text(container.get("image"))
        if not self.image:
            raise self._bad("container image must be specified")
        self.command = tuple(map(self._text, _list(container.get("command"))))
        self.args = tuple(map(self._text, _list(container.get("args"))))
        self.env = {
            self._text(one.get("name")): self._text(one.get("value")) for one in map(_dict, _list(container.get("env")))
        }
        self.resources = _dict(container.get("resources"))
        annotations = _dict(_dict(pod.get("metadata")).get("annotations"))
        self.direct_put = parse_bool(self._text(annotations.get("support_direct_put")))

    def _parse(self, spec: str) -> dict[str, object]:
        import yaml

        if len(spec) > _SPEC_MAX:
            raise self._bad(f"the pod spec has {len(spec)} characters (at most {_SPEC_MAX})")
        text = ""
        try:
            text = base64.b64decode(spec, validate=True).decode()
            pod = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
            # Values with a tag that they do not fit, or dates that there are not, are no YAMLError.
            raise self._bad(f'failed to parse pod spec: {error}\n"{text[:4096]}"') from None
        if not isinstance(pod, dict) or pod.get("kind") != "Pod":
            raise self._bad(f'failed to parse pod spec: it is no Pod\n"{text[:4096]}"')
        return cast("dict[str, object]", pod)

    def _probe(self, container: dict[str, object]) -> str:
        if not container.get("readinessProbe"):
            raise self._bad("readinessProbe section is required in a container spec")
        get = _dict(_dict(container.get("readinessProbe")).get("httpGet"))
        if not get:
            raise self._bad("httpGet missing in the readinessProbe")
        path = self._text(get.get("path"))
        if not path:
            raise self._bad("expected non-empty path for readinessProbe")
        if get.get("port") != _PORT_NAME:
            raise self._bad(f'readinessProbe port must be the "{_PORT_NAME}" port')
        return path if path.startswith("/") else f"/{path}"

    def _text(self, value: object) -> str:
        """A value of a manifest as a variable has it; YAML's true is `true`."""
        if isinstance(value, (dict, list, set, tuple)):  # in which aliases may stand for any number of values
            raise self._bad("expected a text, and found a list or mapping")
        if isinstance(value, bool):
            return "true" if value else "false"
        try:
            return "" if value is None else str(value)
        except ValueError:  # a number of thousands of digits, written to another base
            raise self._bad("expected a text, and found a number that is too large") from None

    def _bad(self, text: str) -> ApiError:
        return ApiError(400, f'[etl="{self._name}"] {text}')


def _dict(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []
