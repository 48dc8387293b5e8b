"""The commands and the Python of docs/search.md run as they stand, but for the port."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import opentimelineio as otio
import pytest
from fastapi.testclient import TestClient
from typer.main import get_command

from jobs.serve_search import app
from qasir.app.assembly import make_page
from qasir.app.engine import Engine
from qasir.app.settings import AppSettings
from tests.qasir.app.live import live

TEXT = (Path(__file__).parents[1] / "docs" / "search.md").read_text()
ADDRESS = "http://127.0.0.1:8765"


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL)


CURLS = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("curl")]


@pytest.fixture(scope="module")
def engine(demo_index):
    engine = Engine([demo_index.uri])
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def address(engine):
    with live(make_page(engine, AppSettings())) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_every_command_gives_what_it_says(address, tmp_path):
    for command in CURLS:
        words = shlex.split(command.replace(ADDRESS, address))
        done = subprocess.run([words[0], "--fail", *words[1:]], cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, (command, done.stderr)
        if "-o" not in words:
            assert "error" not in json.loads(done.stdout) or "/api/videos/" in command
    assert (tmp_path / "frame.jpg").read_bytes().startswith(b"\xff\xd8")
    assert (tmp_path / "thumbnail.jpg").read_bytes().startswith(b"\xff\xd8")
    assert b"ftyp" in (tmp_path / "clip.mp4").read_bytes()[:16]
    assert otio.adapters.read_from_file(str(tmp_path / "hits.otio")).tracks


def test_the_python_runs(address, capsys):
    (code,) = blocks("python")
    exec(compile(code.replace(ADDRESS, address), "docs/search.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 5, "three hits, a unit and a length"


def test_every_endpoint_is_described_and_every_one_described_is_there(engine):
    with TestClient(make_page(engine, AppSettings()), base_url="http://localhost") as client:
        paths = {re.sub(r"\{.*?\}", "ID", path) for path in client.get("/openapi.json").json()["paths"]}
    table = TEXT.partition("## The API")[2].partition("## ")[0]
    named = set(re.findall(r"(?:GET|POST) (/[\w/]+)", table))
    assert named == paths


def test_every_option_is_one():
    options = {name for parameter in get_command(app).params for name in (*parameter.opts, *parameter.secondary_opts)}
    named = set(re.findall(r"`(--[a-z-]+)", TEXT))
    assert named <= options, named - options
