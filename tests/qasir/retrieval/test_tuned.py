import numpy as np
import pytest
import torch

from qasir.encoding.prepare import source_to_extend
from qasir.errors import ModelError, QueryError, SpecError, UnreadableIndexError
from qasir.index.index import Index
from qasir.retrieval.checkpoint import load_checkpoint
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.methods.mean import Mean
from qasir.retrieval.methods.text_gated import TextGated
from qasir.retrieval.modules import Architecture, FineTuned
from qasir.retrieval.opening import open_index, searcher_of
from qasir.retrieval.recipe import Recipe
from qasir.retrieval.tuned import TunedVectors, choose
from qasir.retrieval.vector_source import StoredVectors
from qasir.training.finetune.checkpoint_writing import save_checkpoint
from qasir.training.finetune.fine_tuning import Settings
from qasir.training.finetune.tuned_index import Applying
from qasir.training.state import TrainingState
from tests.indexes import DIM, break_rows, give_texts, make_index
from tests.qasir.training.finetune.made_up import unit_rows

LENGTHS = [3, 1, 6, 2]


def make_checkpoint(folder, spec, recipe="qasir", *, seed=0, **architecture):
    """One that is not the identity."""
    settings = Settings(recipe=Recipe(recipe), architecture=Architecture(**architecture))
    model = FineTuned(spec.embedding_dim, settings.architecture)
    torch.manual_seed(seed)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    state = TrainingState("fine-tuning", {}, history=[{"epoch": 0, "loss": None, "SumR": 1.0}])
    state.finish_epoch({"loss": 1.0, "SumR": 2.0}, model.state_dict())
    folder.mkdir(exist_ok=True)
    save_checkpoint(folder, state, settings, spec, {})
    return load_checkpoint(folder)


@pytest.fixture(params=["qasir", "eercf"])
def recipe(request):
    return request.param


@pytest.fixture
def index(tmp_path):
    return make_index(tmp_path / "i", LENGTHS, commits=3, failed=["bad"])


def test_an_applied_index_scores_as_the_checkpoint_on_the_fly(index, recipe, tmp_path):
    checkpoint = make_checkpoint(tmp_path / "c", index.spec, recipe)
    counts = Applying(index, checkpoint, str(tmp_path / "out")).run()
    assert counts == {"applied": 5, "unchanged": 0, "removed": 0}
    on_the_fly, applied = open_index(index.uri, finetuned=str(tmp_path / "c")), open_index(str(tmp_path / "out"))
    assert applied.default == on_the_fly.default == checkpoint.recipe.scoring
    queries = unit_rows(0, 4, DIM)
    for scoring in (None, Attention(0.05), Mean(), TextGated()):
        np.testing.assert_allclose(
            applied.score_vectors([queries], scoring), on_the_fly.score_vectors([queries], scoring), atol=3e-3
        )
    plain = open_index(index.uri).score_vectors([queries], Attention())
    assert not np.allclose(on_the_fly.score_vectors([queries], Attention()), plain, atol=0.05)
    np.testing.assert_allclose(
        applied.sides[0].vectors.video_vectors(), on_the_fly.sides[0].vectors.video_vectors(), atol=3e-3
    )
    cells = applied.sides[0].vectors.load("cell"), on_the_fly.sides[0].vectors.load("cell")
    np.testing.assert_allclose(cells[0].features.vectors, cells[1].features.vectors, atol=3e-3)
    assert Index.open(str(tmp_path / "out")).states()["bad"].status == "failed"


def test_moments_come_from_the_tuned_vectors(index, tmp_path):
    make_checkpoint(tmp_path / "c", index.spec)
    tuned = open_index(index.uri, finetuned=str(tmp_path / "c"))
    vectors = tuned.sides[0].vectors.load("cell").features.vectors
    texts = give_texts(tuned, vectors[:1])
    row = tuned.sides[0].vectors.load("cell")
    assert (
        tuned.moments(texts, [(0, row.video_ids[int(np.flatnonzero(row.features.first == 0)[0])])])[0, 0]
        == row.start_s[0]
    )


def test_applying_again_follows_the_source(index, tmp_path):
    checkpoint = make_checkpoint(tmp_path / "c", index.spec)
    out = str(tmp_path / "out")
    Applying(index, checkpoint, out).run()
    assert Applying(index, checkpoint, out).run() == {"applied": 0, "unchanged": 5, "removed": 0}
    changed = index.snapshot().super_images(video_ids=["v002"])
    import pyarrow as pa

    changed = changed.set_column(1, "fingerprint", pa.array(["g"] * len(changed))).slice(0, 4)
    index.commit_super_images(index.write_super_images(changed))
    row = next(r for r in index.table("videos").to_table().to_pylist() if r["video_id"] == "v002")
    index.upsert_videos([{**row, "fingerprint": "g", "n_super_images": 4}])
    index.remove(["v001"])
    assert Applying(index, checkpoint, out).run() == {"applied": 1, "unchanged": 3, "removed": 1}
    assert open_index(out).sides[0].vectors.load().video_ids == ["v000", "v002", "v003"]
    assert Index.open(out).table("super_images").count_rows() == 3 + 4 + 2
    assert open_index(out).videos().n_super_images.tolist() == [3, 4, 2]


def test_rows_of_a_killed_run_are_not_doubled(index, tmp_path, monkeypatch):
    checkpoint = make_checkpoint(tmp_path / "c", index.spec)
    applying = Applying(index, checkpoint, str(tmp_path / "out"))
    with monkeypatch.context() as patch:
        patch.setattr(Index, "upsert_videos", lambda self, rows: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            applying.run()
    assert applying.output.table("super_images").count_rows() == sum(LENGTHS)
    assert Applying(index, checkpoint, str(tmp_path / "out")).run()["applied"] == 5
    assert applying.output.table("super_images").count_rows() == sum(LENGTHS)


def test_an_applied_index_is_neither_applied_to_nor_reindexed(index, tmp_path):
    checkpoint = make_checkpoint(tmp_path / "c", index.spec)
    Applying(index, checkpoint, str(tmp_path / "out")).run()
    applied = Index.open(str(tmp_path / "out"))
    with pytest.raises(SpecError, match="fine-tuned already"):
        Applying(applied, checkpoint, str(tmp_path / "again"))
    with pytest.raises(SpecError, match="re-index the one it was made from"):
        source_to_extend(applied)
    with pytest.raises(SpecError, match="finetuned_weights"):
        Applying(index, make_checkpoint(tmp_path / "d", index.spec, seed=1), str(tmp_path / "out"))
    with pytest.raises(SpecError, match="finetuned_weights"):
        searcher_of(applied, finetuned=checkpoint)


def test_a_replaced_checkpoint_is_noticed(index, tmp_path):
    Applying(index, make_checkpoint(tmp_path / "c", index.spec), str(tmp_path / "out")).run()
    make_checkpoint(tmp_path / "c", index.spec, seed=1)
    with pytest.raises(ModelError, match="is not the one that made the index"):
        open_index(str(tmp_path / "out"))


def test_checkpoints_find_their_index(index, tmp_path):
    other = make_index(tmp_path / "other", LENGTHS, grid=1)
    here, there = make_checkpoint(tmp_path / "c", index.spec), make_checkpoint(tmp_path / "d", other.spec)
    specs = {"a": index.spec, "b": other.spec}
    assert choose([there, here], specs) == {"a": here, "b": there}
    with pytest.raises(SpecError, match="another encoder spec"):
        choose([there], {"a": index.spec})
    with pytest.raises(QueryError, match="two fine-tuned checkpoints fit"):
        choose([here, make_checkpoint(tmp_path / "e", index.spec)], specs)


def test_vectors_that_are_not_finite_do_not_spread_over_a_video(index, tmp_path):
    """Attention over time would make NaN of them all; on the fly the others count, and applying is an error."""
    checkpoint = make_checkpoint(tmp_path / "c", index.spec)
    broken = make_index(tmp_path / "broken", [3, 4, 2], grid=index.spec.grid)
    break_rows(broken, {"v001": [1], "v002": [0, 1]})
    table = TunedVectors(StoredVectors(broken.snapshot()), checkpoint).load()
    assert np.isfinite(table.features.vectors).all(axis=1).tolist() == [False, True, True, True, True, True, True]
    assert table.video_ids[table.features.unusable[0]] == "v002"
    with pytest.raises(UnreadableIndexError, match=r"super image 1 of v001 .* not finite.*--repair"):
        Applying(broken, checkpoint, str(tmp_path / "out")).run()
