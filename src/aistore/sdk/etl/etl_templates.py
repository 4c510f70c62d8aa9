"""Manifests of pods for `Etl.init_spec`, one for each ready-made transformer (protocol/50 12); fill in with `str.format`.

Deprecated with `Etl.init_spec`: `Etl.init` takes the image and its variables.
"""

from __future__ import annotations

__all__ = [
    "COMPRESS",
    "ECHO",
    "FACE_DETECTION_TRANSFORMER",
    "FFMPEG",
    "GO_ECHO",
    "GO_HELLO_WORLD",
    "HASH",
    "HELLO_WORLD",
    "KERAS_TRANSFORMER",
    "MD5",
    "TAR2TF",
    "TORCHVISION_TRANSFORMER",
]


def _manifest(image: str, variables: dict[str, str] | None = None, args: list[str] | None = None) -> str:
    """A pod of one container, as clusters want it (protocol/50 3.4); values of `variables` may be placeholders."""
    lines = [
        "apiVersion: v1",
        "kind: Pod",
        "metadata:",
        f"  name: transformer-{image.replace('_', '-')}",
        "  annotations:",
        '    communication_type: "{communication_type}://"',
        "    wait_timeout: 5m",
        "spec:",
        "  containers:",
        "    - name: server",
        f"      image: aistorage/transformer_{image}:latest",
        "      imagePullPolicy: Always",
        "      ports:",
        "        - name: default",
        "          containerPort: 8000",
        "      readinessProbe:",
        "        httpGet:",
        "          path: /health",
        "          port: default",
    ]
    if args:
        lines += ["      args:", *(f"        - '{arg}'" for arg in args)]
    if variables:
        lines.append("      env:")
        for name, value in variables.items():
            lines += [f"        - name: {name}", f"          value: '{value}'"]
    return "\n".join(lines) + "\n"


ECHO = _manifest("echo")
GO_ECHO = _manifest("echo_go")
HELLO_WORLD = _manifest("hello_world", {"ARG_TYPE": "{arg_type}"})
GO_HELLO_WORLD = _manifest("hello_world_go")
MD5 = _manifest("md5")
HASH = _manifest("hash_with_args")
COMPRESS = _manifest("compress", {"COMPRESS_OPTIONS": "{compress_options}"})
FFMPEG = _manifest("ffmpeg", {"FFMPEG_OPTIONS": "{ffmpeg_options}"})
TAR2TF = _manifest("tar2tf", args=["{arg}", "{val}"])
TORCHVISION_TRANSFORMER = _manifest("torchvision", {"FORMAT": "{format}", "TRANSFORM": "{transform}"})
KERAS_TRANSFORMER = _manifest(
    "keras_preprocess", {"FORMAT": "{format}", "TRANSFORM": "{transform}", "ARG_TYPE": "{arg_type}"}
)
FACE_DETECTION_TRANSFORMER = _manifest("face_detection", {"FORMAT": "{format}", "ARG_TYPE": "{arg_type}"})
