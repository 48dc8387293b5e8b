import shutil
import socket
import time
from pathlib import Path

import httpx
import lance
import numpy as np
import pytest
from pydantic import ValidationError

from pipelines.serve import Options, TextTower, app, check_reach
from qasir.errors import SpecError
from qasir.retrieval.opening import open_index
from qasir.retrieval.text_encoder import TextEncoder

TOKEN = "S3CRET"


def test_a_command_line_gives_texts():
    given = {"index": "a,s3://b/c", "min_replicas": "2", "allow_sql": "false", "exact": "true", "gpus": "0.5"}
    options = Options.model_validate({**given, "token": TOKEN})
    assert options.index == ("a", "s3://b/c")
    assert (options.min_replicas, options.allow_sql, options.exact, options.gpus) == (2, False, True, 0.5)
    assert options.settings("t").token == "t"
    assert TOKEN not in repr(options)


@pytest.mark.parametrize("wrong", [{"index": []}, {"replicas": 3}, {"min_replicas": 0}, {"cpus": "x"}])
def test_what_is_no_option_is_refused(wrong):
    with pytest.raises(ValidationError):
        Options.model_validate({"index": "a", **wrong})


def test_a_token_is_needed_where_others_reach_it():
    for host in ("127.0.0.1", "::1", "localhost", "127.1.2.3", None):
        check_reach(host, None)
    for host in ("0.0.0.0", "::", "10.0.0.1", "videos.example"):
        check_reach(host, "t")
        with pytest.raises(SpecError, match="QASIR_TOKEN"):
            check_reach(host, None)


def test_texts_of_several_replicas_are_encoded_together(demo_index, dense_index):
    specs = [demo_index.spec, dense_index.spec]
    asked = [(specs[0], ["an apple", "a dog"]), (specs[1], ["a dog"]), (specs[0], ["a dog"]), (specs[0], ["a dog"] * 2)]
    for (spec, texts), vectors in zip(asked, TextTower().encode_together(asked), strict=True):
        assert np.allclose(vectors, TextEncoder(spec).encode(texts), atol=1e-5)


@pytest.fixture(scope="module")
def served(demo_index, local_ray, tmp_path_factory):
    """(client, index) of a page of two replicas."""
    from ray import serve

    uri = tmp_path_factory.mktemp("served") / "index"
    shutil.copytree(demo_index.uri, uri)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    given = {"index": str(uri), "token": TOKEN, "min_replicas": 2, "max_replicas": 2, "cpus": 0.4, "gpus": 0}
    serve.run(app(Options.model_validate(given)), name="qasir", route_prefix="/")
    headers = {"authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, headers=headers) as client:
        yield client, uri
    serve.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(600)
class TestOnServe:
    def test_it_searches_as_the_library_does(self, served):
        client, uri = served
        answer = client.get("/api/search", params={"q": "a red apple", "top_k": 3})
        assert answer.status_code == 200
        expected = open_index(str(uri)).search("a red apple", top_k=3)
        assert [hit["video_id"] for hit in answer.json()["hits"]] == [hit.video_id for hit in expected]
        found = [hit["score"] for hit in answer.json()["hits"]]
        assert np.allclose(found, [hit.score for hit in expected], atol=1e-4)

    def test_it_is_guarded(self, served):
        client, _ = served
        assert client.get("/api/status", headers={"authorization": ""}).status_code == 401
        assert client.get("/", headers={"host": "evil.example"}).status_code == 421
        assert client.get("/api/status", headers={"sec-fetch-site": "cross-site"}).status_code == 403
        assert client.post("/api/search?q=a", content=b"x" * (21 << 20)).status_code == 413
        assert client.get("/").headers["content-security-policy"].startswith("default-src 'self'")
        entered = client.get("/", params={"token": TOKEN, "q": "a"})
        assert "HttpOnly; SameSite=Strict" in entered.headers["set-cookie"]
        assert "./?q=a" in entered.text

    def test_a_video_comes_by_ranges(self, served):
        client, _ = served
        hit = client.get("/api/search", params={"q": "a red apple", "top_k": 1}).json()["hits"][0]
        content = Path(hit["uri"]).read_bytes()
        answer = client.get(f"/{hit['media']}", headers={"range": "bytes=100-199"})
        assert answer.status_code == 206
        assert answer.headers["content-range"] == f"bytes 100-199/{len(content)}"
        assert answer.content == content[100:200]
        assert client.get(f"/{hit['media']}").content == content
        assert client.head(f"/{hit['media']}").headers["content-length"] == str(len(content))
        with client.stream("GET", f"/{hit['media']}") as cut_off:
            assert next(cut_off.iter_bytes(100))
        assert client.get("/media/..%2f..%2fetc%2fpasswd").status_code == 404

    def test_both_replicas_follow_the_index(self, served):
        client, uri = served

        def versions():
            return {client.get("/api/status").json()["indexes"][0]["version"] for _ in range(20)}

        (before,) = versions()
        lance.dataset(f"{uri}/videos.lance").update({"error": "'seen'"}, where="status = 'no such'")
        lance.dataset(f"{uri}/videos.lance").update({"error": "'seen'"}, where="true")
        until = time.monotonic() + 60
        while before in versions() and time.monotonic() < until:
            time.sleep(0.5)
        (after,) = versions()
        assert after > before

    def test_no_log_has_the_token(self, served):
        import ray

        client, _ = served
        client.get("/", params={"token": TOKEN})
        client.get("/api/search", params={"q": "a", "token": TOKEN})
        logs = Path(ray._private.worker.global_worker.node.get_logs_dir_path())
        serving = list((logs / "serve").rglob("*.log"))
        assert serving
        assert not [path for path in logs.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
