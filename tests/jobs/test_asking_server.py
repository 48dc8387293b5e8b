"""search_corpus.py --server, against a server that answers as the search page's API does."""

import json
import socket
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qsl, urlsplit

import pytest

from jobs import search_corpus
from jobs.asking_server import Server
from qasir.errors import QueryError, ServerError
from tests.jobs.test_jobs import call
from tests.test_imports import loaded_by, run_of

HIT = {
    "video_id": "walks/a b", "uri": "/videos/walks/a b.mp4", "score": 0.4613, "start_s": 45.0, "end_s": 54.0,
    "at_s": 48.0, "media_offset_s": 0.1, "thumbnail": None, "media": "media/walks%2Fa%20b",
}  # fmt: skip
ANSWER = {"query": "a flamingo", "exact": True, "hits": [HIT]}
PIXELS = b"\xff\xd8 not looked at here"


class Page(BaseHTTPRequestHandler):
    """Answers what the test's server was given, and keeps what it was asked."""

    server: "Pages"

    def answer(self):
        length = int(self.headers.get("Content-Length", 0))
        self.server.asked.append((self.command, self.path, dict(self.headers), self.rfile.read(length)))
        status, body, headers = self.server.answers
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

    do_GET = do_POST = answer  # noqa: N815  the names that the standard library looks for

    def log_message(self, *args):
        """Nothing."""


class Pages(ThreadingHTTPServer):
    def __init__(self, status, body, headers):
        super().__init__(("127.0.0.1", 0), Page)
        self.answers, self.asked = (status, body, headers), []


@contextmanager
def page(body=ANSWER, status=200, **headers):
    """(its address, what it was asked)."""
    with Pages(status, body, headers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", server.asked
        finally:
            server.shutdown()


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    monkeypatch.delenv("QASIR_TOKEN", raising=False)


def parameters(asked):
    return dict(parse_qsl(urlsplit(asked[1]).query, keep_blank_values=True))


def test_a_query_is_asked_and_the_answer_printed_as_that_of_an_index():
    with page() as (url, asked):
        status, text, facts, _ = call(search_corpus, "--server", url + "/", "--json", "a flamingo")
    assert status == 0
    assert text.splitlines()[0] == "  1  walks/a b  score 0.461  moment 0:45.0 to 0:54.0"
    assert len(text.splitlines()) == 2
    assert facts["hits"] == [HIT]
    known = {"query": "a flamingo", "image": None, "like": None, "where": None, "by": "video", "exact": True}
    assert known.items() <= facts.items()
    assert facts["server"] == url
    ((method, path, headers, body),) = asked
    assert (method, urlsplit(path).path, body) == ("GET", "/api/search", b"")
    assert parameters(asked[0]) == {"q": "a flamingo", "top_k": "5", "by": "video"}
    assert "Authorization" not in headers


def test_every_option_of_a_search_is_passed_on():
    moment = {**HIT, "video_score": 0.5}
    with page({**ANSWER, "exact": False, "hits": [moment]}) as (url, asked):
        words = [
            "--moments",
            "--per-video",
            "2",
            "--top-k",
            "7",
            "--like",
            "a@b@3.5",
            "--indexed",
            "--aggregation",
            "coarse-to-fine",
            "--recall-k",
            "9",
            "--rerank",
            "super-image,cell",
            "--gate-temperature",
            "0.2",
        ]
        status, text, _, _ = call(
            search_corpus, "--server", url, *words, "--where", "codec = 'h264' AND fps > 1", "é&="
        )
    assert status == 0
    assert text.splitlines()[0].endswith("moment 0:45.0 to 0:54.0  video 0.500")
    assert "--exact scores all" in text
    assert parameters(asked[0]) == {
        "q": "é&=", "like": "a@b@3.5", "top_k": "7", "by": "moment", "per_video": "2", "exact": "false",
        "where": "codec = 'h264' AND fps > 1", "aggregation": "coarse-to-fine", "recall_k": "9",
        "rerank": "super-image,cell", "gate_temperature": "0.2",
    }  # fmt: skip


def test_a_picture_is_sent_with_its_kind(tmp_path):
    (tmp_path / "p.jpg").write_bytes(PIXELS)
    with page() as (url, asked):
        assert call(search_corpus, "--server", url, "--image", tmp_path / "p.jpg", "--exact")[0] == 0
    ((method, _, headers, body),) = asked
    assert (method, headers["Content-Type"], body) == ("POST", "image/jpeg", PIXELS)
    assert parameters(asked[0]) == {"top_k": "5", "by": "video", "exact": "true"}
    with pytest.raises(QueryError, match=r"the picture .*no\.png cannot be read: No such file"):
        Server.at("http://127.0.0.1:1").search([], tmp_path / "no.png")


def test_a_token_is_sent_as_it_was_given_or_from_the_environment(monkeypatch):
    with page() as (url, asked):
        call(search_corpus, "--server", url, "--token", "given", "a")
        monkeypatch.setenv("QASIR_TOKEN", "of the environment")
        call(search_corpus, "--server", url, "a")
    assert [headers["Authorization"] for _, _, headers, _ in asked] == ["Bearer given", "Bearer of the environment"]
    with pytest.raises(QueryError, match="the token"):
        Server.at(url, "two\nlines")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--index", "i"), "leave out --index"),
        (("--finetuned", "f"), "leave out --finetuned"),
        (("--hybrid", "fusion"), "leave out --hybrid"),
        (("--per-video", "2"), "leave out --per-video"),
    ],
)
def test_what_a_server_decides_cannot_be_asked_for(args, said):
    with page() as (url, asked):
        status, _, _, error = call(search_corpus, "--server", url, *args, "a")
    assert (status, error, asked) == (2, None, [])


def test_an_index_or_a_server_is_needed_and_a_token_is_for_a_server():
    assert call(search_corpus, "a")[0] == 2
    assert call(search_corpus, "--index", "i", "--token", "t", "a")[0] == 2
    assert "nothing to search for" in str(call(search_corpus, "--server", "http://127.0.0.1:1")[3])


def failing(url, **options):
    with pytest.raises(ServerError) as told:
        Server.at(url, **options).search([("q", "a")])
    (line,) = str(told.value).splitlines()
    assert url.partition("?")[0].rstrip("/") in line
    return line


def test_what_the_server_says_is_wrong_is_said():
    with page({"error": "top_k 0: choose 1 or more"}, 400) as (url, _):
        assert failing(url) == f"the server {url} says: top_k 0: choose 1 or more"
        assert str(call(search_corpus, "--server", url, "a")[3]) == failing(url)
    with page({"error": "a token is needed"}, 401) as (url, _):
        assert failing(url).endswith("a token is needed; give its token by QASIR_TOKEN")
        assert failing(url, token="another").endswith("a token is needed")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"<html>It works!</html>", 200), (b"<html>no such page</html>", 404), ([1], 200), ({"hits": [{}]}, 200),
        ({"exact": True, "hits": [{**HIT, "score": "much"}]}, 200), ({"hits": None}, 200), ({"error": 3}, 500),
    ],
)  # fmt: skip
def test_what_is_no_search_page_is_told_by_its_address(body, status):
    with page(body, status) as (url, _):
        assert failing(url).startswith("no search page of qasir answers at")


def test_a_server_that_is_not_there_or_hangs_up_is_told_by_its_address():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    assert failing(url).startswith(f"cannot reach the server {url}: Connection refused")
    assert failing("http://no-such-host.invalid/under/a/path").startswith("cannot reach the server")


def test_a_token_is_not_sent_on_to_another_address():
    with page() as (other, asked), page(b"", 302, Location=f"{other}/api/search") as (url, _):
        assert failing(url, token="secret").endswith("sends on to another address: give that one")
    assert asked == []


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:8765", "file:///etc/passwd", "http://", "http://[::1", "http://a b/", "http://h:x/", "ftp://h/", "nö"],
)
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(QueryError, match="give its address"):
        Server.at(url)


def test_a_secret_in_an_address_is_not_repeated():
    with pytest.raises(QueryError, match="leave out what stands before the @") as told:
        Server.at("https://me:hunter2@host/")
    assert "hunter2" not in str(told.value)
    assert "secret" not in repr(Server.at("http://host/?token=secret", "secret"))


def test_asking_waits_for_no_import_but_pythons_own():
    with page() as (url, _):
        loaded = loaded_by(run_of("search_corpus", "--server", url, "a flamingo"))
    assert "jobs.asking_server" in loaded
    assert not loaded & {"lance", "open_clip", "pandas", "PIL", "pyarrow", "torch"}
