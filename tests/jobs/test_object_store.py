"""Videos and index on an S3 server (moto's, on loopback) work as local paths do."""

import io
import json
import os
import socket
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import pyarrow.fs
import pytest

from qasir.index.index import Index
from qasir.video import opening as source
from qasir.video.container import Clock, Video
from tests.videos import write_video

KEY, SECRET = "AKIAQASIR", "not-a-secret"


@pytest.fixture(scope="module")
def s3():
    """The environment of a client of the server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("moto_server")), "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield {
        "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true",
        "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    server.terminate()
    server.wait()


def job(name, environment, *args):
    done = subprocess.run(
        [sys.executable, "-m", f"jobs.{name}", *args, "--json"],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = done.stdout.strip().splitlines()
    return done.returncode, json.loads(lines[-1]) if done.returncode == 0 and lines else None, done.stderr


def test_encode_reindex_and_search_on_s3(s3, tmp_path, monkeypatch):
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    store = pyarrow.fs.S3FileSystem(endpoint_override=s3["AWS_ENDPOINT_URL"], allow_bucket_creation=True)
    store.create_dir("bucket")
    write_video(tmp_path / "videos" / "a.mp4", 30)
    write_video(tmp_path / "videos" / "more" / "b.mkv", 25)
    (tmp_path / "videos" / "bad.mp4").write_bytes(b"nothing")
    pyarrow.fs.copy_files(str(tmp_path / "videos"), "bucket/videos", destination_filesystem=store)
    where = ("--videos", "s3://bucket/videos", "--index", "s3://bucket/index")
    status, facts, error = job("encode_corpus", s3, *where, "--grid", "2", "--fps", "2")
    assert status == 0, error
    assert (status, facts["encoded"], facts["failures_by_kind"]) == (0, 2, {"not_a_video": 1})
    index = Index.open("s3://bucket/index")
    assert index.corpus_source == "s3://bucket/videos"
    uris = {row["video_id"]: row["uri"] for row in index.table("videos").to_table().to_pylist()}
    assert uris["more/b"] == "s3://bucket/videos/more/b.mkv"
    assert [row["position"] for row in index.snapshot().super_images([], video_ids=["a"]).to_pylist()] == [0, 1]

    store.delete_file("bucket/videos/more/b.mkv")
    status, facts, error = job("reindex_corpus", s3, "--index", "s3://bucket/index", "--max-removed", "0.5")
    assert status == 0, error
    assert (facts["removed"], facts["unchanged"]) == (1, 2)
    status, facts, _ = job("search_corpus", s3, "--index", "s3://bucket/index", "a grey wall")
    assert (status, [hit["video_id"] for hit in facts["hits"]]) == (0, ["a"])


def test_a_store_that_cannot_be_listed_is_an_error_and_not_an_empty_corpus(s3):
    for uri in ("s3://no-such-bucket/videos", "s3://bucket/no/such/folder"):
        status, _, error = job("encode_corpus", s3, "--videos", uri, "--index", "s3://bucket/other")
        assert status == 1
        assert error.strip().splitlines()[-1].startswith("error: ")
        assert uri in error


def test_a_stretch_of_a_remote_video_is_read_by_ranges(tmp_path, monkeypatch):
    """Of a long file only what the stretch needs is read, and a header at the file's end is found by seeking."""
    path = write_video(tmp_path / "v.mp4", 2000, rate=10, size=(160, 120), options={"g": "20", "crf": "0"})
    n_read = 0

    class Counted(io.FileIO):
        def read(self, size=-1):
            nonlocal n_read
            data = super().read(size)
            n_read += len(data)
            return data

    monkeypatch.setattr(source, "is_remote", lambda uri: True)
    monkeypatch.setattr(source, "_RANGE_BYTES", 4096)
    monkeypatch.setattr(source, "_open_bytes", Counted)
    with Video(str(path)) as video:
        assert len(list(video.samples([Clock(Fraction(1), 100, 110)]))) == 10
    assert n_read < path.stat().st_size / 4
