import json
import os

import numpy as np
import pytest

from qasir.encoding.durations import read_durations
from qasir.encoding.feature_corpus import FeatureCorpus
from qasir.encoding.import_features import FeatureStages, import_features
from qasir.encoding.import_options import ImportOptions
from qasir.encoding.options import EncodeOptions, ReindexOptions
from qasir.encoding.prepare_import import prepare_import
from qasir.encoding.reindex import plan_reindex
from qasir.errors import FeaturesError, IndexHeldError, ModelError, SpecError
from qasir.index.index import Index
from qasir.index.snapshot import matrix
from qasir.retrieval.asking import Like, Picture
from qasir.retrieval.opening import open_hybrid, open_index
from tests.features import WRITERS, write_hdf5, write_npy, write_npz
from tests.indexes import unit, writing

LENGTHS = {"b": 7, "a": 4, "c": 1}
LABEL = ImportOptions("somebody's CLIP", fps=2.0)


@pytest.fixture
def arrays():
    rng = np.random.default_rng(3)
    return {name: unit(rng.standard_normal((n, 8))).astype(np.float16) for name, n in LENGTHS.items()}


def imported(path, uri, options=LABEL):
    corpus = FeatureCorpus(str(path), options)
    index = prepare_import(corpus, str(uri))
    return index, import_features(corpus, index)


def vectors_of(index, video_id):
    return matrix(index.snapshot().super_images(video_ids=[video_id])["embedding"], index.spec.embedding_dim)


@pytest.mark.parametrize("form", WRITERS)
def test_features_become_an_ordinary_index_of_grid_1(form, arrays, tmp_path):
    path = WRITERS[form](tmp_path / "f.h5", arrays)
    index, summary = imported(path, tmp_path / "i")
    assert (summary.encoded, summary.failed, summary.super_images) == (3, 0, 12)
    index = Index.open(index.uri)
    assert (index.spec.grid, index.spec.embedding_dim, index.spec.features) == (1, 8, "as given")
    for name, array in arrays.items():
        np.testing.assert_array_equal(vectors_of(index, name), array)
    rows = {row["video_id"]: row for row in index.snapshot().videos().to_pylist()}
    assert rows["b"]["duration_s"] == 3.5
    assert (rows["b"]["n_sampled"], rows["b"]["n_super_images"], rows["b"]["fps"]) == (7, 7, 2.0)
    assert rows["b"]["uri"].endswith("#b")
    assert rows["b"]["modified_at"] is not None
    assert not os.path.exists(rows["b"]["uri"])
    np.testing.assert_allclose(rows["b"]["embedding"], arrays["b"].astype(float).mean(axis=0), atol=1e-3)
    spans = index.snapshot().super_images(["start_s", "end_s", "n_valid", "cell_s"], video_ids=["a"]).to_pylist()
    assert [(row["start_s"], row["end_s"], row["n_valid"], row["cell_s"]) for row in spans] == [
        (0.0, 0.5, 1, [0.0]), (0.5, 1.0, 1, [0.5]), (1.0, 1.5, 1, [1.0]), (1.5, 2.0, 1, [1.5]),
    ]  # fmt: skip


def test_only_what_is_new_or_changed_is_imported(arrays, tmp_path):
    folder = write_npy(tmp_path / "f", {"a": arrays["a"], "b": arrays["b"]})
    index, _ = imported(folder, tmp_path / "i")
    assert imported(folder, index.uri)[1].unchanged == 2
    np.save(folder / "c.npy", arrays["c"])
    np.save(folder / "a.npy", arrays["a"][:3])
    _, summary = imported(folder, index.uri)
    assert (summary.encoded, summary.unchanged) == (2, 1)
    np.testing.assert_array_equal(vectors_of(Index.open(index.uri), "a"), arrays["a"][:3])
    (folder / "b.npy").unlink()
    assert imported(folder, index.uri)[1].unchanged == 2
    assert "b" in Index.open(index.uri).states()  # nothing is removed


def test_a_killed_import_goes_on_from_what_was_committed(arrays, tmp_path, monkeypatch):
    path = write_hdf5(tmp_path / "f.h5", arrays)
    monkeypatch.setattr("qasir.encoding.import_features._ROWS_AT_ONCE", 5)
    corpus = FeatureCorpus(str(path), LABEL)
    index = prepare_import(corpus, str(tmp_path / "i"))
    read = FeatureCorpus.load

    def dying(self, video_id):
        if video_id == "c":
            raise KeyboardInterrupt
        return read(self, video_id)

    monkeypatch.setattr(FeatureCorpus, "load", dying)
    with pytest.raises(KeyboardInterrupt):
        import_features(corpus, index, EncodeOptions(commit_every_s=0))
    assert set(index.states()) == {"a", "b"}
    monkeypatch.setattr(FeatureCorpus, "load", read)
    _, summary = imported(path, index.uri)
    assert (summary.encoded, summary.unchanged, summary.super_images) == (1, 2, 1)
    with writing(index), pytest.raises(IndexHeldError):
        imported(path, index.uri)


def test_committed_rows_are_not_written_again(arrays, tmp_path):
    path = write_hdf5(tmp_path / "f.h5", arrays)
    corpus = FeatureCorpus(str(path), LABEL)
    index = prepare_import(corpus, str(tmp_path / "i"))
    from qasir.encoding.rows import plan_table

    with writing(index):
        plan = plan_table(list(corpus.corpus.videos[1:2]), {"b": {0: [0, 1, 5]}})
        report, written = FeatureStages(corpus, index).run(plan)
    assert (report.n_super_images, report.n_new) == (7, 4)
    assert written.videos["b"][0] == [2, 3, 4, 6]


def test_durations_spread_frames_evenly(arrays, tmp_path):
    path = write_hdf5(tmp_path / "f.h5", {f"v_{name}": array for name, array in arrays.items()})
    stated = tmp_path / "d.json"
    stated.write_text(json.dumps({"a": 10, "v_b": {"duration": 21.0}, "c": 3.5, "x": 1}))
    options = ImportOptions("label", durations=stated, strip_prefix="v_")
    index, summary = imported(path, tmp_path / "i", options)
    assert summary.video_seconds == 34.5
    assert Index.open(index.uri).spec.fps == 0.0
    spans = index.snapshot().super_images(["start_s", "end_s"], video_ids=["a"]).to_pylist()
    assert [(row["start_s"], row["end_s"]) for row in spans] == [(0.0, 2.5), (2.5, 5.0), (5.0, 7.5), (7.5, 10.0)]
    stated.write_text(json.dumps({"a": 12, "b": 21.0, "c": 3.5}))
    assert imported(path, index.uri, options)[1].encoded == 1  # that of another length
    stated.write_text(json.dumps({"a": 12}))
    with pytest.raises(FeaturesError, match=r"d.json: no duration of 2 of the 3 videos of .*: b, c; its ids are a"):
        imported(path, index.uri, options)
    hits = open_index(index.uri).search(Like("b", 20.9), top_k=1)
    assert (hits[0].video_id, hits[0].end_s) == ("b", 21.0)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("d.jsonl", '{"vid_name": "a", "duration": 3}\n\n{"vid_name": "a", "duration": 3.0}\n', {"a": 3.0}),
        ("d.csv", "video_id,duration\na,3\nb,4.5\n", {"a": 3.0, "b": 4.5}),
        ("d.jsonl", '{"vid": "a", "duration": 3}\n{"vid": "a", "duration": 4}', "two durations of 'a': 3 and 4"),
        ("d.json", '{"a": 0}', "the duration of 'a' is 0, not a number of seconds above 0"),
        ("d.json", '{"a": "long"}', "'long', not a number"),
        ("d.json", '["a"]', "no ids with durations"),
        ("d.json", '{"a"', "no ids with durations"),
        ("d.csv", "id,length\na,3\n", "a line without one of video_id"),
        ("d.txt", "a 3", "durations are read from .json, .jsonl, .csv"),
    ],
)
def test_durations_are_read_or_refused(name, text, expected, tmp_path):
    path = tmp_path / name
    path.write_text(text)
    if isinstance(expected, dict):
        assert read_durations(path) == expected
        return
    with pytest.raises(FeaturesError, match=f"{name}.*{expected}"):
        read_durations(path)


def test_pooled_features_stand_in_for_super_images(arrays, tmp_path):
    path = write_npz(tmp_path / "f", arrays)
    index, _ = imported(path, tmp_path / "i", ImportOptions("label", fps=2.0, grid=2, pool="mean"))
    assert index.spec.features == "as given, mean of 2 x 2"
    rows = index.snapshot().super_images(["start_s", "end_s", "n_valid", "cell_s"], video_ids=["b"]).to_pylist()
    assert [(row["start_s"], row["end_s"], row["n_valid"]) for row in rows] == [(0.0, 2.0, 4), (2.0, 3.5, 3)]
    assert [row["cell_s"] for row in rows] == [[0.0, 0.5, 1.0, 1.5], [2.0, 2.5, 3.0]]
    whole = arrays["b"].astype(np.float64)
    expected = unit(np.stack([whole[:4].mean(axis=0), whole[4:].mean(axis=0)]))
    np.testing.assert_allclose(vectors_of(index, "b"), expected, atol=1e-3)


def test_one_bad_video_is_a_failed_row_and_stops_nothing(arrays, tmp_path, caplog):
    bad = {f"x{i}": unit(np.ones((2, 8))) for i in range(6)}
    bad["x0"] = bad["x0"] * 3
    bad["x1"] = bad["x1"][:, :5]
    bad["x2"][0, 0] = np.nan
    bad["x3"] = bad["x3"].astype(np.int32)
    folder = write_npy(tmp_path / "f", {**arrays, "aa": arrays["a"], "ab": arrays["a"], **bad})
    (folder / "x4.npy").write_bytes((folder / "x4.npy").read_bytes()[:-3])
    index, summary = imported(folder, tmp_path / "i")
    assert (summary.encoded, summary.failures_by_kind) == (6, {"features": 4, "not_finite": 1})
    errors = {v: state.error for v, state in index.states().items() if state.status == "failed"}
    assert set(errors) == {"x0", "x1", "x2", "x3", "x4"}
    assert "x0.npy: x0: 2 of 2 rows are not of length 1, 0 first (3)" in errors["x0"]
    assert "5 dimensions, where 8 are wanted" in errors["x1"]
    assert "is it written whole?" in errors["x4"]
    assert all(error in caplog.text for error in errors.values())
    np.save(folder / "x0.npy", bad["x0"] / 3)
    assert imported(folder, index.uri)[1].encoded == 1


def test_what_is_wrong_from_the_start_writes_nothing(arrays, tmp_path):
    lengths = write_npy(tmp_path / "lengths", {name: 2 * array for name, array in arrays.items()})
    with pytest.raises(FeaturesError, match=r"a.npy: a: 4 of 4 rows are not of length 1, 0 first \(2\): --normalise"):
        imported(lengths, tmp_path / "i")
    dims = write_npy(tmp_path / "dims", {"a": arrays["a"], "b": unit(np.ones((2, 5)))})
    with pytest.raises(FeaturesError, match="different dimensions: a 8, b 5"):
        imported(dims, tmp_path / "i")
    whole = write_npy(tmp_path / "whole", arrays)
    for options, error, message in [
        (ImportOptions("label"), SpecError, "either --fps or --durations"),
        (ImportOptions("label", fps=1, durations=tmp_path), SpecError, "either --fps or --durations"),
        (ImportOptions("label", fps=1, grid=2), SpecError, "--grid above 1 and --pool go together"),
        (ImportOptions("label", fps=1, pool="mean"), SpecError, "go together"),
        (ImportOptions("label", fps=1, grid=2, pool="max"), SpecError, "pool 'max': choose one of mean"),
        (
            ImportOptions("label", fps=1, strip_prefix="v_"),
            FeaturesError,
            "no id begins with --strip-prefix v_; ids",
        ),
        (ImportOptions("label", fps=1, strip_prefix="a"), FeaturesError, "leaves nothing of the id 'a'"),
        (ImportOptions("qasir-tiny", fps=1), SpecError, "vectors of 8 dimensions, and qasir-tiny those of"),
        (ImportOptions("nothing", "laion2b", fps=1), ModelError, "unknown model"),
    ]:
        with pytest.raises(error, match=message):
            imported(whole, tmp_path / "i", options)
    assert not (tmp_path / "i").exists()
    index, _ = imported(lengths, tmp_path / "i", ImportOptions("label", fps=2.0, normalise=True))
    with pytest.raises(SpecError, match="features: normalised in the index, as given asked for"):
        imported(whole, index.uri, LABEL)


def test_an_index_of_a_label_is_searched_by_places_and_says_why_not_by_words(arrays, tmp_path):
    index, _ = imported(write_hdf5(tmp_path / "f.h5", arrays), tmp_path / "i")
    searcher = open_index(index.uri)
    hits = searcher.search(Like("b", 1.2), top_k=1)
    assert (hits[0].video_id, hits[0].start_s) == ("b", 1.0)
    for asked in ("a cat", Picture(b"no picture")):
        with pytest.raises(ModelError, match='their model "somebody\'s CLIP" is only a label'):
            searcher.search(asked)
    corpus = FeatureCorpus(str(tmp_path / "f.h5"), LABEL).corpus
    with pytest.raises(SpecError, match="holds imported features of .*f.h5.*jobs/import_features.py"):
        plan_reindex(corpus, index, ReindexOptions())


def test_two_imported_indexes_are_ranked_together(arrays, tmp_path):
    rng = np.random.default_rng(9)
    other = {name: unit(rng.standard_normal((n, 6))) for name, n in LENGTHS.items()}
    for name, some in (("large", arrays), ("small", other)):
        imported(write_npy(tmp_path / f"{name}.f", some), tmp_path / name)
    hits = open_hybrid(str(tmp_path / "large"), str(tmp_path / "small")).search(Like("b", 1.2), top_k=3)
    assert hits[0].video_id == "b"
    assert len(hits) == 3
