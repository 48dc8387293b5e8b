"""Weights of a hub or a tag are known by the file that is loaded, and no other is loaded in its place."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from qasir.encoding.models import Target, load_models
from qasir.encoding.options import EncoderOptions
from qasir.encoding.prepare import prepare, source_to_extend
from qasir.errors import ModelError
from qasir.index.index import Index
from qasir.retrieval.opening import open_index
from qasir.video.corpus import Corpus, VideoFile
from qasir.vlm.model import Vlm
from qasir.vlm.open_clip_import import open_clip
from qasir.vlm.weights import resolve
from tests.indexes import make_index, new_index, writing

CORPUS = Corpus("/videos", "/videos", (VideoFile("a", "/videos/a.mp4", 1, "f"),))
HUB = "hf-hub:someone/tiny"


class Repository:
    """A repository as it lies in the local cache of a machine without a network: what a hub gave it last."""

    def __init__(self, cache):
        self.folder = cache / "models--someone--tiny"
        packaged = resolve("qasir-tiny").checkpoint
        self._state = load_file(packaged)
        self._config = {"model_cfg": json.loads(packaged.with_suffix(".json").read_text())}
        self.publish("first")

    def publish(self, commit, scale=1.0):
        """Another revision, its weights so many times as large."""
        there = self.folder / "snapshots" / commit
        there.mkdir(parents=True)
        (there / "open_clip_config.json").write_text(json.dumps(self._config))
        state = {name: values * scale for name, values in self._state.items()}
        save_file(state, there / "open_clip_model.safetensors")
        self.take(commit)

    def take(self, commit):
        (self.folder / "refs").mkdir(exist_ok=True)
        (self.folder / "refs" / "main").write_text(commit)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return Repository(tmp_path / "hub")


def hub_index(tmp_path):
    return made(EncoderOptions(model=HUB), str(tmp_path / "index"))


def made(options, uri):
    """(a new index, the source of its model)."""
    index, source = prepare(options, uri, CORPUS)
    with writing(index):
        return index, source


def as_older_versions_wrote_it(tmp_path, index):
    """The same index with the name of its weights where their hash is."""
    older = replace(index.spec, weights=HUB)
    return new_index(tmp_path / "older", older, index.corpus_root, index.corpus_source)


def test_weights_of_a_hub_are_known_by_their_file(repository, tmp_path):
    index, source = hub_index(tmp_path)
    assert index.spec.weights == source.weights == source.fingerprint()
    assert index.spec.weights.startswith("sha256:")
    assert source.file() == repository.folder / "snapshots" / "first" / "open_clip_model.safetensors"
    black = np.zeros((1, 192, 192, 3), np.uint8)
    (vlm,) = load_models([source], [index.spec])
    packaged = Vlm(resolve("qasir-tiny"), precision=index.spec.precision)
    np.testing.assert_allclose(vlm.encode_images(black)[0], packaged.encode_images(black)[0])


def test_another_revision_with_the_same_file_changes_nothing(repository, tmp_path):
    index, source = hub_index(tmp_path)
    repository.publish("second")
    assert hub_index(tmp_path)[1] == source_to_extend(index) == source


def test_a_changed_repository_is_not_mixed_into_an_index(repository, tmp_path):
    index, source = hub_index(tmp_path)
    repository.publish("second", scale=2.0)
    now = resolve(HUB).fingerprint()
    assert now != source.weights
    for again in (lambda: hub_index(tmp_path), lambda: source_to_extend(index)):
        with pytest.raises(ModelError, match=f"are not those that made the index.*{now} now.*{source.weights} then"):
            again()
    repository.take("first")
    assert source_to_extend(index) == source


def test_a_machine_with_another_revision_in_its_cache_does_not_encode(repository, tmp_path):
    target = Target(*hub_index(tmp_path))
    repository.publish("second", scale=2.0)
    with pytest.raises(ModelError, match=rf"'{HUB}'.* are not those they must be: sha256:.*snapshots/second.* wanted"):
        load_models([target.source], [target.index.spec])


def test_a_changed_repository_is_not_searched_with(repository, tmp_path):
    index, _ = hub_index(tmp_path)
    assert open_index(index.uri).encode(["a cat"]).shape == (1, 192)
    repository.publish("second", scale=2.0)
    with pytest.raises(ModelError, match="are not those they must be"):
        open_index(index.uri).encode(["a cat"])


def test_an_index_that_holds_a_name_is_extended_with_a_warning_and_keeps_it(repository, tmp_path, caplog):
    new, source = hub_index(tmp_path)
    older = as_older_versions_wrote_it(tmp_path, new)
    extended, its_source = prepare(EncoderOptions(model=HUB), older.uri, CORPUS)
    assert extended.spec.weights == Index.open(older.uri).spec.weights == HUB
    assert source_to_extend(older) == its_source == source
    said = [record.message for record in caplog.records if "only the name of its weights" in record.message]
    assert len(said) == 2
    assert older.uri in said[0]
    assert source.weights in said[0]
    assert open_index(older.uri).encode(["a cat"]).shape == (1, 192)


def test_a_name_and_the_hash_of_what_has_it_are_one_spec(repository, tmp_path):
    """A checkpoint that was fine-tuned on an older index goes with a new one, and the other way round."""
    new, _ = hub_index(tmp_path)
    older = as_older_versions_wrote_it(tmp_path, new)
    assert new.spec.differences(older.spec) == older.spec.differences(new.spec) == {}
    assert list(replace(new.spec, weights="sha256:1").differences(new.spec)) == ["weights"]
    assert list(replace(new.spec, weights="another name").differences(new.spec)) == ["weights"]


def test_weights_by_a_tag_are_known_by_their_file(tmp_path, monkeypatch):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(resolve("qasir-tiny").checkpoint.read_bytes())
    tags = {"made_up": {"file": str(path), "mean": (0.5,) * 3, "std": (0.5,) * 3}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "qasir-tiny", tags)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made_up").write_text("a file with the tag's name is not what open_clip loads")
    index, source = made(EncoderOptions(pretrained="made_up"), str(tmp_path / "index"))
    assert (source.name, source.file()) == ("made_up", path)
    assert index.spec.weights == resolve("qasir-tiny").fingerprint()
    assert Vlm(source).pixel_scale[0] == (0.5, 0.5, 0.5)
    state = load_file(path)
    save_file({name: values * 2 for name, values in state.items()}, path)
    with pytest.raises(ModelError, match="are not those that made the index"):
        source_to_extend(index)


def test_a_replaced_checkpoint_is_not_searched_with(tmp_path):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(resolve("qasir-tiny").checkpoint.read_bytes())
    index, source = made(EncoderOptions(pretrained=str(path)), str(tmp_path / "index"))
    save_file({name: values * 2 for name, values in load_file(path).items()}, path)
    with pytest.raises(ModelError, match=rf"'{path}'.* are not those they must be"):
        open_index(index.uri).encode(["a cat"])
    with pytest.raises(ModelError, match="are not those they must be"):
        load_models([source], [index.spec])


def test_a_spec_that_names_no_file_searches_with_what_is_there(tmp_path):
    assert open_index(make_index(tmp_path / "i", [1]).uri).encode(["a cat"]).shape == (1, 192)


def test_a_hub_that_is_not_reached_is_an_error(tmp_path):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)}
    code = "from qasir.vlm.weights import resolve; resolve('ViT-B-32', 'laion2b_s34b_b79k').fingerprint()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "ModelError: cannot get the weights 'laion2b_s34b_b79k' of 'ViT-B-32'" in done.stderr
