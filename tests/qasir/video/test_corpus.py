import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qasir.errors import CorpusError
from qasir.video.corpus import MISSING, current_fingerprint, list_videos


@pytest.fixture
def folder(tmp_path):
    for name in ("a.mp4", "sub/b.MKV", "sub/deep/c.webm", "notes.txt", ".hidden.mp4"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


def ids(path):
    return [video.video_id for video in list_videos(str(path)).videos]


def test_a_folder_is_searched_for_videos(folder):
    corpus = list_videos(str(folder))
    assert [video.video_id for video in corpus.videos] == ["a", "sub/b", "sub/deep/c"]
    assert corpus.root == str(folder)
    assert corpus.videos[0].uri == str(folder / "a.mp4")


def test_a_glob_names_anything_and_ids_start_at_its_fixed_part(folder):
    assert ids(f"{folder}/*.mp4") == ["a"]
    assert ids(f"{folder}/**/*.webm") == ["sub/deep/c"]
    assert ids(f"{folder}/sub/**") == ["b", "deep/c"]
    assert ids(f"{folder}/sub/[ab].*") == ["b"]
    assert ids(f"{folder}/sub/[!ac].*") == ids(f"{folder}/sub/[^ac].*") == ["b"]
    assert list_videos(f"{folder}/sub/*").root == str(folder / "sub")


def test_two_stars_span_folders_beside_other_characters_too(folder):
    assert ids(f"{folder}/**.webm") == ["sub/deep/c"]
    assert ids(f"{folder}/**") == ["a", "notes", "sub/b", "sub/deep/c"]
    assert ids(f"{folder}/s**c.webm") == ids(f"{folder}/s***c.webm") == ["sub/deep/c"]
    assert ids(f"{folder}/s**b.MKV") == ["sub/b"]
    assert ids(f"{folder}/**/*.mp4") == ["a"]


def test_a_bracket_that_is_no_set_is_a_name(folder):
    (folder / "x[1.mp4").write_bytes(b"x")
    assert ids(f"{folder}/x[1.*") == ["x[1"]


def test_one_file(folder):
    assert ids(folder / "a.mp4") == ["a"]


def test_manifests(folder):
    (folder / "m.csv").write_text("video_id,uri\nfirst,a.mp4\n,sub/b.MKV\n")
    assert ids(folder / "m.csv") == ["first", "sub/b"]
    (folder / "m.jsonl").write_text("\n".join(json.dumps({"uri": str(folder / n)}) for n in ("a.mp4", "sub/b.MKV")))
    assert ids(folder / "m.jsonl") == ["a", "sub/b"]
    pq.write_table(pa.table({"uri": ["a.mp4"], "video_id": ["x"]}), folder / "m.parquet")
    assert ids(folder / "m.parquet") == ["x"]


def test_a_manifests_missing_video_stays_in_the_list(folder):
    (folder / "m.jsonl").write_text('{"uri": "gone.mp4"}\n')
    (video,) = list_videos(str(folder / "m.jsonl")).videos
    assert video.fingerprint == MISSING


def test_the_fingerprint_changes_with_the_file(folder):
    before = list_videos(str(folder / "a.mp4")).videos[0].fingerprint
    assert list_videos(str(folder / "a.mp4")).videos[0].fingerprint == before
    os.utime(folder / "a.mp4", ns=(1, 1))
    touched = list_videos(str(folder / "a.mp4")).videos[0].fingerprint
    (folder / "a.mp4").write_bytes(b"xy")
    assert len({before, touched, list_videos(str(folder / "a.mp4")).videos[0].fingerprint}) == 3


def test_a_file_can_be_looked_up_again(folder):
    (video,) = list_videos(str(folder / "a.mp4")).videos
    assert current_fingerprint(video.uri) == video.fingerprint
    (folder / "a.mp4").write_bytes(b"xy")
    assert current_fingerprint(video.uri) == list_videos(str(folder / "a.mp4")).videos[0].fingerprint
    (folder / "a.mp4").unlink()
    assert current_fingerprint(video.uri) == MISSING


def test_two_files_with_one_id_are_an_error_that_names_both(folder):
    (folder / "a.mkv").write_bytes(b"x")
    with pytest.raises(CorpusError, match=r"'a': .*a\.mkv and .*a\.mp4|'a': .*a\.mp4 and .*a\.mkv"):
        list_videos(str(folder))


def test_nothing_there(folder):
    with pytest.raises(CorpusError, match="no such folder or file"):
        list_videos(str(folder / "nowhere"))
    with pytest.raises(CorpusError, match="no such folder"):
        list_videos(str(folder / "nowhere" / "*.mp4"))
    with pytest.raises(CorpusError, match="no videos in"):
        list_videos(f"{folder}/*.avi")
    with pytest.raises(CorpusError, match="no such manifest"):
        list_videos(str(folder / "gone.csv"))
    (folder / "empty").mkdir()
    with pytest.raises(CorpusError, match="no videos in"):
        list_videos(str(folder / "empty"))
