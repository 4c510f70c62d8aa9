"""GetBatch, blocking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

from aistore.calls.batch_formats import Cut
from aistore.calls.batch_handle import BatchHandle, ref_of
from aistore.sdk.batch.errors import MultipartDecodeError
from aistore.sdk.enums import Colocation
from aistore.sdk.errors import AISError
from aistore.transport.errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from aistore.calls.batch_delivery import Delivery, Item
    from aistore.sdk._response import RawStream
    from aistore.sdk.bucket import Bucket
    from aistore.sdk.obj.object import Object
    from aistore.sdk.request_client import RequestClient
    from aistore.transport.response import Response

__all__ = ["Batch"]


class Batch(BatchHandle):
    """Reads many objects, ranges and members of archives in one request, in the order in which they were added.

    `objects` are names in `bucket`, or `Object`s of any bucket. `output_format` is the archive in which they travel: `.tar`, `.tgz`, `.tar.gz`
    or `.zip`. With `cont_on_err` an entry that is missing comes without content and with `err_msg`; without, it ends the batch.
    `only_obj_name` leaves the bucket out of the names in the archive. With `streaming_get` entries come as soon as they are read;
    otherwise the server reads all of them before it answers. Raises ValueError for what cannot be.

    >>> for info, content in client.batch(["a.jpg", "b.jpg"], bucket=bucket).get():
    ...     print(info.obj_name, len(content))
    """

    __slots__ = ("_client",)

    def __init__(
        self,
        request_client: RequestClient,
        objects: list[Object] | Object | str | list[str] | None = None,
        bucket: Bucket | None = None,
        output_format: str = ".tar",
        cont_on_err: bool = True,
        only_obj_name: bool = False,
        streaming_get: bool = True,
        colocation: Colocation = Colocation.NONE,
    ) -> None:
        self._client = request_client
        super().__init__(ref_of(bucket), objects, output_format, cont_on_err, only_obj_name, streaming_get, colocation)

    @overload
    def get(
        self,
        raw: Literal[True],
        decode_as_stream: bool = False,
        clear_batch: bool = True,
        *,
        tar_buffer_size: int | None = None,
    ) -> RawStream: ...

    @overload
    def get(
        self,
        raw: Literal[False] = False,
        decode_as_stream: bool = False,
        clear_batch: bool = True,
        *,
        tar_buffer_size: int | None = None,
    ) -> Iterator[Item]: ...

    def get(
        self,
        raw: bool = False,
        decode_as_stream: bool = False,  # noqa: ARG002  official; answers are always taken apart as they come
        clear_batch: bool = True,
        *,
        tar_buffer_size: int | None = None,
    ) -> Iterator[Item] | RawStream:
        """Send the request now, and iterate over the entries: `(MossOut, bytes)` each, in order, one for every entry.

        With `raw` the answer as it comes: a binary file, the archive, or a multipart document if the batch is not streamed. The batch is
        empty afterwards unless `clear_batch` is False; a request that fails leaves it as it is. `tar_buffer_size` is accepted, and what
        has arrived is taken apart at once whatever it is.

        Raises ValueError for an empty batch, and what the cluster refuses. Iterating: an answer that breaks off is not the end; what has
        not come is asked for again, and if it cannot be had `BatchIncomplete` names it. `RuntimeError` for a damaged archive,
        `MultipartDecodeError` for an answer that should be multipart and is not.
        """
        delivery = self._delivery(raw, tar_buffer_size)
        answer = self._client.fetch(delivery.request())
        try:
            if raw:
                from aistore.sdk._response import RawStream

                result: Iterator[Item] | RawStream = RawStream(answer)
            else:
                delivery.begin(answer)
                result = _started(_deliver(self._client, delivery, answer))
        except BaseException:
            answer.close()
            raise
        if clear_batch:
            self.clear()
        return result


def _deliver(client: RequestClient, delivery: Delivery, answer: Response) -> Generator[Item, None, None]:
    """The entries, from one answer after another until all are there. The first `next` starts it and yields nothing yet (see `_started`)."""
    try:
        yield None  # type: ignore[misc]  # taken by _started
        while True:
            try:
                while piece := answer.read_some():
                    yield from delivery.feed(piece)
                yield from delivery.end()
            except (TransportError, Cut) as error:
                if delivery.is_complete:
                    return
                answer.close()
                answer = _ask_again(client, delivery, error)
            else:
                return
    finally:
        answer.close()


def _started(items: Generator[Item, None, None]) -> Generator[Item, None, None]:
    """Have a generator reach its `try`: one that is dropped before it has begun would not close its answer."""
    next(items)
    return items


def _ask_again(client: RequestClient, delivery: Delivery, error: Exception) -> Response:
    """The answer with what has not come yet. Raises `BatchIncomplete`."""
    request = delivery.again(error)
    try:
        answer = client.fetch(request)
        delivery.begin(answer)
    except (AISError, TransportError, MultipartDecodeError) as refusal:
        raise delivery.incomplete(refusal) from refusal
    return answer
