import pytest
from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.testclient import TestClient

from qasir.app.portions import Portions

CONTENT = bytes(range(256)) * 4


@pytest.fixture
def get(tmp_path):
    (tmp_path / "a.bin").write_bytes(CONTENT)
    app = FastAPI()

    @app.api_route("/media/a", methods=["GET", "HEAD"])
    @app.get("/api/a")
    def media() -> FileResponse:
        return FileResponse(tmp_path / "a.bin")

    def made(path="/media/a", *, method="GET", asked=None, whole=10_000, root_path=""):
        client = TestClient(Portions(app, portion=100, whole=whole), root_path=root_path)
        return client.request(method, path, headers={"range": asked} if asked else None)

    return made


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-", 0, 99),
        ("bytes=1000-", 1000, 1023),
        ("bytes=10-19", 10, 19),
        ("bytes=10-109", 10, 109),
        ("bytes=10-110", 10, 109),
        ("bytes=10-999999999999999999", 10, 109),
        ("bytes=-10", 1014, 1023),
        ("bytes=-1000", 924, 1023),
    ],
)
def test_a_range_is_answered_by_one_portion(get, asked, first, last):
    answer = get(asked=asked)
    assert answer.status_code == 206
    assert answer.headers["content-range"] == f"bytes {first}-{last}/1024"
    assert answer.content == CONTENT[first : last + 1]


@pytest.mark.parametrize("asked", [None, "bytes=0-1,5-6", "bytes=-", "bytes=a-b", "lines=0-", "bytes=1-2;x"])
def test_without_one_range_a_small_file_comes_whole_and_a_large_one_not(get, asked):
    assert (get(asked=asked).status_code, get(asked=asked).content) == (200, CONTENT)
    answer = get(asked=asked, whole=1023)
    assert answer.status_code == 413
    assert answer.json() == {"error": "it is larger than 1,023 bytes: ask for ranges of it"}


def test_it_finds_videos_where_the_application_is_mounted(get):
    answer = get("/under/media/a", asked="bytes=0-", root_path="/under")
    assert answer.headers["content-range"] == "bytes 0-99/1024"


def test_what_is_no_video_or_has_no_range_is_left_alone(get):
    assert get("/api/a", asked="bytes=0-", whole=10).content == CONTENT
    assert get(asked="bytes=2000-").status_code == 416
    assert get(method="HEAD").headers["content-length"] == "1024"
