"""Names and rows that nobody wrote with care, encoded and re-indexed."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

import qasir
from qasir.encoding.corpus_config import load_corpus_config
from qasir.encoding.options import EncoderOptions
from qasir.errors import ConfigError, SpecError, UriError
from qasir.index.index import Index
from qasir.study.config import load_study_config
from qasir.video.corpus import list_videos
from tests.indexes import writing
from tests.qasir.encoding.stubs import SPEC, encode_stubbed
from tests.videos import write_video

MODEL = EncoderOptions(grid=2, fps=2.0, image_size=96)


def rows(index):
    """{id: row} of `videos`."""
    return {row["video_id"]: row for row in index.table("videos").to_table().to_pylist()}


def move(path, name):
    """Give a file, or a folder, a name of any bytes."""
    path.rename(os.fsdecode(os.fsencode(path.parent) + b"/" + name))


@pytest.mark.parametrize("isolate", [False, True])
def test_videos_whose_names_are_not_utf8_are_encoded_like_any_other(tmp_path, isolate):
    write_video(tmp_path / "v" / "good.mp4", 10)
    move(write_video(tmp_path / "v" / "bad.mp4", 20), b"\xff.mp4")
    write_video(tmp_path / "v" / "folder" / "cut.mkv", 30)  # whose size is looked at, too
    move(tmp_path / "v" / "folder", b"caf\xe9")
    move(tmp_path / "v", b"\xfcber")
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/\xfcber")
    summary = qasir.encode(folder, tmp_path / "index", model=MODEL, isolate=isolate)
    assert (summary.encoded, summary.failed) == (3, 0)
    index = Index.open(str(tmp_path / "index"))
    found = rows(index)
    assert {video_id: row["n_sampled"] for video_id, row in found.items()} == {"good": 2, r"\xff": 4, r"caf\xe9/cut": 6}
    assert found[r"\xff"]["uri"] == f"file://{tmp_path}/%FCber/%FF.mp4"
    again = list_videos(index.corpus_source)
    index.check_root(again.root)
    assert {v.video_id: v.fingerprint for v in again.videos} == {v: row["fingerprint"] for v, row in found.items()}
    assert qasir.encode(folder, tmp_path / "index", model=MODEL, isolate=isolate).unchanged == 3
    with writing(index) as writer:
        writer.remove([r"\xff"])
    assert set(rows(index)) == {"good", r"caf\xe9/cut"}
    assert qasir.encode(folder, tmp_path / "index", model=MODEL, isolate=isolate).encoded == 1
    assert rows(index)[r"\xff"]["n_sampled"] == 4


def test_bad_rows_of_a_manifest_are_failed_rows_and_the_rest_is_encoded(tmp_path):
    secret = "wJalrXUtn"
    uris = {
        "good": str(write_video(tmp_path / "v.mp4", 10)), "lone": "\ud800.mp4", "nul": "a\0.mp4", "gone": "gone.mp4",
        "http": "http://127.0.0.1:1/a.mp4", "query": "s3://bucket/a.mp4?versionId=3", "empty": "",
        "secret": f"s3://AKIA:{secret}@bucket/a.mp4", "signed": f"https://h/a.mp4?X-Amz-Signature={secret}",
    }  # fmt: skip
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps({"uri": uri, "video_id": name}) + "\n" for name, uri in uris.items()))
    summary, index = encode_stubbed(manifest, tmp_path / "index")
    assert (summary.encoded, summary.failures_by_kind) == (1, {"io": len(uris) - 1})
    found = rows(index)
    assert found["http"]["error"].startswith("videos are not read over http://")
    assert found["secret"]["uri"] == "s3://***@bucket/a.mp4"
    for table in ("videos", "runs", "super_images"):
        assert secret not in str(index.table(table).to_table().to_pylist()) + str(index.table(table).schema.metadata)
    summary, _ = encode_stubbed(manifest, tmp_path / "index")
    assert (summary.encoded, summary.failed - summary.failed_again) == (0, 0)
    # A row that is spoilt takes nothing away of what its video has.
    manifest.write_text(manifest.read_text().replace(uris["good"], "http://127.0.0.1:1/v.mp4"))
    summary, _ = encode_stubbed(manifest, tmp_path / "index")
    assert (summary.failed - summary.failed_again, rows(index)["good"]) == (0, found["good"])


def test_an_index_made_of_a_file_uri_is_the_same_as_one_of_its_path(tmp_path):
    write_video(tmp_path / "v" / "a.mp4", 10)
    index = Index.open_or_new(str(tmp_path / "index"), SPEC, f"file://{tmp_path}/v", f"file://{tmp_path}/v")
    index.check_root(list_videos(index.corpus_source).root)
    assert encode_stubbed(tmp_path / "v", tmp_path / "index")[0].encoded == 1
    with pytest.raises(SpecError, match="holds another corpus"):
        encode_stubbed(Path(write_video(tmp_path / "w" / "a.mp4", 10)).parent, tmp_path / "index")


SECRET = "s3://AKIA:wJalrXUtn@bucket"


def test_credentials_are_refused_wherever_an_index_is_named(tmp_path):
    for use in (Index.open, Index.find, qasir.open_index, qasir.open_tables):
        with pytest.raises(UriError, match=r"s3://\*\*\*@bucket/index carries credentials"):
            use(f"{SECRET}/index")
    write_video(tmp_path / "v" / "a.mp4", 10)
    with pytest.raises(UriError, match="carries credentials"):
        Index.open_or_new(f"{SECRET}/index", replace(SPEC), str(tmp_path / "v"))
    with pytest.raises(UriError, match=r"\\xff is not UTF-8"):
        Index.open(os.fsdecode(b"/tmp/\xff"))


def test_a_configuration_may_name_files_by_uri(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("videos: file:///a/b%20c\nindexes:\n  - uri: file:///index\n  - uri: s3://bucket/index\n")
    config = load_corpus_config(path)
    assert (config.videos, *(index.uri for index in config.indexes)) == ("/a/b c", "/index", "s3://bucket/index")


@pytest.mark.parametrize(
    ("load", "text", "where"),
    [
        (load_corpus_config, f"videos: {SECRET}/v\nindexes:\n  - uri: index\n", "1: videos"),
        (load_corpus_config, f"videos: v\nindexes:\n  - uri: {SECRET}/index\n", r"3: indexes\[0\].uri"),
        (load_study_config, f"queries: q\nencoders: [{{grid: 2}}]\nvideos: {SECRET}/v\n", "3: videos"),
        (load_study_config, f"videos: v\nqueries: {SECRET}/q\nencoders: [{{grid: 2}}]\n", "2: queries"),
    ],
)
def test_credentials_in_a_configuration_are_refused_with_their_line(tmp_path, load, text, where):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"c\.yaml:{where}: s3://\*\*\*@bucket/\w+ carries credentials") as refused:
        load(path)
    assert "wJalr" not in str(refused.value)
