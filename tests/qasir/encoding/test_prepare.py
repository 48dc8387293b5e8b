"""What is checked, and learned, of a model before an index is made and any video is opened."""

import shutil
from dataclasses import replace

import pytest
import torch

from qasir.encoding.options import EncoderOptions
from qasir.encoding.prepare import prepare
from qasir.errors import ModelError
from qasir.index.index import Index
from qasir.index.lease import Run
from qasir.index.spec import AS_CODED, TONE_MAPPED
from qasir.video.corpus import Corpus, VideoFile
from qasir.vlm.model import Vlm
from qasir.vlm.sizes import model_sizes
from qasir.vlm.weights import resolve

CORPUS = Corpus("/videos", "/videos", (VideoFile("a", "/videos/a.mp4", 1, "f"),))


def test_sizes_are_those_of_the_loaded_model():
    source = resolve("qasir-tiny")
    vlm = Vlm(source)
    sizes = model_sizes(source, cells=True)
    assert (sizes.image_size, sizes.embedding_dim) == (vlm.image_size, vlm.embedding_dim)
    assert model_sizes(source, 96).image_size == Vlm(source, image_size=96).image_size


def test_a_model_of_another_architecture_has_sizes_too():
    sizes = model_sizes(resolve("ViT-B-32", "laion2b_s34b_b79k"), 256)
    assert (sizes.image_size, sizes.embedding_dim) == (256, 512)
    with pytest.raises(ModelError, match="pass --no-cells"):
        model_sizes(resolve("RN50", "openai"), cells=True)


class Hostile:
    def __reduce__(self):
        return print, ("this was run",)


def cut(path):
    shutil.copy(resolve("qasir-tiny").checkpoint, path)
    path.write_bytes(path.read_bytes()[:-100])


DAMAGED = {
    "cut.safetensors": cut,
    "empty.pt": lambda path: path.write_bytes(b""),
    "text.pt": lambda path: path.write_text("hello"),
    "hostile.pt": lambda path: torch.save({"a": Hostile()}, path),
    "nothing.pt": lambda path: torch.save({}, path),
    "another.pt": lambda path: torch.save({"a": torch.zeros(3)}, path),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_checkpoint_that_cannot_be_loaded_is_named_and_no_index_is_made(tmp_path, name, capsys):
    DAMAGED[name](tmp_path / name)
    with pytest.raises(ModelError, match=f"cannot load 'qasir-tiny' with '.*{name}'"):
        prepare(EncoderOptions(pretrained=str(tmp_path / name)), str(tmp_path / "index"), CORPUS)
    assert Index.find(str(tmp_path / "index")) is None
    assert capsys.readouterr().out == ""


def test_an_image_size_that_the_model_does_not_take_is_an_error():
    with pytest.raises(ModelError, match="at 1 px"):
        model_sizes(resolve("qasir-tiny"), 1)


def test_an_index_keeps_the_colours_that_it_was_made_with(tmp_path):
    new, _ = prepare(EncoderOptions(), str(tmp_path / "new"), CORPUS)
    assert new.spec.colour == TONE_MAPPED
    assert new.spec.tone_map
    older = Index(str(tmp_path / "older"), replace(new.spec, colour=AS_CODED), CORPUS.root)
    with Run(older, "encode"):
        pass
    again, _ = prepare(EncoderOptions(), older.uri, CORPUS)
    assert not again.spec.tone_map
