"""Whom to trust over TLS, and as whom to appear."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import ssl

__all__ = ["TlsConfig"]


class TlsConfig(NamedTuple):
    """Paths of PEM files, so that it pickles: `ca` verifies servers (the system's trust store by default, or the file or folder that
    `REQUESTS_CA_BUNDLE` names), `cert` and `key` are shown to them (`key` may lie in the file of `cert`). `verify=False` trusts anybody.
    With `pinned` only whoever has the certificate in that file is trusted, whatever name it is reached by: a server of this machine says
    so in its data folder.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    verify: bool = True
    pinned: str | None = None

    def context(self) -> ssl.SSLContext:
        """The context for connections; `FileNotFoundError` for a missing file, `ssl.SSLError` for one that is no PEM or does
        not fit, with its name.
        """
        import ssl
        from pathlib import Path

        bundle = self.ca or os.environ.get("REQUESTS_CA_BUNDLE") or None
        if self.pinned is not None:
            bundle = self.pinned
        for path in (bundle if self.verify else None, self.cert, self.key):
            if path is not None and not Path(path).exists():
                raise FileNotFoundError(errno.ENOENT, "no such certificate or key file", path)
        if not self.verify:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif bundle is None:
            context = ssl.create_default_context()
        elif Path(bundle).is_dir():
            context = ssl.create_default_context(capath=bundle)
        else:
            try:
                context = ssl.create_default_context(cafile=bundle)
            except ssl.SSLError as error:
                raise _bad(error, f"the CA {bundle}") from error
        if self.verify and self.pinned is not None:
            context.check_hostname = False
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.set_alpn_protocols(["http/1.1"])
        if self.cert is not None:
            try:
                context.load_cert_chain(self.cert, self.key)
            except ssl.SSLError as error:
                raise _bad(
                    error, f"the client certificate {self.cert}, or its key {self.key or 'in the same file'},"
                ) from error
        return context


def _bad(error: ssl.SSLError, what: str) -> ssl.SSLError:
    why = (error.reason or "it is not in PEM form").lower().replace("_", " ")
    return type(error)(error.errno, f"{what} cannot be used: {why}")
