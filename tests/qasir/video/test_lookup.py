"""Videos on an object store, looked up one by one."""

import json
from dataclasses import replace

import pytest

from qasir.errors import CorpusError
from qasir.video import lookup
from qasir.video.corpus import MISSING, UNREACHABLE, current_fingerprint, list_files, list_videos
from qasir.video.opening import _open_bytes
from tests.stores import bucket_server

FOUND = "1-1767225600000000000"


@pytest.fixture
def serve(monkeypatch):
    """Serves objects as `bucket_server` does, to this process."""
    opened = []

    def start(objects):
        server = bucket_server(objects)
        opened.append(server)
        bucket = server.__enter__()
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        return bucket

    yield start
    for server in opened:
        server.__exit__(None, None, None)


def manifest(folder, *uris):
    path = folder / "m.jsonl"
    path.write_text("".join(json.dumps({"uri": uri}) + "\n" for uri in uris))
    return str(path)


def test_an_object_that_is_refused_is_a_row_of_its_own(serve, tmp_path):
    serve({"a.mp4": b"x", "secret.mp4": 403, "broken.mp4": 501})
    names = [f"s3://bucket/{name}.mp4" for name in ("a", "secret", "broken", "gone")]
    looks = {v.video_id: (v.fingerprint, v.problem) for v in list_videos(manifest(tmp_path, *names)).videos}
    assert looks["bucket/a"] == (FOUND, None)
    assert looks["bucket/gone"] == (MISSING, "no such file")
    assert looks["bucket/secret"][0] == looks["bucket/broken"][0] == UNREACHABLE
    assert "ACCESS_DENIED" in looks["bucket/secret"][1]
    assert current_fingerprint(names[0]) == FOUND
    assert current_fingerprint(names[3]) == MISSING
    with pytest.raises(OSError, match="ACCESS_DENIED"):
        current_fingerprint(names[1])


def test_names_that_are_no_uri_as_they_are_can_be_listed_and_opened(serve, tmp_path):
    keys = ["v/a b.mp4", "v/é.mp4", "v/100%.mp4", "v/%41.mp4", "v/x#1.mp4", "v/is it?.mp4", "v/[1]*.mp4", "v/&=.mp4"]
    serve(dict.fromkeys(keys, b"x"))
    corpus = list_videos("s3://bucket/v")
    assert [video.video_id for video in corpus.videos] == sorted(key[2:-4] for key in keys)
    assert (corpus.root, corpus.videos[-1].uri) == ("s3://bucket/v", "s3://bucket/v/é.mp4")
    for video in corpus.videos:
        assert current_fingerprint(video.uri) == FOUND, video.uri
        with _open_bytes(video.uri) as file:
            assert file.read() == b"x"
    uris = [video.uri for video in corpus.videos]
    assert [video.fingerprint for video in list_videos(manifest(tmp_path, *uris)).videos] == [FOUND] * len(keys)
    assert list_files(uris) == replace(corpus, source=corpus.root)


def test_a_manifest_on_a_store_names_what_lies_beside_it(serve):
    serve({"v/m.csv": b"uri\na b.mp4\n100%41.mp4\ns3://bucket/v/%41.mp4\n", "v/a b.mp4": b"x", "v/100%41.mp4": b"x",
           "v/A.mp4": b"x"})  # fmt: skip
    corpus = list_videos("s3://bucket/v/m.csv")
    assert corpus.root == "s3://bucket/v/m.csv"
    assert [(v.video_id, v.problem) for v in corpus.videos] == [("%41", None), ("100%41", None), ("a b", None)]


def test_the_options_of_a_store_go_along_with_its_videos(serve, monkeypatch):
    bucket = serve({"v/a.mp4": b"x", "v/b/c.mp4": b"x", "v/.d/e.mp4": b"x"})
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    options = f"?region=us-east-1&scheme=http&endpoint_override=127.0.0.1:{bucket.port}"
    corpus = list_videos("s3://bucket/v" + options)
    assert (corpus.root, corpus.source) == ("s3://bucket/v", "s3://bucket/v" + options)
    assert [(v.video_id, v.uri) for v in corpus.videos] == [
        ("a", "s3://bucket/v/a.mp4" + options),
        ("b/c", "s3://bucket/v/b/c.mp4" + options),
    ]
    assert current_fingerprint(corpus.videos[0].uri) == FOUND
    assert corpus.skipped == {"hidden files": 1}
    assert [v.video_id for v in list_videos("s3://bucket/v/*.mp4" + options).videos] == ["a"]
    assert list_videos("s3://bucket/v/a.mp4" + options).videos[0].fingerprint == FOUND


def test_a_store_that_answers_nothing_is_not_asked_for_every_row(serve, tmp_path):
    bucket = serve({f"{i}.mp4": 403 for i in range(400)})
    (tmp_path / "here.mp4").write_bytes(b"x")
    names = [f"s3://bucket/{i}.mp4" for i in range(400)]
    videos = list_videos(manifest(tmp_path, *names, "here.mp4")).videos
    assert len(bucket.asked) == lookup.FIRST
    assert [video.video_id for video in videos if video.problem is None] == ["here"]
    assert {video.fingerprint for video in videos if video.problem is not None} == {UNREACHABLE}


def test_many_are_asked_for_at_once_and_stay_in_order(serve, tmp_path):
    bucket = serve({f"{i:03}.mp4": b"x" * i for i in range(300)})
    videos = list_videos(manifest(tmp_path, *(f"s3://bucket/{i:03}.mp4" for i in range(300)))).videos
    assert [video.size_bytes for video in videos] == list(range(300))
    assert sorted(bucket.asked) == [f"{i:03}.mp4" for i in range(300)]


def test_credentials_are_refused_wherever_videos_are_named(tmp_path):
    secret = "s3://AKIA:wJalrXUtn@bucket"
    for list_them in (lambda: list_videos(f"{secret}/videos"), lambda: list_files([f"{secret}/a.mp4"])):
        with pytest.raises(CorpusError, match=r"s3://\*\*\*@bucket/.* carries credentials") as refused:
            list_them()
        assert "wJalr" not in str(refused.value)
