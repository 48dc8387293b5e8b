"""The page's JSON about what is served, through the whole application."""

import csv
import io
import json
from pathlib import Path
from urllib.parse import quote

import lance
import opentimelineio as otio
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from qasir.app.assembly import make_page
from qasir.app.engine import Engine
from qasir.app.settings import AppSettings
from tests.indexes import make_index

DIM = 192  # that of the packaged model
ODD = "day 1/ü 9% ?#'"
"""How the ids of the second index begin; no %2F, which the test client, not a server, decodes twice."""


@pytest.fixture(scope="module")
def odd_index(tmp_path_factory):
    return make_index(tmp_path_factory.mktemp("odd") / "index", [2, 1], prefix=ODD, failed=("bad/one",), dim=DIM)


@pytest.fixture(scope="module")
def engine(demo_index, odd_index):
    engine = Engine([demo_index.uri, odd_index.uri])
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def client(engine):
    with TestClient(make_page(engine, AppSettings()), base_url="http://localhost") as client:
        yield client


def test_the_status_counts_what_is_searched(client, demo_index, odd_index):
    demo, odd = client.get("/api/status").json()["indexes"]
    assert (odd["uri"], odd["videos"], odd["failed"], odd["super_images"]) == (odd_index.uri, 2, 1, 3)
    assert odd["version"] == odd_index.version
    assert (odd["waiting"], odd["encoding"]) == (None, None)
    assert (demo["videos"], demo["failed"]) == (4, 0)


def test_the_facets_say_what_can_be_asked(client, demo_index):
    found = client.get("/api/facets?index=1").json()
    assert found["codecs"] == [{"codec": "h264", "videos": 2}]
    assert found["folders"] == [{"folder": "day 1", "videos": 2}]
    assert found["duration_s"]["least"] <= found["duration_s"]["most"]
    assert {"video_id", "duration_s"} <= set(found["columns"])
    assert "embedding" not in found["columns"]
    assert found["allow_sql"] is True
    assert found["default_method"] == "attention"
    assert (found["hybrid"], found["hybrid_numbers"]) == (None, [])
    assert found["indexes"][0]["uri"] == demo_index.uri
    assert len({one["name"] for one in found["indexes"]}) == 2


def test_a_video_is_found_by_any_id(client):
    for video_id in (f"{ODD}000", "bad/one"):
        row = client.get(f"/api/videos/{quote(video_id, safe='')}?index=1").json()
        assert row["video_id"] == video_id
        assert "embedding" not in row
    assert (row["status"], row["error"], row["problem"], row["media"]) == ("failed", "cut", "cut", None)
    good = client.get(f"/api/videos/{quote(f'{ODD}000', safe='')}?index=1").json()
    assert (good["title"], good["problem"], good["media"]) == ("ü 9% ?#'000", "the file is gone", None)
    shown = client.get("/api/videos/demo_00001").json()
    assert (shown["problem"], shown["media"], shown["media_offset_s"]) == (None, "media/demo_00001", 0.0)
    assert shown["date_kind"] == "modified"
    assert shown["date"] == shown["modified_at"]


@pytest.mark.parametrize("video_id", ["nope", "' OR true --", "x' UNION SELECT 1", "../../etc/passwd", "%00", "a\nb"])
def test_an_unknown_id_is_not_found(client, video_id):
    answer = client.get(f"/api/videos/{quote(video_id, safe='')}?index=1")
    assert answer.status_code in (400, 404)
    assert "error" in answer.json()


def test_an_unknown_index_is_not_found(client):
    for path in ("facets", "administration", "videos/x", "export", "search"):
        answer = client.get(f"/api/{path}?index=7&q=x")
        assert (answer.status_code, answer.json()["error"]) == (404, "index 7: there are 2, counted from 0"), path


def test_the_administration_is_of_one_index(client):
    found = client.get("/api/administration?index=1").json()
    assert found["videos"] == {"encoded": 2, "failed": 1, "stale": 0}
    assert found["failures"][0]["examples"] == [{"video_id": "bad/one", "message": "cut"}]
    assert found["runs"][0]["job"] == "test"
    assert found["runs"][0]["started_at"].endswith(("Z", "+00:00"))


def test_hits_are_downloaded_as_a_file(client, demo_index):
    query = "q=a+flamingo&top_k=3"
    hits = client.get(f"/api/search?{query}").json()["hits"]
    table = client.get(f"/api/export?{query}&format=csv")
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    assert table.headers["content-disposition"] == 'attachment; filename="qasir-a-flamingo.csv"'
    rows = list(csv.DictReader(io.StringIO(table.text, newline="")))
    assert [row["video_id"] for row in rows] == [hit["video_id"] for hit in hits]
    found = json.loads(client.get(f"/api/export?{query}&format=json").text)
    assert [hit["score"] for hit in found["hits"]] == [hit["score"] for hit in hits]
    text = client.get(f"/api/export?{query}&format=otio&select=2").text
    ((clip,),) = otio.adapters.read_from_string(text, "otio_json").tracks
    assert clip.media_reference.target_url == Path(hits[1]["uri"]).as_uri()
    fps = demo_index.table("videos").to_table(columns=["fps"])["fps"][0].as_py()
    assert clip.source_range.start_time.rate == fps
    assert clip.source_range.start_time.to_seconds() == pytest.approx(hits[1]["start_s"], abs=1 / fps)


def test_what_a_picture_finds_is_downloaded_too(client, demo):
    picture = io.BytesIO()
    Image.new("RGB", (64, 48), "navy").save(picture, "PNG")
    answer = client.post("/api/export?top_k=2&format=csv", content=picture.getvalue())
    assert answer.headers["content-disposition"] == 'attachment; filename="qasir-hits.csv"'
    assert len(answer.text.splitlines()) == 3


@pytest.mark.parametrize("asked", ["q=a&format=xml", "q=", "q=a&select=9", "q=a&top_k=0", "q=a&where=nonsense+("])
def test_an_export_refuses_what_a_search_does(client, asked):
    answer = client.get(f"/api/export?{asked}")
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_a_bug_is_answered_as_json(engine, monkeypatch):
    monkeypatch.setattr(engine, "view", lambda index: 1 / 0)
    page = make_page(engine, AppSettings())
    answer = TestClient(page, base_url="http://localhost", raise_server_exceptions=False).get("/api/videos/x")
    assert answer.status_code == 500
    assert answer.json() == {"error": "the server stumbled over this request; its log says more"}
    assert "content-security-policy" in answer.headers


def test_the_api_describes_itself(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/api/status", "/api/facets", "/api/videos/{video_id}", "/api/administration", "/api/export"} <= set(paths)
    searched = {one["name"] for one in paths["/api/search"]["get"]["parameters"]}
    assert {one["name"] for one in paths["/api/export"]["get"]["parameters"]} == searched | {"format", "select"}


def test_two_indexes_together_say_so(tmp_path):
    uris = [
        make_index(tmp_path / name / "index", [2, 1], grid=grid, dim=DIM).uri
        for name, grid in (("large", 1), ("small", 2))
    ]
    engine = Engine(uris, hybrid="fusion")
    try:
        with TestClient(make_page(engine, AppSettings()), base_url="http://localhost") as client:
            found = client.get("/api/facets?index=1").json()
            searched = client.get("/api/search?like=v000@1").json()
    finally:
        engine.close()
    assert found["hybrid"] == "fusion"
    assert searched["scoring"]["aggregation"] == "fusion"
    assert [number["name"] for number in found["hybrid_numbers"]] == ["weight"]
    assert [one["name"] for one in found["indexes"]] == ["large/index", "small/index"]


def test_an_empty_index_is_served_and_fills(tmp_path):
    index = make_index(tmp_path / "index", [1], dim=DIM)
    for name in ("videos", "super_images"):
        lance.dataset(index.table_uri(name)).delete("true")
    engine = Engine([index.uri])
    try:
        client = TestClient(make_page(engine, AppSettings(allow_sql=False)), base_url="http://localhost")
        (status,) = client.get("/api/status").json()["indexes"]
        assert (status["videos"], status["super_images"]) == (0, 0)
        facets = client.get("/api/facets").json()
        assert (facets["codecs"], facets["duration_s"], facets["allow_sql"]) == ([], None, False)
        assert client.get("/api/videos/x").status_code == 404
        for name in ("videos", "super_images"):
            (tmp_path / "index" / f"{name}.lance").rename(tmp_path / name)
        with_runs_only = Engine([index.uri])
        try:
            client = TestClient(make_page(with_runs_only, AppSettings()), base_url="http://localhost")
            (status,) = client.get("/api/status").json()["indexes"]
            assert (status["version"], status["waiting"]) == (None, "it is being made: nothing is encoded yet")
            assert client.get("/api/facets").json()["methods"] == []
            assert client.get("/api/administration").json()["version"] is None
            assert client.get("/api/videos/x").status_code == 404
        finally:
            with_runs_only.close()
    finally:
        engine.close()
