import io
import itertools
import shutil
from dataclasses import fields

import lance
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from qasir.app import search_api
from qasir.app.answers import Frame, MomentsAnswer, SearchAnswer, SearchHit
from qasir.app.application import make_app
from qasir.app.settings import AppSettings
from qasir.index.schemas import runs_schema
from tests.indexes import make_index, writing
from tests.qasir.app.engines import serving

HOSTILE = ["<script>alert(1)</script>", "a%2Fb", "../up", "quo\"te's", "line\nbreak", "a/b c", "naïve ☃", "x?at=1&q#f"]
SETTINGS = AppSettings(picture_bytes=100_000)


def answering(engine, settings=SETTINGS):
    return TestClient(make_app([search_api.router(engine, settings)]), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """Videos with ids that mean harm, of which one file is there."""
    folder = tmp_path_factory.mktemp("made-up")
    index = make_index(folder / "i", [2] * 30)
    (folder / "there.mp4").write_bytes(b"not looked into")
    with writing(index) as writer:
        rows = index.table("videos").to_table().to_pylist()
        images = index.table("super_images").to_table()
        for row, name in zip(rows, HOSTILE, strict=False):
            old = row["video_id"]
            mine = images.filter([one == old for one in images["video_id"].to_pylist()])
            new = mine.set_column(0, "video_id", [[name] * len(mine)])
            writer.commit_super_images(index.write_super_images(new))
            row |= {"video_id": name, "uri": str(folder / f"{len(name)}.mp4")}
        rows[0]["uri"] = str(folder / "there.mp4")
        writer.upsert_videos(rows[: len(HOSTILE)])
    with serving(index.uri) as engine:
        yield engine


@pytest.fixture(scope="module")
def client(made_up):
    with answering(made_up) as client:
        yield client


@pytest.fixture(scope="module")
def demo_client(demo_index):
    with serving(demo_index.uri, encode_texts=None) as engine, answering(engine) as client:
        yield client


def names(kind):
    return {field.name for field in fields(kind)}


@pytest.mark.parametrize("by", ["video", "moment"])
def test_an_answer_has_all_that_the_contract_says(demo_client, by):
    answer = demo_client.get("/api/search", params={"q": "a penguin", "by": by, "top_k": 3}).json()
    assert set(answer) == names(SearchAnswer) >= {"query", "exact", "hits", "cutoff", "version", "left_out", "took_ms"}
    assert (answer["query"], answer["by"], answer["exact"], answer["index"]) == ("a penguin", by, True, 0)
    assert len(answer["hits"]) == 3
    assert answer["method"].startswith("query attention")
    assert f"{answer['cutoff']['score']:.2f}" in answer["cutoff"]["explained"]
    for hit in answer["hits"]:
        assert set(hit) == names(SearchHit)
        assert hit["start_s"] <= hit["at_s"] <= hit["end_s"] <= hit["duration_s"] + 1e-6
        assert (hit["media"], hit["media_offset_s"], hit["problem"]) == (f"media/{hit['video_id']}", 0.0, None)
        assert hit["thumbnail"].startswith(f"frames/{hit['video_id']}?at=")
        assert hit["placeholder"].startswith(f"thumbnails/{hit['video_id']}?at=")
        assert (hit["video_score"] is None) == (by == "video")
        assert hit["date_kind"] == "modified"
        assert hit["above_cutoff"] == (hit["score"] >= answer["cutoff"]["score"])
        assert 1 <= len(hit["frames"]) <= 9
        for frame in hit["frames"]:
            assert set(frame) == names(Frame)
            assert hit["start_s"] <= frame["at_s"] <= hit["end_s"]
            assert 0.0 <= frame["fit"] <= 1.0
        times = [frame["at_s"] for frame in hit["frames"]]
        assert times == sorted(times)
        best = sorted(hit["frames"], key=lambda frame: -frame["score"])
        assert len(best) == 9 or hit["at_s"] in [frame["at_s"] for frame in best[: (len(best) + 1) // 2]]
    assert max(frame["fit"] for hit in answer["hits"] for frame in hit["frames"]) == 1.0
    scores = [hit["score"] for hit in answer["hits"]]
    assert scores == sorted(scores, reverse=True)


def test_an_answer_says_how_it_was_ranked(demo_client):
    answer = demo_client.get("/api/search?q=a&aggregation=attention&temperature=0.2").json()
    assert answer["scoring"] == {"aggregation": "attention", "temperature": 0.2}


def test_moments_cover_one_video_for_a_player(demo_client):
    hit = demo_client.get("/api/search", params={"q": "a penguin"}).json()["hits"][0]
    answer = demo_client.get("/api/moments", params={"q": "a penguin", "video_id": hit["video_id"]}).json()
    assert set(answer) == names(MomentsAnswer)
    assert (answer["video_id"], answer["duration_s"]) == (hit["video_id"], hit["duration_s"])
    assert answer["score"] == pytest.approx(hit["score"], abs=1e-6)
    assert answer["granularity"] == "cell"
    assert sum(unit["attention"] for unit in answer["units"]) == pytest.approx(1.0, abs=1e-5)
    starts = [unit["start_s"] for unit in answer["units"]]
    assert starts == sorted(starts)
    moments = sorted((moment["start_s"], moment["end_s"]) for moment in answer["moments"])
    assert all(end <= start + 1e-6 for (_, end), (start, _) in itertools.pairwise(moments))
    assert answer["moments"][0]["score"] == max(moment["score"] for moment in answer["moments"])
    bare = demo_client.get("/api/moments", params={"video_id": hit["video_id"]}).json()
    assert (bare["moments"], bare["score"]) == ([], None)
    assert {(unit["score"], unit["attention"]) for unit in bare["units"]} == {(None, None)}
    assert [unit["start_s"] for unit in bare["units"]] == starts
    assert demo_client.get("/api/moments", params={"video_id": "nope", "q": "a"}).status_code == 404


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("", "nothing to search for"),
        ("q=", "empty"),
        ("q=%20%20", "empty"),
        ("q=a&top_k=0", "top_k"),
        ("q=a&top_k=201", "top_k"),
        ("q=a&top_k=x", "top_k"),
        ("q=a&top_k=nan", "top_k"),
        ("q=a&per_video=0", "per_video"),
        ("q=a&by=nothing", "by"),
        ("q=a&sort=nothing", "sort"),
        ("q=a&where=nope+!", "SQL"),
        ("q=a&where=1=1)+or+(1=1", "SQL"),
        ("q=a&where=drop+table+videos", "SQL"),
        ("q=a&where=nothing=1", "SQL"),
        ("q=a&min_duration_s=nan", "min_duration_s"),
        ("q=a&aggregation=nope", "aggregation"),
        ("q=a&temperature=nan", "temperature"),
        ("q=a&temperature=x", "temperature"),
        ("q=a&temperature=0.1&temperature=0.2", "temperature"),
        ("q=a&aggregation=max&temperature=0.1", "temperature: max has no use"),
        ("q=a&aggregation=max&recall_k=3", "recall k: max has no use"),
        ("q=a&exact=false", "vector index"),
        ("like=nowhere", "VIDEO@12.5"),
        ("like=v010@nan", "seconds"),
        ("like=v010@1e9", "seconds"),
        ("like=@1", "VIDEO@12.5"),
        (f"q={'a' * 10_000}", "10000 characters"),
        (f"like={'a' * 10_000}@1", "characters"),
        (f"q=a&where={'a' * 10_000}", "characters"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(client, asked, message):
    answer = client.get(f"/api/search?{asked}")
    assert answer.status_code == 400, answer.text
    assert message in answer.json()["error"]
    assert list(answer.json()) == ["error"]


def test_a_video_that_is_not_there_is_404(client):
    for asked in ("like=nope@1", "q=a&like=nope@1", "like=@@1"):
        answer = client.get(f"/api/search?{asked}")
        assert (answer.status_code, "no encoded video" in answer.json()["error"]) == (404, True)


def test_an_index_that_is_not_there_is_404(client):
    assert client.get("/api/search?q=a&index=1").status_code == 404
    assert client.get("/api/moments?video_id=v010&index=1").status_code == 404
    assert client.get("/api/search?q=a&index=-1").status_code == 400


def test_hostile_ids_come_back_as_plain_json(client):
    answer = client.get("/api/search", params={"q": "a", "top_k": 200})
    assert answer.headers["content-type"] == "application/json"
    hits = {hit["video_id"]: hit for hit in answer.json()["hits"]}
    assert set(HOSTILE) <= set(hits)
    for name in HOSTILE:
        answer = client.get("/api/moments", params={"video_id": name, "q": "a"})
        assert answer.status_code == 200
        assert answer.json()["video_id"] == name
        assert client.get("/api/search", params={"like": f"{name}@1.5", "top_k": 1}).status_code == 200
        for place in (hits[name]["placeholder"], hits[name]["media"], hits[name]["thumbnail"]):
            assert place is None or (place.count("/") == 1 and not set(place) & set("<>\"' \n#"))
    assert client.get("/api/search", params={"q": "<script>"}).json()["query"] == "<script>"


def test_a_file_that_is_gone_is_told_and_the_rest_goes_on(client):
    hits = {hit["video_id"]: hit for hit in client.get("/api/search?q=a&top_k=200").json()["hits"]}
    changed, gone = hits[HOSTILE[0]], hits[HOSTILE[1]]
    assert changed["problem"] == "the file changed since it was encoded"
    assert None not in (changed["media"], changed["thumbnail"], *(frame["thumbnail"] for frame in changed["frames"]))
    answer = client.get("/api/moments", params={"video_id": HOSTILE[0], "q": "a"}).json()
    assert (answer["problem"], answer["media"]) == (changed["problem"], changed["media"])
    assert (gone["problem"], gone["media"], gone["thumbnail"]) == ("the file is gone", None, None)
    assert all(frame["thumbnail"] is None for frame in gone["frames"])
    answer = client.get("/api/moments", params={"video_id": HOSTILE[1], "q": "a"}).json()
    assert (answer["problem"], answer["media"], answer["thumbnail"]) == ("the file is gone", None, None)
    assert answer["units"]


def test_hits_are_filtered_and_put_in_order(client):
    hits = client.get("/api/search", params={"q": "a", "where": "video_id < 'v005' AND video_id >= 'v'"}).json()["hits"]
    assert {hit["video_id"] for hit in hits} == {f"v{n:03}" for n in range(5)}
    assert client.get("/api/search?q=a&codec=hevc").json()["hits"] == []
    ids = [hit["video_id"] for hit in client.get("/api/search?q=a&top_k=9&sort=video").json()["hits"]]
    assert ids == sorted(ids)
    assert set(ids) == {hit["video_id"] for hit in client.get("/api/search?q=a&top_k=9").json()["hits"]}
    moments = client.get("/api/search?q=a&by=moment&sort=video&per_video=2").json()["hits"]
    places = [(hit["video_id"], hit["start_s"]) for hit in moments]
    assert places == sorted(places)


def test_hits_by_date_are_the_newest_first(demo_client):
    dates = [hit["date"] for hit in demo_client.get("/api/search?q=a+penguin&sort=date").json()["hits"]]
    assert dates == sorted(dates, reverse=True)


def test_sql_may_be_switched_off(made_up):
    with answering(made_up, AppSettings(allow_sql=False)) as client:
        assert client.get("/api/search?q=a&where=duration_s>1").status_code == 400
        assert client.get("/api/search?q=a&min_duration_s=1").status_code == 200


# Pictures


def picture(kind="JPEG", size=(64, 48)):
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), np.uint8)).save(data, kind)
    return data.getvalue()


def test_a_picture_is_searched_by(demo_client):
    for kind in ("JPEG", "PNG"):
        answer = demo_client.post("/api/search?top_k=2", content=picture(kind), headers={"Content-Type": "image/jpeg"})
        assert answer.status_code == 200, answer.text
        assert (answer.json()["query"], len(answer.json()["hits"])) == ("", 2)
    both = demo_client.post("/api/search?q=a+penguin&top_k=2", content=picture())
    assert both.json()["query"] == "a penguin"
    video = both.json()["hits"][0]["video_id"]
    line = demo_client.post(f"/api/moments?video_id={video}", content=picture())
    assert line.json()["moments"]
    like = demo_client.get(f"/api/search?like={video}@1&top_k=1").json()["hits"][0]
    assert like["video_id"] == video


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"", 400, "nothing to search for"),
        (b"<svg onload=alert(1)>", 400, "not a picture"),
        (picture()[:200], 400, "picture"),
        (b"GIF89a" + bytes(60), 400, "picture"),
        (bytes(100_001), 413, "make it smaller"),
    ],
)
def test_what_is_no_picture_is_refused(demo_client, content, status, message):
    answer = demo_client.post("/api/search", content=content, headers={"Content-Type": "image/png"})
    assert answer.status_code == status, answer.text
    assert message in answer.json()["error"]


def test_a_bomb_and_a_form_are_refused(demo_client):
    bomb = io.BytesIO()
    Image.new("1", (26_000, 26_000)).save(bomb, "PNG")
    assert len(bomb.getvalue()) < SETTINGS.picture_bytes
    answer = demo_client.post("/api/search", content=bomb.getvalue())
    assert answer.status_code == 400
    assert "pixels" in answer.json()["error"]
    answer = demo_client.post("/api/search", files={"picture": picture()})
    assert answer.status_code == 400
    assert "form" in answer.json()["error"]


def test_no_more_than_is_allowed_is_ever_read(demo_client):
    read = 0

    def body():
        nonlocal read
        for _ in range(1000):
            read += 50_000
            yield bytes(50_000)

    assert demo_client.post("/api/search", content=body()).status_code == 413


# An index that changes


def test_an_index_that_goes_away_is_searched_on(tmp_path):
    index = make_index(tmp_path / "i", [2] * 3)
    with serving(index.uri) as engine, answering(engine) as client:
        shutil.rmtree(index.uri)
        assert len(client.get("/api/search?q=a").json()["hits"]) == 3
        assert client.get("/api/moments?q=a&video_id=v001").status_code == 200


@pytest.fixture(scope="module", params=["being made", "of failures only"])
def empty_client(request, tmp_path_factory):
    uri = tmp_path_factory.mktemp("empty") / "i"
    if request.param == "being made":
        lance.write_dataset(runs_schema().empty_table(), uri / "runs.lance")
    else:
        make_index(uri, [1], failed=["broken"]).table("videos").delete("status = 'encoded'")
    with serving(uri) as engine, answering(engine) as client:
        yield client


def test_where_nothing_is_encoded_yet_nothing_is_found(empty_client):
    for asked in ("q=a", "q=a&from=2020-01-01&to=2030-01-01", "q=a&where=duration_s>1", "q=a&aggregation=max"):
        answer = empty_client.get(f"/api/search?{asked}")
        assert (answer.status_code, answer.json().get("hits")) == (200, []), answer.text
    assert empty_client.post("/api/search", content=picture()).json()["hits"] == []


def test_where_nothing_is_encoded_yet_what_makes_no_sense_is_refused_all_the_same(empty_client):
    for asked in ("where=nonsense", "where=nosuch=1", "where=repeat('a',9)='a'", "aggregation=nope", "temperature=nan"):
        answer = empty_client.get(f"/api/search?q=a&{asked}")
        assert (answer.status_code, list(answer.json())) == (400, ["error"]), asked
    assert "'nosuch=1'" in empty_client.get("/api/search?q=a&where=nosuch=1").json()["error"]
    assert empty_client.get("/api/search?like=x@1").status_code == 404
    assert empty_client.post("/api/search", content=b"no picture").status_code == 400


def test_a_corpus_too_small_for_a_cut_off_has_none(tmp_path):
    index = make_index(tmp_path / "i", [1] * 3, cells=False)
    with serving(index.uri) as engine, answering(engine) as client:
        answer = client.get("/api/search?q=a&by=moment").json()
        assert answer["cutoff"] is None
        assert all(hit["above_cutoff"] for hit in answer["hits"])
        assert {hit["placeholder"] for hit in answer["hits"]} == {None}


def test_the_api_describes_itself(client):
    paths = client.get("/openapi.json").json()["paths"]
    parameters = {one["name"] for one in paths["/api/search"]["get"]["parameters"]}
    assert {"q", "like", "top_k", "by", "per_video", "where", "exact", "sort", "index", "folder", "codec"} <= parameters
    assert {"temperature", "gate_temperature", "recall", "rerank", "weight", "cascade_k"} <= parameters
    of_one = {one["name"] for one in paths["/api/moments"]["get"]["parameters"]}
    assert {"video_id", "q", "like", "top_k", "aggregation", "temperature", "index"} <= of_one
    assert not of_one & {"where", "folder", "codec", "from", "by", "per_video", "exact", "sort"}, (
        "they do nothing there"
    )
    for path in ("/api/search", "/api/moments"):
        for how in ("get", "post"):
            assert "$ref" in str(paths[path][how]["responses"]["200"]["content"]["application/json"]["schema"])
