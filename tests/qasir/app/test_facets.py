from datetime import UTC, date, datetime

import lance
import pyarrow as pa
import pytest

from qasir.app import facets
from qasir.app.facets import CodecCount, Days, FolderCount, Lengths, VideoFacets, method_facets, video_facets
from qasir.app.per_version import PerVersion
from qasir.encoding.options import EncoderOptions
from qasir.index.spec import EncoderSpec

STAMP = pa.timestamp("us", "UTC")
DAY = datetime(2026, 1, 31, 23, 30, tzinfo=UTC)


def spec(**changes):
    wanted = {"grid": EncoderOptions().grid, "cells": True} | changes
    return EncoderSpec("m", "p", "w", image_size=96, fps=1.0, embedding_dim=4, precision="fp32", **wanted)


@pytest.fixture
def write(tmp_path):
    def written(ids, **columns):
        n = len(ids)
        default = {"codec": ["h264"] * n, "duration_s": pa.array([1.0] * n), "status": ["encoded"] * n}
        return lance.write_dataset(pa.table({"video_id": ids} | default | columns), tmp_path / "v.lance", mode="append")

    return written


def test_videos_are_counted_by_codec_and_by_folder_with_what_is_beneath(write):
    ids = ["top", "a/x", "a/y", "a/b/z", "a/b\nc/z", "gone/x"]
    codecs = ["h264", "hevc", "h264", None, "h264", "av1"]
    found = video_facets(write(ids, codec=codecs, status=[*["encoded"] * 5, "failed"]))
    assert found.codecs == [CodecCount("h264", 3), CodecCount("hevc", 1)]
    assert found.folders == [FolderCount("a", 4), FolderCount("a/b", 1), FolderCount("a/b\nc", 1)]


def test_lengths_and_days_are_those_of_the_first_and_the_last(write):
    lengths, times = pa.array([None, 2.5, 90.0]), pa.array([None, DAY, None], STAMP)
    changed = pa.array([None, datetime(2027, 1, 1, tzinfo=UTC), datetime(2025, 5, 5, tzinfo=UTC)], STAMP)
    found = video_facets(write(["a", "b", "c"], duration_s=lengths, recorded_at=times, modified_at=changed))
    assert found.duration_s == Lengths(2.5, 90.0)
    assert found.dates == Days(date(2025, 5, 5), date(2026, 1, 31))


def test_of_nothing_and_of_an_older_index_nothing_is_said(write):
    assert video_facets(write(["a"], status=["failed"])) == VideoFacets([], [], None, None)
    assert video_facets(write(["a"])).dates is None


def test_of_many_folders_those_that_hold_most_are_named(write, monkeypatch):
    monkeypatch.setattr(facets, "FOLDERS", 2)
    ids = [f"small{i}/x" for i in range(9)] + ["large/x", "large/y", "larger/x", "larger/y", "larger/z"]
    assert video_facets(write(ids)).folders == [FolderCount("larger", 3), FolderCount("large", 2)]


def test_what_is_known_of_a_version_is_found_out_once(write, tmp_path):
    seen = []
    known = PerVersion(lambda table: seen.append(table.version) or table.count_rows())
    one = write(["a"])
    assert (known.of(one), known.of(one)) == (1, 1)
    assert known.of(write(["b"])) == 2
    assert seen == [1, 2]
    anew = lance.write_dataset(pa.table({"video_id": ["x"]}), tmp_path / "anew.lance")
    anew = lance.write_dataset(pa.table({"video_id": ["y"]}), tmp_path / "anew.lance", mode="append")
    assert known.of(anew) == 2
    assert seen == [1, 2, 2], "a version of the same number, but made at another time"


def test_the_methods_are_those_that_the_index_can_be_ranked_with():
    names = {one.name for one in method_facets(spec(), "i")}
    assert {"attention", "max", "mean", "coarse-to-fine"} <= names
    assert not any(name.startswith("sparse") for name in names), "they need a grid of 1"
    assert "sparse:2" in {one.name for one in method_facets(spec(grid=1), "i")}
    (attention,) = (one for one in method_facets(spec(), "i") if one.name == "attention")
    assert [(number.name, number.default) for number in attention.numbers] == [("temperature", 0.02)]
