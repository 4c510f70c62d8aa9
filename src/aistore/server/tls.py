"""The certificate that a server serves: read at its start, and again when its files have changed."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aistore.server.certificate import BadCertificate, read_certificate
from aistore.server.settings import SERVED, SettingsError
from aistore.server.store.sync import write_whole
from aistore.wire import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aistore.server.certificate import Certificate
    from aistore.server.settings import TlsFiles

__all__ = ["CaFile", "ServerTls", "open_tls", "trusting"]

logger = logging.getLogger("aistore.server.tls")

# Of TLS 1.2 what has forward secrecy and authenticates what it encrypts; 1.3 has nothing else.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
_LOOK_SECONDS: Final = 1.0
_DAY: Final = 86400.0
_SOON: Final = 30 * _DAY


class ServerTls:
    """Context and certificate, as `context()` and `certificate` give them now.

    Raises `SettingsError` for files that cannot be used, on construction and in `reload`, which keeps what there was.
    """

    def __init__(
        self, files: TlsFiles, *, show_in: Path | None = None, renew: Callable[[], None] | None = None
    ) -> None:
        """`show_in` is the data folder in which clients find the certificate; `renew` makes new files when it is time."""
        self.files = files
        self._show_in = show_in
        self._renew = renew
        self._warned = float("-inf")
        self.failed = ""
        """What went wrong last, and is tried again."""
        if renew is not None:
            renew()
        self._seen = self._stamp()
        self._context, self.certificate = self._load()
        self._show(self.certificate)

    def context(self) -> ssl.SSLContext:
        """For connections that begin now."""
        return self._context

    def reload(self) -> None:
        """Take over what the files have now; connections that are open stay as they are."""
        seen = self._stamp()
        try:
            context, certificate = self._load()
        except SettingsError:
            self._seen = seen  # it is no use to read them again before they change
            raise
        self._show(certificate)
        self._seen, self._context, self.certificate = seen, context, certificate
        self.failed = ""
        self._warned = float("-inf")
        logger.info("serving certificate %x of %s from now on", self.certificate.serial, self.certificate.subject)

    async def watch(self) -> None:
        """Reload when the files have changed, and warn each day before the certificate expires; for ever."""
        loop = asyncio.get_running_loop()
        before = self._seen
        while True:
            if self._renew is not None and self.expires_soon:
                await loop.run_in_executor(None, self._renew_it)
            self._warn()
            await asyncio.sleep(_LOOK_SECONDS)
            stamp = await loop.run_in_executor(None, self._stamp)
            # Only what has come to rest: certificate and key are written one after the other.
            if stamp != self._seen and stamp == before:
                self._reload_or_say_why()
            before = stamp

    def properties(self) -> dict[str, str]:
        """What `what=tls_certificate` tells (protocol/00 13.1)."""
        one = self.certificate
        return {
            "subject": one.subject,
            "issuer": one.issuer,
            "serial": f"{one.serial:x}",
            "version": str(one.version),
            "valid_from": _day(one.not_before),
            "valid_until": _day(one.not_after),
            "names": ", ".join(one.names),
            "warning": self.warning,
        }

    @property
    def expired(self) -> bool:
        """Whether clients refuse it now, unless they verify nothing."""
        return not self.certificate.not_before <= time.time() < self.certificate.not_after

    @property
    def expires_soon(self) -> bool:
        """Whether less than 30 days are left, or than a third of its time."""
        one = self.certificate
        return one.not_after - time.time() < min(_SOON, (one.not_after - one.not_before) / 3)

    @property
    def warning(self) -> str:
        """What is wrong with the certificate, or soon will be; empty if nothing is."""
        one = self.certificate
        if time.time() < one.not_before:
            return f"the certificate {self.files.cert} is valid from {_day(one.not_before)} on only"
        if self.expired:
            return f"the certificate {self.files.cert} has expired on {_day(one.not_after)}"
        if self.expires_soon:
            return f"the certificate {self.files.cert} expires on {_day(one.not_after)}"
        return ""

    def _warn(self) -> None:
        now = time.monotonic()
        if now - self._warned >= _DAY and (warning := self.warning):
            self._warned = now
            logger.warning("%s", warning)

    def _renew_it(self) -> None:
        assert self._renew is not None
        try:
            self._renew()
        except (OSError, ValueError) as error:
            self._say_once("no new certificate: %s", error)

    def _reload_or_say_why(self) -> None:
        try:
            self.reload()
        except (OSError, SettingsError) as error:
            self._say_once("the certificate of before is served on: %s", error)

    def _say_once(self, what: str, error: Exception) -> None:
        """What is tried again each second is not told each second."""
        if str(error) != self.failed:
            self.failed = str(error)
            logger.error(what, error)

    def _stamp(self) -> tuple[object, ...]:
        """What changes with the files."""
        return tuple(_state(path) for path in (self.files.cert, self.files.key, self.files.client_ca) if path)

    def _load(self) -> tuple[ssl.SSLContext, Certificate]:
        files = self.files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        certificate = _read(files.cert)

        def no_password() -> str:
            raise SettingsError(
                f"the key {files.key} is encrypted, and nobody is there to ask: use one without a password"
            )

        try:
            context.load_cert_chain(files.cert, files.key, no_password)
        except OSError as error:
            raise SettingsError(_why(files, error)) from error
        if files.asks_clients:
            try:
                context.load_verify_locations(files.client_ca)
            except OSError as error:
                raise SettingsError(f"the CA of clients, {files.client_ca}, cannot be used: {_words(error)}") from error
            context.verify_mode = ssl.CERT_REQUIRED if files.demands else ssl.CERT_OPTIONAL
        return context, certificate

    def _show(self, certificate: Certificate) -> None:
        if self._show_in is None:
            return
        shown = self._show_in / SERVED
        shown.parent.mkdir(mode=0o700, exist_ok=True)
        write_whole(shown, ssl.DER_cert_to_PEM_cert(certificate.der).encode())


def open_tls(files: TlsFiles, data_dir: Path, names: Iterable[str], *, primary: bool = True) -> ServerTls:
    """What a server serves; one of its own making is made first, for these names. The `primary` process of a data folder makes it, and
    shows there what is served.
    """
    from aistore.server.self_signed import make_files

    if not primary:
        return ServerTls(files)
    renew = partial(make_files, data_dir, tuple(names)) if files.self_signed else None
    return ServerTls(files, show_in=data_dir, renew=renew)


def trusting(ca: str = "") -> ssl.SSLContext:
    """For connections to other servers: they are verified with the certificates in file `ca`, else in that of `AIS_CLIENT_CA`, else as the
    system does. Raises `SettingsError` for a file that cannot be used.
    """
    bundle = ca or os.environ.get(environment.CLIENT_CA) or None
    try:
        return ssl.create_default_context(cafile=bundle)
    except OSError as error:
        raise SettingsError(f"the CA {bundle} cannot be used: {_words(error)}") from error


class CaFile:
    """Whom connections to other servers trust, as `trusting` says; its file is read again when it has changed."""

    __slots__ = ("_ca", "_context", "_seen")

    def __init__(self, ca: str = "") -> None:
        self._ca = ca
        self._context: ssl.SSLContext | None = None
        self._seen: object = None

    def context(self) -> ssl.SSLContext:
        """For connections that begin now. Raises `SettingsError` for a file that cannot be used."""
        path = self._ca or os.environ.get(environment.CLIENT_CA)
        seen = _state(path) if path else None
        if self._context is None or seen != self._seen:
            self._context, self._seen = trusting(self._ca), seen
        return self._context


def _read(path: str) -> Certificate:
    try:
        return read_certificate(Path(path).read_text(encoding="ascii", errors="replace"))
    except BadCertificate as error:
        raise SettingsError(f"{path} cannot be used as certificate: {error}") from error
    except OSError as error:
        raise SettingsError(f"the certificate {path} cannot be read: {_words(error)}") from error


def _why(files: TlsFiles, error: OSError) -> str:
    if not isinstance(error, ssl.SSLError):
        return f"the key {files.key} cannot be read: {_words(error)}"
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"the key {files.key} does not belong to the certificate {files.cert}"
    if files.key == files.cert:
        return f"{files.cert} has no key that can be used: name the file of the key as tls_key ({_words(error)})"
    return f"the certificate {files.cert} or the key {files.key} cannot be used: {_words(error)}"


def _words(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "it is not in PEM form").lower().replace("_", " ")
    return (error.strerror or str(error)).lower()


def _state(path: str) -> object:
    try:
        status = Path(path).stat()
    except OSError as error:
        return error.errno
    return status.st_mtime_ns, status.st_size, status.st_ino


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
