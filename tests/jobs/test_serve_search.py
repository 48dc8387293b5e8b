"""The page as a program: where it listens, what it prints, how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs import serve_search
from jobs.serve_search import address, listening
from qasir.errors import NoIndexError, QasirError, SpecError

ROOT = Path(__file__).parents[2]
TOKEN = "s3 cret/?&"


def call(*args, **environment):
    """(exit status, what is said, the user error or None) of the job in this process."""
    result = CliRunner().invoke(serve_search.app, [str(arg) for arg in args], env=environment)
    if result.exception and not isinstance(result.exception, SystemExit | QasirError):
        raise result.exception
    error = result.exception if isinstance(result.exception, QasirError) else None
    return result.exit_code, result.output, error


def get(url, token=None):
    """(status, JSON) of an answer."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


def test_a_server_from_its_first_line_to_its_end(demo_index):
    command = [sys.executable, "-m", "jobs.serve_search", "--index", demo_index.uri, "--port", "0", "--json"]
    process = subprocess.Popen(
        [*command, "--no-allow-sql"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "QASIR_TOKEN": TOKEN},
    )  # fmt: skip
    try:
        facts = json.loads(process.stdout.readline())
        url = facts["url"]
        assert url.startswith("http://127.0.0.1:")
        assert facts["indexes"] == [{"uri": demo_index.uri, "videos": 4, "waiting": None}]
        said = [process.stdout.readline() for _ in range(3)]
        assert said[:2] == [f"{url}\n", f"{demo_index.uri}: 4 videos\n"]
        assert "?token=TOKEN" in said[2]
        assert get(f"{url}/api/status")[0] == 401, "without the token"
        status, found = get(f"{url}/api/search?q=a+flamingo&top_k=2", TOKEN)
        assert (status, len(found["hits"])) == (200, 2)
        assert get(f"{url}/api/search?q=a&where=true", TOKEN)[0] == 400, "--no-allow-sql"
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))):  # a browser that stays
            process.send_signal(signal.SIGTERM)
            rest, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 143, errors
    assert errors.splitlines()[-1] == "terminated; the page is served no more"
    assert "Traceback" not in errors
    assert TOKEN not in "".join([*said, rest, errors]), "who gave it knows it"


def test_it_ends_at_once_while_a_model_is_being_loaded(demo_index, tmp_path):
    (tmp_path / "slow.py").write_text(
        "import sys, time, runpy\n"
        "from qasir.retrieval.text_encoder import TextEncoder\n"
        "TextEncoder.encode = lambda *_: time.sleep(60)\n"
        f"sys.argv = ['serve_search', '--index', {demo_index.uri!r}, '--port', '0']\n"
        "runpy.run_module('jobs.serve_search', run_name='__main__')\n"
    )
    process = subprocess.Popen(
        [sys.executable, tmp_path / "slow.py"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    try:
        url = process.stdout.readline().strip()
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as waiting:
            waiting.sendall(b"GET /api/search?q=a HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert get(f"{url}/api/status")[0] == 200
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 143, errors
    assert errors.splitlines()[-1] == "terminated; the page is served no more"
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["slow.py"], "the cache is gone"


def test_a_port_that_is_taken_is_said_before_anything_is_loaded():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        _, _, error = call("--index", "/no/such/index", "--port", port)
    assert f"port {port} of 127.0.0.1" in str(error)
    assert "choose another --port" in str(error)


def test_two_servers_that_start_at_once_do_not_share_a_port():
    with listening("127.0.0.1", 0, None) as one, pytest.raises(QasirError, match=r"Address already in use"):
        listening("127.0.0.1", one.getsockname()[1], None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_host_that_others_reach_wants_a_token(host):
    status, said, _ = call("--index", "/no/such/index", "--host", host, "--port", 0)
    assert status == 2
    assert "give --token, or QASIR_TOKEN" in " ".join(said.split())
    with listening(host, 0, "secret") as listener:
        assert listener.getsockname()[0] == host


def test_an_empty_token_is_none_to_trust():
    assert call("--index", "/no/such/index", "--port", 0, "--token", "")[0] == 2


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a b", ""])
def test_a_host_that_is_none_is_named(host):
    with pytest.raises(QasirError, match=r"--host .* is no name or address of this machine"):
        listening(host, 0, "secret")


def test_what_cannot_be_served_is_one_line(tmp_path):
    assert isinstance(call("--index", tmp_path / "nothing", "--port", 0)[2], NoIndexError)
    assert isinstance(call("--index", tmp_path, "--port", 0, "--longest-clip", "0s")[2], SpecError)
    assert "--hybrid fusion takes two --index" in str(call("--index", "a", "--hybrid", "fusion", "--port", 0)[2])
    assert call("--port", 0)[0] == 2, "an index must be named"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"), ("localhost", "http://localhost:80"), ("0.0.0.0", "http://127.0.0.1:80"),
        ("::1", "http://[::1]:80"), ("::", "http://[::1]:80"), ("search.example", "http://search.example:80"),
    ],
)  # fmt: skip
def test_the_address_is_one_that_can_be_opened(host, url):
    assert address(host, 80) == url
