"""Manifests whose rows nobody wrote with care."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qasir.errors import CorpusError
from qasir.video.corpus import MISSING, UNREACHABLE, list_videos


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    return tmp_path


def listed(folder, name, content):
    """{id: video} of a manifest."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return {video.video_id: video for video in list_videos(str(path)).videos}


def rows(*uris):
    return "\n".join(json.dumps({"uri": uri}) for uri in uris)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-be"])
@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_a_byte_order_mark_says_the_encoding(folder, name, encoding):
    (folder / "é.mp4").write_bytes(b"x")
    text = "uri\r\na.mp4\r\né.mp4\r\n" if name == "m.csv" else '{"uri": "a.mp4"}\r\n{"uri": "é.mp4"}\r\n'
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    videos = listed(folder, name, (mark + text).encode(encoding))
    assert sorted(videos) == ["a", "é"]
    assert all(video.problem is None for video in videos.values())


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("m.csv", "uri\na.mp4\nb,é.mp4\n".encode("latin-1"), r"m\.csv:3: byte 0xe9 at character 3 is not UTF-8: save"),
        ("m.jsonl", '{"uri": "“.mp4"}'.encode("cp1252"), r"m\.jsonl:1: byte 0x93 at character 10 is not UTF-8"),
        ("m.csv", "\ufeffuri\na.mp4\n".encode("utf-16-le") + b"\x00", r"m\.csv:3: byte 0x00 .* is not UTF-16-LE"),
        ("m.csv", "uri\na.mp4\n".encode("utf-16-le"), "UTF-16 without a byte-order mark"),
        ("m.csv", "path\na.mp4\n", "no column `uri`"),
        ("m.csv", 'uri\na.mp4\n"b.mp4\nc.mp4\n', r"m\.csv: not CSV after line 2: .*; is a quote left open"),
        ("m.jsonl", '{"uri": "a.mp4"}\n{oops\n', "m.jsonl:2: not JSON"),
        ("m.jsonl", "[" * 100_000, "m.jsonl:1: not JSON"),
        ("m.jsonl", '{"uri": ' + "1" * 5000 + "}", "m.jsonl:1: not JSON"),
        ("m.jsonl", "[]\n", "m.jsonl:1: not a JSON object"),
        ("m.jsonl", "\n", "no videos in"),
        ("m.parquet", "no", "not a parquet file"),
    ],
)
def test_a_manifest_that_is_malformed_is_one_error(folder, name, content, says):
    with pytest.raises(CorpusError, match=says):
        listed(folder, name, content)


def test_a_parquet_file_without_a_uri_is_an_error(folder):
    pq.write_table(pa.table({"path": ["a.mp4"]}), folder / "m.parquet")
    with pytest.raises(CorpusError, match="no column `uri` .columns are path"):
        list_videos(str(folder / "m.parquet"))


ODD = ["line\u2028sep.mp4", "par\u2029.mp4", "vt\x0b.mp4", "ff\x0c.mp4", "nel\x85.mp4", "fs\x1c.mp4", "new\nline.mp4"]


@pytest.mark.parametrize("kind", ["jsonl", "jsonl, not escaped", "csv", "parquet"])
def test_what_separates_lines_elsewhere_is_a_character_of_a_name(folder, kind):
    for name in ODD:
        (folder / name).write_bytes(b"x")
    if kind == "parquet":
        pq.write_table(pa.table({"uri": [*ODD, "a.mp4"]}), folder / "m.parquet")
        videos = {video.video_id: video for video in list_videos(str(folder / "m.parquet")).videos}
    elif kind == "csv":
        videos = listed(folder, "m.csv", "uri\n" + "".join(f'"{name}"\n' for name in ODD) + "a.mp4\n")
    else:
        text = rows(*ODD, "a.mp4")
        if kind != "jsonl":
            text = "\n".join(json.dumps({"uri": uri}, ensure_ascii=False) for uri in [*ODD, "a.mp4"])
        videos = listed(folder, "m.jsonl", text)
    assert sorted(videos) == sorted(name.removesuffix(".mp4") for name in [*ODD, "a.mp4"])
    assert all(video.problem is None for video in videos.values())


def test_bad_rows_stay_in_the_list_and_say_what_is_wrong(folder):
    secret = "wJalrXUtn"
    os.mkfifo(folder / "pipe.mp4")
    text = "\n".join(
        [
            '{"uri": "a.mp4"}',
            '{"uri": "\\ud800.mp4"}',
            '{"uri": "nul\\u0000.mp4"}',
            '{"uri": "", "video_id": "empty"}',
            '{"video_id": "none"}',
            '{"uri": 3}',
            '{"uri": null}',
            '{"uri": "http://host/b.mp4"}',
            '{"uri": "ftp://host/c.mp4", "video_id": "ftp"}',
            '{"uri": "data:video/mp4;base64,AAAA"}',
            '{"uri": "s3://bucket/d.mp4?versionId=3"}',
            '{"uri": "s3://[bucket/e.mp4"}',
            f'{{"uri": "s3://AKIA:{secret}@bucket/f.mp4"}}',
            f'{{"uri": "https://host/g.mp4?X-Amz-Signature={secret}"}}',
            f'{{"uri": "{"n" * 300}.mp4", "video_id": "long"}}',
            '{"uri": "file://host/h.mp4", "video_id": "host"}',
            '{"uri": "."}',
            '{"uri": "/", "video_id": "root"}',
            '{"uri": "gone.mp4"}',
            '{"uri": "a.mp4/x.mp4"}',
            '{"uri": "pipe.mp4"}',
        ]
    )
    videos = listed(folder, "m.jsonl", text)
    problems = {video_id: (video.fingerprint, video.problem or "") for video_id, video in videos.items()}
    expected = {
        r"\ud800": (MISSING, "can be no file's name"),
        r"nul\x00": (MISSING, "can be no file's name"),
        "empty": (UNREACHABLE, "no uri in line 4"),
        "none": (UNREACHABLE, "no uri in line 5"),
        "m.jsonl:6": (UNREACHABLE, "no uri in line 6"),
        "m.jsonl:7": (UNREACHABLE, "no uri in line 7"),
        "host/b": (UNREACHABLE, "not read over http://"),
        "ftp": (UNREACHABLE, "not read over ftp://"),
        "data:video/mp4;base64,AAAA": (MISSING, "no such file"),
        "bucket/d": (UNREACHABLE, "Unexpected query parameter in S3 URI: 'versionId'"),
        "[bucket/e": (UNREACHABLE, "Cannot parse URI"),
        "***@bucket/f": (UNREACHABLE, "carries credentials"),
        "host/g": (UNREACHABLE, "carries credentials"),
        "long": (MISSING, "File name too long"),
        "host": (UNREACHABLE, "names a host"),
        ".": (MISSING, "a folder"),
        "root": (MISSING, "a folder"),
        "gone": (MISSING, "no such file"),
        "a.mp4/x": (MISSING, "Not a directory"),
        "pipe": (MISSING, "a pipe or a device, not a file"),
    }
    assert problems.pop("a") == (f"1-{os.stat(folder / 'a.mp4').st_mtime_ns}", "")
    assert problems.keys() == expected.keys()
    for video_id, (fingerprint, says) in expected.items():
        assert problems[video_id][0] == fingerprint, video_id
        assert says in problems[video_id][1], video_id
    for video in videos.values():
        written = f"{video}"
        written.encode()
        assert secret not in written


def test_a_name_that_is_not_utf8_is_given_by_its_bytes(folder):
    path = Path(os.fsdecode(os.fsencode(folder) + b"/\xff.mp4"))
    path.write_bytes(b"x")
    uri = f"file://{folder}/%FF.mp4"
    for given in (uri, "\udcff.mp4"):  # the second is what Python makes of such a name
        (video,) = listed(folder, "m.jsonl", json.dumps({"uri": given, "video_id": "v"})).values()
        assert (video.uri, video.problem) == (uri, None)
    names = pa.array([b"\xff.mp4"]).view(pa.string())  # Arrow does not look
    pq.write_table(pa.table({"uri": names}), folder / "m.parquet")
    (video,) = list_videos(str(folder / "m.parquet")).videos
    assert (video.video_id, video.uri, video.problem) == (r"\xff", uri, None)


def test_a_manifest_beside_names_that_are_not_utf8(folder):
    inner = Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9"))
    inner.mkdir()
    (inner / "a.mp4").write_bytes(b"x")
    (inner / "m.csv").write_text("uri\na.mp4\n")
    corpus = list_videos(str(inner / "m.csv"))
    assert [(v.video_id, v.uri, v.problem) for v in corpus.videos] == [("a", f"file://{folder}/caf%E9/a.mp4", None)]
    assert corpus.root == corpus.source == f"file://{folder}/caf%E9/m.csv"
    assert list_videos(corpus.source) == corpus
