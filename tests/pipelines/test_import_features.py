"""Importing on Ray: that it gives the rows that one process gives, and survives what only happens on Ray."""

import numpy as np
import pytest

from pipelines import import_features as pipeline
from pipelines.import_features import Files, RayFeatureStages, on_ray
from qasir.encoding.feature_corpus import FeatureCorpus
from qasir.encoding.import_features import import_features
from qasir.encoding.import_options import ImportOptions
from qasir.encoding.options import EncodeOptions
from qasir.encoding.prepare_import import prepare_import
from qasir.encoding.run import run_encoding
from tests.features import write_hdf5, write_npy
from tests.indexes import unit
from tests.pipelines.feature_faults import DiesOfB, DiesOnce

OPTIONS = ImportOptions("label", fps=2.0)
NAMES = ("a", "b", "c", "d", "e", "f", "g", "h", "i")


@pytest.fixture
def arrays():
    rng = np.random.default_rng(8)
    return {name: unit(rng.standard_normal((5 + i, 8))).astype(np.float16) for i, name in enumerate(NAMES)}


def on_workers(path, uri, make_files=None):
    features = FeatureCorpus(str(path), OPTIONS)
    index = prepare_import(features, str(uri))
    stages = RayFeatureStages(features, index, None if make_files is None else make_files(features))
    return index, run_encoding(features.corpus, [index], stages, EncodeOptions())[0]


def rows_of(index):
    """The tables, but for when they were written."""
    images = index.table("super_images").to_table().sort_by([("video_id", "ascending"), ("position", "ascending")])
    videos = index.table("videos").to_table().sort_by("video_id").drop_columns(["encoded_at"])
    return images.to_pylist(), videos.to_pylist()


@pytest.mark.ray
def test_the_rows_are_those_that_one_process_writes(local_ray, arrays, tmp_path):
    arrays["c"][1, 0] = np.nan
    path = write_hdf5(tmp_path / "f.h5", arrays)
    index, summary = on_workers(path, tmp_path / "ray")
    assert (summary.encoded, summary.failures_by_kind) == (8, {"not_finite": 1})
    features = FeatureCorpus(str(path), OPTIONS)
    plain = prepare_import(features, str(tmp_path / "here"))
    import_features(features, plain)
    assert rows_of(index) == rows_of(plain)
    assert on_workers(path, index.uri)[1].unchanged == 9


@pytest.mark.ray
def test_a_worker_that_dies_is_replaced(local_ray, arrays, tmp_path):
    path = write_hdf5(tmp_path / "f.h5", arrays)
    _, summary = on_workers(path, tmp_path / "i", lambda features: DiesOnce(features, tmp_path / "died"))
    assert (tmp_path / "died").exists()
    assert (summary.encoded, summary.failed, summary.super_images) == (9, 0, sum(map(len, arrays.values())))


@pytest.mark.slow  # seven workers die of it
@pytest.mark.ray
def test_what_kills_its_reader_is_a_failed_row(local_ray, arrays, tmp_path):
    path = write_npy(tmp_path / "f", arrays)
    index, summary = on_workers(path, tmp_path / "i", lambda f: DiesOfB(f.path, f.options, f.version))
    assert (summary.encoded, summary.failures_by_kind) == (8, {"crashed": 1})
    assert "the process that reads its features dies" in index.states()["b"].error


@pytest.mark.ray
def test_a_file_that_changes_meanwhile_is_not_taken_for_what_was_listed(local_ray, arrays, tmp_path):
    path = write_hdf5(tmp_path / "f.h5", arrays)

    def change(features):
        found = Files(features.path, features.options, "as it will be")
        write_hdf5(tmp_path / "new.h5", {**arrays, "a": arrays["a"][:2]}).replace(path)
        return found

    index, summary = on_workers(path, tmp_path / "i", change)
    assert (summary.encoded, summary.failures_by_kind) == (0, {"features": 9})
    assert "changed since it was listed" in index.states()["b"].error
    assert on_workers(path, index.uri)[1].encoded == 9


def test_ray_is_for_large_features_on_a_cluster(arrays, tmp_path, monkeypatch):
    features = FeatureCorpus(str(write_npy(tmp_path / "f", arrays)), OPTIONS)
    assert features.n_bytes == sum(path.stat().st_size for path in (tmp_path / "f").iterdir())
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(pipeline, "LARGE", features.n_bytes)
    assert not on_ray(features)
    monkeypatch.setenv("RAY_ADDRESS", "ray.example:6379")
    assert on_ray(features)
    monkeypatch.setattr(pipeline, "LARGE", features.n_bytes + 1)
    assert not on_ray(features)
