"""XML of the S3 endpoint: what it answers, and a strict reader of what it is sent.

Input is hostile: its size is bounded by who reads it, a document type (and with it every entity of its own) is refused, and depth and
number of elements are bounded.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from xml.parsers import expat

from aistore.http1.message import Reply
from aistore.server.store.content import in_thread
from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.http1.server import Request

__all__ = ["XML", "Element", "document", "element", "leaf", "malformed", "parse", "read_document", "xml_reply"]

XML: Final = "application/xml"

_HEAD: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
_NAMESPACE: Final = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_DOCUMENT_MAX: Final = 8 << 20  # 10,000 parts with a checksum each
_INLINE: Final = 32 << 10  # longer ones are parsed in a thread
_DEPTH_MAX: Final = 16
_ELEMENTS_MAX: Final = 200_000
_TEXT_MAX: Final = 16 << 10
_TAG_MAX: Final = 128 << 10  # and the text behind it, however it is escaped

_ESCAPES: Final = {
    **dict.fromkeys((*range(32), *range(55296, 57344), 65534, 65535), "�"),  # not allowed in XML 1.0
    **{ord(char): f"&#x{ord(char):X};" for char in "\t\n\r"},
    ord("&"): "&amp;",
    ord("<"): "&lt;",
    ord(">"): "&gt;",
    ord('"'): "&#34;",
    ord("'"): "&#39;",
}
_special: Final = re.compile("[\\x00-\\x1f&<>\"'\ud800-\udfff\ufffe\uffff]").search


def element(name: str, *content: str) -> str:
    """An element with elements in it."""
    return f"<{name}>{''.join(content)}</{name}>"


def leaf(name: str, text: str | int) -> str:
    """An element with a text in it, escaped."""
    value = str(text)
    return f"<{name}>{value.translate(_ESCAPES) if _special(value) else value}</{name}>"


def document(name: str, *content: str, namespace: bool = True) -> bytes:
    """A whole document whose outermost element has this name."""
    return f"{_HEAD}<{name}{_NAMESPACE if namespace else ''}>{''.join(content)}</{name}>".encode()


def xml_reply(name: str, *content: str, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    """An answer with a document."""
    return Reply(200, [("Content-Type", XML), *headers], document(name, *content))


class Element:
    """An element that was read; namespaces are dropped from names."""

    __slots__ = ("children", "name", "text")

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = ""
        self.children: list[Element] = []

    def all(self, name: str) -> Iterator[Element]:
        """The elements of this name in it."""
        return (child for child in self.children if child.name == name)

    def value(self, name: str) -> str | None:
        """The text of the first element of this name in it, or None."""
        return next((child.text for child in self.all(name)), None)


def parse(data: bytes, outermost: str) -> Element:
    """Read a document whose outermost element has this name. Raises `ApiError` 400."""
    root = Element("")
    path = [root]
    count = 0

    def start(name: str, _: dict[str, str]) -> None:
        nonlocal count
        count += 1
        if len(path) > _DEPTH_MAX or count > _ELEMENTS_MAX:
            raise malformed("it is nested too deeply or has too many elements")
        made = Element(name.rpartition(":")[2])
        path[-1].children.append(made)
        path.append(made)

    def end(_: str) -> None:
        path.pop()

    def characters(text: str) -> None:
        path[-1].text += text
        if len(path[-1].text) > _TEXT_MAX:
            raise malformed("an element is too long")

    def doctype(*_: object) -> None:
        raise malformed("document types are not accepted")

    if b"\0" in data:  # UTF-16, in which a `<` may be a part of a character
        raise malformed("it is not UTF-8")
    _check_tags(data)
    parser = expat.ParserCreate("UTF-8")  # whatever the document says
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = characters
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise malformed(str(error)) from None
    if root.children[0].name != outermost:
        raise malformed(f"expecting <{outermost}>, got <{root.children[0].name[:64]}>")
    return root.children[0]


def _check_tags(data: bytes) -> None:
    # A tag is one step of the parser, in which nothing else of the process runs, and its attributes may be hundreds of thousands.
    at = 0
    while len(data) - at > _TAG_MAX:
        found = data.rfind(b"<", at, at + _TAG_MAX)
        if found < 0:
            raise malformed("an element is too long")
        at = found + 1


async def read_document(request: Request, outermost: str) -> Element:
    """The document that a request carries. Raises `ApiError` 400, `BodyTooLong`."""
    data = await request.read(_DOCUMENT_MAX)
    return parse(data, outermost) if len(data) <= _INLINE else await in_thread(parse, data, outermost)


def malformed(why: str) -> ApiError:
    """The refusal of a document."""
    return ApiError(400, f"the XML in the request is not well-formed or not what is expected: {why}", "MalformedXML")
