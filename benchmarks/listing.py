"""Measures listing: files of a folder and rows of a manifest, local and on a store that takes its time to answer.

python benchmarks/listing.py [--files 20000] [--delay-ms 20]

The store is an S3 server on loopback in a process of its own, which waits before each answer and gives 1,000 keys a
page; its client is the one that jobs use. Printed are rows a second, and how long a million take at that rate.
"""

import asyncio
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

import pyarrow.fs as fs
import typer

from qasir.video.corpus import list_videos
from qasir.video.lookup import THREADS, look_up
from qasir.video.manifest import Named

PAGE = 1000
_IN_TURN = 300
"""Rows that are enough to time one after the other."""


def main(
    files: Annotated[int, typer.Option(help="Files in the folder, objects in the store.")] = 20_000,
    delay_ms: Annotated[float, typer.Option(help="How long the store takes to answer.")] = 20.0,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        local(Path(folder), files)
    port = multiprocessing.get_context("spawn").Value("i", 0)
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(port, files, delay_ms / 1000))
    server.start()
    while not port.value:
        time.sleep(0.01)
    try:
        store(int(port.value), files, delay_ms)
    finally:
        server.terminate()


def local(folder: Path, n: int) -> None:
    """n files in folders of a thousand."""
    names = [f"{i // 1000:04}/clip_{i:07}.mp4" for i in range(n)]
    for start in range(0, n, 1000):
        (folder / names[start]).parent.mkdir()
    for name in names:
        (folder / name).touch()
    manifest = folder / "manifest.csv"
    manifest.write_text("uri\n" + "\n".join(names) + "\n")
    timed("a local folder", n, lambda: list_videos(str(folder)).videos)
    timed("a local manifest", n, lambda: list_videos(str(manifest)).videos)


def store(port: int, n: int, delay_ms: float) -> None:
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_REGION": "us-east-1",
    }  # fmt: skip
    print(f"a store that answers in {delay_ms:g} ms:")
    named = [Named(f"s3://bucket/{key(i)}", key(i)) for i in range(n)]
    timed("  one file system a row, in turn", _IN_TURN, lambda: [opened_and_looked_up(v.uri) for v in named[:_IN_TURN]])
    for threads in (1, 8, THREADS, 2 * THREADS):
        some = named if threads > 1 else named[:_IN_TURN]
        timed(f"  rows of a manifest, {threads} at once", len(some), partial(look_up, some, threads=threads))
    timed("  a folder, 1,000 keys a page", n, lambda: list_videos("s3://bucket/v").videos)


def opened_and_looked_up(uri: str) -> fs.FileInfo:
    filesystem, path = fs.FileSystem.from_uri(uri)
    return filesystem.get_file_info(path)


def timed(what: str, n: int, run: Callable[[], Sequence[object]]) -> None:
    since = time.perf_counter()
    assert len(run()) == n
    rate = n / (time.perf_counter() - since)
    print(f"{what:36} {rate:10,.0f} rows a second; a million in {1e6 / rate / 60:8.1f} minutes", flush=True)


# The store


def key(number: int) -> str:
    return f"v/clip_{number:07}.mp4"


def serve(port: "multiprocessing.sharedctypes.Synchronized[int]", n: int, delay_s: float) -> None:
    asyncio.run(_serve(port, n, delay_s))


async def _serve(port: "multiprocessing.sharedctypes.Synchronized[int]", n: int, delay_s: float) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(delay_s)
                writer.write(_answer(head.split(b" ", 2)[1].decode(), n))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1000)
    port.value = server.sockets[0].getsockname()[1]
    await server.serve_forever()


def _answer(target: str, n: int) -> bytes:
    address = urlsplit(target)
    if address.path.rstrip("/") == "/bucket":
        query = parse_qs(address.query)
        return _response(_page(int(query.get("continuation-token", ["0"])[0]), n))
    if address.path == "/bucket/v":
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    return _response(b"", length=12_345)


def _response(body: bytes, length: int | None = None) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body) if length is None else length}\r\n"
    return head.encode() + b'Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nETag: "1"\r\n\r\n' + body


def _page(start: int, n: int) -> bytes:
    stop = min(n, start + PAGE)
    entries = "".join(
        f"<Contents><Key>{key(i)}</Key><Size>12345</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        for i in range(start, stop)
    )
    more = f"<NextContinuationToken>{stop}</NextContinuationToken>" if stop < n else ""
    cut = "true" if more else "false"
    counts = f"<KeyCount>{stop - start}</KeyCount><IsTruncated>{cut}</IsTruncated>{more}"
    return f"<ListBucketResult>{counts}{entries}</ListBucketResult>".encode()


if __name__ == "__main__":
    typer.run(main)
