"""Names of what servers and transformers say to each other (protocol/50 6), beyond the query parameters in `params`."""

from __future__ import annotations

from typing import Final

__all__ = [
    "DIRECT_PUT_LENGTH",
    "DIRECT_PUT_TRANSIENT",
    "FQN",
    "KEY",
    "KEY_PARAM",
    "KEY_VARIABLE",
    "NODE_URL",
    "RETRY_REASON",
    "WS_ARGS",
    "WS_FQN",
    "WS_PATH",
    "WS_PIPELINE",
]

FQN: Final = "etl_fqn"
"""Query parameter: path of a file to transform instead of a body; escaped as a path first, and then as a value."""

NODE_URL: Final = "Ais-Node-Url"
"""Header: where the result goes, hops separated by commas: further stages, at last perhaps the target that stores it."""

KEY: Final = "Ais-Etl-Key"
KEY_PARAM: Final = "etl_key"
KEY_VARIABLE: Final = "AIS_ETL_KEY"
"""Of ours alone: header, or query parameter of a further stage's URL, that shows that a request is of the server that has started the transformer; and the
variable that tells the transformer which it is."""

DIRECT_PUT_LENGTH: Final = "Ais-Direct-Put-Length"
"""Header of a 204: how many bytes went to the hop."""

RETRY_REASON: Final = "Ais-Etl-Retry-Reason"
DIRECT_PUT_TRANSIENT: Final = "direct-put-transient"
"""Header and value of a 503 that says: the hop failed, the body is gone, send it again."""

# Members of the message before each object over WebSocket
WS_PIPELINE: Final = "pipeline"
WS_ARGS: Final = "etl_args"
WS_FQN: Final = "fqn"
WS_PATH: Final = "path"
