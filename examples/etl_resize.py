"""Handwritten digits at another size: images are resized where they are stored; with FastAPI and Pillow.

    pip install "aistore-py[etl]" Pillow scikit-learn
    python examples/etl_resize.py [WIDTHxHEIGHT]

The example fills a bucket of the cluster at AIS_ENDPOINT, or of one of its own.
"""

from __future__ import annotations

import io
import os
import sys
import time
from typing import TYPE_CHECKING

from aistore import Client, LocalCluster
from aistore.sdk.etl import ETLConfig
from aistore.sdk.etl.webserver.fastapi_server import FastAPIServer

if TYPE_CHECKING:
    from aistore.sdk import Bucket

IMAGES = 200


class Resize(FastAPIServer):
    """An image at the size that the arguments of the request ask for, else at that of the transformer (`SIZE`)."""

    def __init__(self) -> None:
        super().__init__()
        self.size = os.environ.get("SIZE", "32x32")

    def transform(self, data: bytes | str, path: str, etl_args: str) -> bytes:
        import io

        from PIL import Image

        width, _, height = (etl_args or self.size).partition("x")
        resized = io.BytesIO()
        with Image.open(io.BytesIO(data)) as image:
            image.resize((int(width), int(height))).save(resized, "PNG")
        return resized.getvalue()

    def get_mime_type(self) -> str:
        return "image/png"


def store_digits(bucket: Bucket) -> None:
    """Some of scikit-learn's digits as PNG objects, named by their labels."""
    import numpy
    from PIL import Image
    from sklearn.datasets import load_digits

    found = load_digits()
    for number in range(IMAGES):
        png = io.BytesIO()
        Image.fromarray((found.images[number] * (255 / 16)).astype(numpy.uint8)).save(png, "PNG")
        bucket.object(f"{found.target[number]}/{number:04}.png").get_writer().put_content(png.getvalue())


def size_of(content: bytes) -> tuple[int, int]:
    """Width and height of an image."""
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        return image.size


def resize(client: Client, size: str) -> None:
    """Resize all of a bucket into another one, and one image while it is read."""
    source, target = client.bucket("digits").create(exist_ok=True), client.bucket(f"digits-{size}")
    store_digits(source)
    with client.etl("etl-example-resize") as etl:
        etl.init_class(dependencies=["Pillow"], SIZE=size)(Resize)
        began = time.perf_counter()
        job = source.transform(etl.name, target, cont_on_err=True)
        result = client.job(job).wait(verbose=False)
        took = time.perf_counter() - began
        for failure in etl.view(job).obj_errors or ():
            print(f"{failure.obj_name}: {failure.msg}", file=sys.stderr)
        first = next(iter(source.list_all_objects_iter()))
        large = first.get_reader(etl=ETLConfig(etl.name, "64x48")).read_all()
    sizes = {size_of(obj.get_reader().read_all()) for obj in target.list_all_objects_iter()}
    count = len(target.list_all_objects())
    print(f"{count} images of {size_of(first.get_reader().read_all())} resized to {sizes} in {took:.2f} s")
    print(f"{first.name} read at {size_of(large)}")
    if not result.success:
        sys.exit(result.error)


def main(arguments: list[str]) -> None:
    """Run the example."""
    size = arguments[0] if arguments else "32x32"
    if os.environ.get("AIS_ENDPOINT"):
        resize(Client(), size)
    else:
        with LocalCluster() as cluster:
            resize(cluster.client(), size)


if __name__ == "__main__":
    main(sys.argv[1:])
