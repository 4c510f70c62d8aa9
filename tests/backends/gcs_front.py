"""What stands in front of the emulator of Google Cloud Storage: uploads by the XML interface become such as it takes.

The emulator takes uploads by the JSON interface only; clients, obstore among them, use the other one. All else is passed on as it is.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

__all__ = ["GcsFront"]

_METADATA = "x-goog-meta-"


class GcsFront:
    """A server on loopback that passes on to `address`, for as long as the `with` block."""

    def __init__(self, address: str) -> None:
        self._to = address
        self._lock = threading.Lock()
        self._uploads: dict[str, dict[int, bytes]] = {}
        self._metadata: dict[str, dict[str, str]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> GcsFront:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                front._answer(self)

            do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = answer

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        bucket, _, name = unquote(parts.path).lstrip("/").partition("/")
        metadata = {
            key[len(_METADATA) :].lower(): value
            for key, value in request.headers.items()
            if key.lower().startswith(_METADATA)
        }
        method = request.command
        if method == "POST" and "uploads" in query:
            upload = uuid.uuid4().hex
            with self._lock:
                self._uploads[upload], self._metadata[upload] = {}, metadata
            xml = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            self._send(request, 200, xml.encode())
        elif method == "PUT" and "uploadId" in query:
            with self._lock:
                self._uploads[query["uploadId"][0]][int(query["partNumber"][0])] = body
            self._send(request, 200, b"", {"ETag": f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'})
        elif method == "POST" and "uploadId" in query:
            with self._lock:
                stored = self._uploads.pop(query["uploadId"][0])
                metadata = self._metadata.pop(query["uploadId"][0])
            etag = self._store(bucket, name, b"".join(stored[number] for number in sorted(stored)), metadata)
            xml = f"<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>"
            self._send(request, 200, xml.encode())
        elif method == "DELETE" and "uploadId" in query:
            with self._lock:
                self._uploads.pop(query["uploadId"][0], None)
            self._send(request, 204, b"")
        elif method == "PUT" and name:
            self._send(request, 200, b"", {"ETag": f'"{self._store(bucket, name, body, metadata)}"'})
        else:
            self._pass_on(request, body)

    def _store(self, bucket: str, name: str, content: bytes, metadata: dict[str, str]) -> str:
        """Upload by the JSON interface; the entity tag."""
        boundary = uuid.uuid4().hex
        about = json.dumps({"name": name, "metadata": metadata}).encode()
        body = b"".join(
            b"--%s\r\nContent-Type: %s\r\n\r\n%s\r\n" % (boundary.encode(), kind, part)
            for kind, part in ((b"application/json", about), (b"application/octet-stream", content))
        )
        target = f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart&name={quote(name, safe='')}"
        connection = http.client.HTTPConnection(self._to, timeout=60)
        try:
            connection.request(
                "POST",
                target,
                body + b"--%s--\r\n" % boundary.encode(),
                {"Content-Type": f"multipart/related; boundary={boundary}"},
            )
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 200, text
            etag: str = json.loads(text)["etag"]
            return etag.strip('"')
        finally:
            connection.close()

    def _pass_on(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        connection = http.client.HTTPConnection(self._to, timeout=60)
        try:
            # The emulator goes by the host that a request names.
            headers = {key: value for key, value in request.headers.items() if key.lower() != "host"}
            connection.request(request.command, request.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            skipped = {"transfer-encoding", "content-length", "connection"}
            lines = {key: value for key, value in answer.getheaders() if key.lower() not in skipped}
            length = answer.headers["Content-Length"] if request.command == "HEAD" else None
            self._send(request, answer.status, content, lines, length)
        finally:
            connection.close()

    @staticmethod
    def _send(
        request: BaseHTTPRequestHandler,
        status: int,
        content: bytes,
        lines: dict[str, str] | None = None,
        length: str | None = None,
    ) -> None:
        request.send_response_only(status)
        for key, value in (lines or {}).items():
            request.send_header(key, value)
        request.send_header("Content-Length", length or str(len(content)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content)
