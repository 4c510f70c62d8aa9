"""Loading TLS certificates again without a restart (protocol/00 15.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.server.settings import SettingsError
from aistore.wire import actions
from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from aistore.server.node import Node
    from aistore.server.tls import ServerTls

__all__ = ["load_certificate", "load_certificates", "tls_of"]


def tls_of(node: Node) -> ServerTls:
    """The certificate of a node. Raises `ApiError` 404 where it speaks plain HTTP."""
    if node.tls is None:
        raise ApiError(404, f"{node.name}: no TLS certificate is loaded", "ErrNotFound")
    return node.tls


async def load_certificates(node: Node, one: str) -> None:
    """Have the nodes of the cluster, or `one` of them, read their files again. Raises `ApiError` 404, and 500 for files that cannot be used."""
    if one and one != node.gateway_id and not node.smap.has_target(one):
        text = f"node {one[:64]} not present in Smap v{node.smap.version}"
        raise ApiError(404, f"{node.gateway_name}: {text}", "errNodeNotFound")
    if one in ("", node.gateway_id, node.target_id):
        await load_certificate(node)
    for target, url in node.smap.targets.items():
        if target != node.target_id and one in ("", target):
            tls_of(node)
            reply = await node.ask(url, "PUT", f"/v1/daemon/{actions.LOAD_CERTIFICATE}")
            if reply.status != 200:
                text = reply.body.decode(errors="replace") if isinstance(reply.body, bytes) else ""
                raise ApiError(
                    500, f"t[{target}] goes on with the certificate of before: {text[:500] or 'it does not answer'}"
                )


async def load_certificate(node: Node) -> None:
    """Have this process read its files again."""
    try:
        tls_of(node).reload()
    except SettingsError as error:
        raise ApiError(500, f"{node.name} goes on with the certificate of before: {error}") from None
