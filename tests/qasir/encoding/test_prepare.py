"""What is checked, and learned, of a model before an index is made and any video is opened."""

import shutil
from dataclasses import replace

import pytest
import torch

from qasir.encoding.options import EncoderOptions
from qasir.encoding.prepare import check_options, prepare
from qasir.errors import ModelError, SpecError
from qasir.index.index import Index
from qasir.index.lease import Run
from qasir.index.spec import AS_CODED, TONE_MAPPED
from qasir.video.corpus import Corpus, VideoFile
from qasir.vlm.model import Vlm
from qasir.vlm.sizes import model_sizes
from qasir.vlm.weights import resolve
from tests.indexes import new_index

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


def test_the_gap_between_keyframes_is_a_period_at_least(tmp_path):
    def spec_of(**options):
        return prepare(EncoderOptions(**options), str(tmp_path / "index"), CORPUS)[0].spec

    assert (spec_of().sampling, spec_of().max_gap_s) == ("uniform", 0.0)
    assert spec_of(sampling="keyframes").max_gap_s == 4.0
    assert spec_of(sampling="keyframes", fps=0.1).max_gap_s == 10.0
    assert spec_of(sampling="keyframes", fps=0.5, max_gap_s=2.0).max_gap_s == 2.0
    with pytest.raises(SpecError, match="max gap 1.5 s is shorter than 1 / fps = 2 s"):
        spec_of(sampling="keyframes", fps=0.5, max_gap_s=1.5)
    with pytest.raises(SpecError, match="max gap nan"):
        spec_of(sampling="keyframes", max_gap_s=float("nan"))
    with pytest.raises(SpecError, match="--max-gap goes with --sampling keyframes"):
        spec_of(max_gap_s=4.0)


def test_an_index_of_another_sampling_is_an_error_that_names_both(tmp_path):
    spec = prepare(EncoderOptions(sampling="keyframes"), str(tmp_path / "index"), CORPUS)[0].spec
    index = new_index(tmp_path / "made", spec, root=CORPUS.root)
    for check in (prepared, check_options):
        with pytest.raises(SpecError, match=r"spec.*:\n  sampling: keyframes in the index, uniform asked for$"):
            check(EncoderOptions(), index)
        with pytest.raises(SpecError, match=r"spec.*:\n  max_gap_s: 4.0 in the index, 6.0 asked for$"):
            check(EncoderOptions(sampling="keyframes", max_gap_s=6.0), index)
        check(EncoderOptions(sampling="keyframes"), index)
        check(EncoderOptions(sampling="keyframes", max_gap_s=4.0), index)
    with pytest.raises(SpecError, match="--max-gap goes with --sampling keyframes"):
        check_options(EncoderOptions(max_gap_s=4.0), index)


def prepared(options, index):
    prepare(options, index.uri, CORPUS)
