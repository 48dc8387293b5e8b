"""A small object store on loopback: objects by key, and an HTTP status for those that cannot be had."""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


def client_of(port: int) -> dict[str, str]:
    """The environment of a client of an S3 server on this machine."""
    return {
        "AWS_ACCESS_KEY_ID": "AKIAQASIR", "AWS_SECRET_ACCESS_KEY": "not-a-secret",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip


class Bucket:
    """A running store's address, and the keys and ranges that it was asked for."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: list[str] = []
        self.ranges: list[str] = []

    @property
    def environment(self) -> dict[str, str]:
        return client_of(self.port)


@contextmanager
def bucket_server(objects: Mapping[str, bytes | int]) -> Iterator[Bucket]:
    """Serves the bucket `bucket`. An object is its bytes, or the status that it is refused with."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            address = urlsplit(self.path)
            key = unquote(address.path).removeprefix("/bucket").lstrip("/")
            if not key:
                self._list(parse_qs(address.query).get("prefix", [""])[0])
                return
            bucket.asked.append(key)
            found = objects.get(key, 404)
            if isinstance(found, int):
                self._say(found, b"")
            elif asked := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
                bucket.ranges.append(asked[0])
                self._say(206, found[int(asked[1]) : int(asked[2]) + 1])
            else:
                self._say(200, found)

        def _list(self, prefix: str) -> None:
            listed = [(key, found) for key, found in sorted(objects.items()) if isinstance(found, bytes)]
            listed = [(key, found) for key, found in listed if key.startswith(prefix)]
            entries = "".join(
                f"<Contents><Key>{escape(key)}</Key><Size>{len(found)}</Size>"
                "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                for key, found in listed
            )
            counts = f"<KeyCount>{len(listed)}</KeyCount><IsTruncated>false</IsTruncated>"
            self._say(200, f"<ListBucketResult>{counts}{entries}</ListBucketResult>".encode())

        def _say(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.send_header("ETag", '"1"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_GET = do_HEAD = _answer  # noqa: N815

        def log_message(self, *args): ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        bucket = Bucket(server.server_port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield bucket
        server.shutdown()
