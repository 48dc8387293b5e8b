"""Videos and index on an S3 server (moto's, on loopback) work as local paths do."""

import re
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow.fs
import pytest

from jobs import encode_corpus, reindex_corpus, search_corpus
from qasir.encoding.cut import cut_videos
from qasir.encoding.encode import encode
from qasir.encoding.options import EncoderOptions
from qasir.encoding.rows import plan_table
from qasir.index.index import Index
from qasir.video.container import Clock, Video
from qasir.video.corpus import VideoFile
from qasir.video.schedule import KeyframeRule
from tests.jobs.test_jobs import call
from tests.qasir.encoding.stubs import SPEC
from tests.stores import client_of
from tests.videos import write_video

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server():
    """The environment of a client of the server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("moto_server")), "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield client_of(port)
    process.terminate()
    process.wait()


@pytest.fixture
def s3(server, monkeypatch):
    """The server's file system; this process is a client of it, and so are those that it starts."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    return pyarrow.fs.S3FileSystem(endpoint_override=server["AWS_ENDPOINT_URL"], allow_bucket_creation=True)


def upload(s3, folder, bucket):
    """Two videos and a file that is none, as s3://bucket/videos."""
    write_video(folder / "a.mp4", 30)
    write_video(folder / "more" / "b.mkv", 25)
    (folder / "bad.mp4").write_bytes(b"nothing")
    s3.create_dir(bucket)
    pyarrow.fs.copy_files(str(folder), f"{bucket}/videos", destination_filesystem=s3)


def check(bucket):
    """The index that encoding the uploaded videos makes."""
    index = Index.open(f"s3://{bucket}/index")
    assert index.corpus_source == f"s3://{bucket}/videos"
    uris = {row["video_id"]: row["uri"] for row in index.table("videos").to_table().to_pylist()}
    assert uris["more/b"] == f"s3://{bucket}/videos/more/b.mkv"
    assert [row["position"] for row in index.snapshot().super_images([], video_ids=["a"]).to_pylist()] == [0, 1]


@pytest.mark.slow
def test_encode_reindex_and_search_on_s3(s3, tmp_path):
    upload(s3, tmp_path, "bucket")
    model = EncoderOptions(grid=2, fps=2.0)
    summary = encode("s3://bucket/videos", "s3://bucket/index", model=model, isolate=False)
    assert (summary.encoded, summary.failures_by_kind) == (2, {"not_a_video": 1})
    check("bucket")
    s3.delete_file("bucket/videos/more/b.mkv")
    status, _, facts, error = call(reindex_corpus, "--index", "s3://bucket/index", "--max-removed", "0.5", "--json")
    assert status == 0, error
    assert (facts["removed"], facts["unchanged"]) == (1, 2)
    status, _, facts, _ = call(search_corpus, "--index", "s3://bucket/index", "--json", "a grey wall")
    assert (status, [hit["video_id"] for hit in facts["hits"]]) == (0, ["a"])


@pytest.mark.slow
def test_a_job_hands_the_settings_of_the_store_on_to_its_workers(s3, tmp_path):
    upload(s3, tmp_path, "jobs")
    where = ["--videos", "s3://jobs/videos", "--index", "s3://jobs/index", "--grid", "2", "--fps", "2"]
    command = [sys.executable, "-m", "jobs.encode_corpus", *where]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 encoded, 1 failed, 0 unchanged" in done.stdout
    check("jobs")


def test_a_store_that_cannot_be_listed_is_an_error_and_not_an_empty_corpus(s3):
    s3.create_dir("empty")
    for uri in ("s3://no-such-bucket/videos", "s3://empty/no/such/folder"):
        status, _, _, error = call(encode_corpus, "--videos", uri, "--index", "s3://empty/index")
        assert status == 1
        assert uri in str(error)


def test_credentials_in_a_uri_end_a_job_and_are_not_repeated(tmp_path):
    write_video(tmp_path / "a.mp4", 10)
    secret = "s3://AKIA:wJalrXUtn@bucket"
    for job, *options in (
        (encode_corpus, "--videos", f"{secret}/videos", "--index", str(tmp_path / "index")),
        (encode_corpus, "--videos", str(tmp_path), "--index", f"{secret}/index"),
        (reindex_corpus, "--index", f"{secret}/index"),
        (search_corpus, "--index", f"{secret}/index", "a grey wall"),
    ):
        status, out, _, error = call(job, *options)
        assert (status, "carries credentials" in str(error)) == (1, True)
        assert "wJalrXUtn" not in out + str(error)


class OneObject(BaseHTTPRequestHandler):
    """An object store that holds one object, and counts the bytes of it that it gives away."""

    protocol_version = "HTTP/1.1"
    data = b""
    given = 0

    def do_HEAD(self):
        self._head(200, len(self.data))

    def do_GET(self):
        first, last = re.match(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups()
        part = self.data[int(first) : int(last) + 1]
        self._head(206, len(part), ("Content-Range", f"bytes {first}-{last}/{len(self.data)}"))
        self.wfile.write(part)
        type(self).given += len(part)

    def _head(self, status, n_bytes, *more):
        self.send_response(status)
        for name, value in (("Content-Length", str(n_bytes)), ("ETag", '"1"'), *more):
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *args): ...


@pytest.fixture(scope="module")
def one_object(tmp_path_factory):
    """A long file on a store, which `OneObject` serves, and the same here."""
    noise = np.random.default_rng(0).integers(0, 255, (180, 240, 3), np.uint8)
    options = {"g": "1", "crf": "0", "preset": "ultrafast"}
    path = tmp_path_factory.mktemp("object") / "v.mp4"
    write_video(path, 600, rate=1, size=(240, 180), options=options, picture=noise)
    OneObject.data = path.read_bytes()
    with ThreadingHTTPServer(("127.0.0.1", 0), OneObject) as server, pytest.MonkeyPatch.context() as patch:
        threading.Thread(target=server.serve_forever).start()
        for name, value in client_of(server.server_port).items():
            patch.setenv(name, value)
        yield "s3://bucket/v.mp4", path
        server.shutdown()


def test_a_stretch_of_a_remote_video_is_read_by_ranges(one_object):
    """Of a long file only what the stretch needs is read, and a header at the file's end is found by seeking."""
    OneObject.given = 0
    with Video(one_object[0]) as video:
        assert len(list(video.samples([Clock(Fraction(1), 300, 305)]))) == 5
    assert OneObject.given < len(OneObject.data) / 4


def test_keyframes_of_a_remote_video_are_those_of_a_local_one_and_cutting_does_not_read_it(one_object):
    def sampled(uri):
        with Video(uri) as video:
            plan = video.schedule(KeyframeRule(Fraction(1, 60), Fraction(60)))
            return [(sample.time_s, sample.frame.to_ndarray().tobytes()) for sample in video.samples([plan])]

    uri, path = one_object
    keyframes = replace(SPEC, sampling="keyframes", max_gap_s=4.0)
    plan = plan_table([VideoFile("v", uri, len(OneObject.data), "f")], {"v": {0: []}})
    OneObject.given = 0
    assert len(cut_videos(plan, [keyframes], segment_s=60, segment_bytes=1)) == 1
    assert OneObject.given < len(OneObject.data) / 4
    assert sampled(uri) == sampled(str(path))
    assert OneObject.given < 2.5 * len(OneObject.data), "once for the times, and then what is sampled"
