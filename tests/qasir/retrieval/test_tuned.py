import numpy as np
import pyarrow as pa
import pytest
import torch

from qasir.encoding.prepare import source_to_extend
from qasir.errors import ModelError, QueryError, SpecError
from qasir.index.index import Index, embedding_column
from qasir.index.writer import Writer
from qasir.retrieval.architecture import Architecture
from qasir.retrieval.checkpoint import load_checkpoint
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.methods.mean import Mean
from qasir.retrieval.methods.text_gated import TextGated
from qasir.retrieval.modules import FineTuned
from qasir.retrieval.opening import open_index, searcher_of
from qasir.retrieval.recipe import Recipe
from qasir.retrieval.tuned import TunedVectors, choose
from qasir.retrieval.vector_source import StoredVectors
from qasir.training.finetune.checkpoint_writing import save_checkpoint
from qasir.training.finetune.settings import Settings
from qasir.training.finetune.tuned_index import Applying
from qasir.training.state import TrainingState
from tests.indexes import DIM, break_rows, give_texts, make_index, writing
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


def run(applying):
    with writing(applying.output) as writer:
        return applying.run(writer)


def test_an_applied_index_scores_as_the_checkpoint_on_the_fly(index, recipe, tmp_path):
    checkpoint = make_checkpoint(tmp_path / "c", index.spec, recipe)
    counts = run(Applying(index, checkpoint, str(tmp_path / "out")))
    assert counts == {"applied": 5, "unchanged": 0, "removed": 0, "failed": 0}
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
    run(Applying(index, checkpoint, out))
    assert run(Applying(index, checkpoint, out)) == {"applied": 0, "unchanged": 5, "removed": 0, "failed": 0}
    changed = index.snapshot().super_images(video_ids=["v002"])
    changed = changed.set_column(1, "fingerprint", pa.array(["g"] * len(changed))).slice(0, 4)
    row = next(r for r in index.table("videos").to_table().to_pylist() if r["video_id"] == "v002")
    with writing(index) as writer:
        writer.commit_super_images(index.write_super_images(changed))
        writer.upsert_videos([{**row, "fingerprint": "g", "n_super_images": 4}])
        writer.remove(["v001"])
    assert run(Applying(index, checkpoint, out)) == {"applied": 1, "unchanged": 3, "removed": 1, "failed": 0}
    assert open_index(out).sides[0].vectors.load().video_ids == ["v000", "v002", "v003"]
    assert Index.open(out).table("super_images").count_rows() == 3 + 4 + 2
    assert open_index(out).videos().n_super_images.tolist() == [3, 4, 2]


def with_nan(index, video_id, fingerprint, column="embedding"):
    """Have a new version of a video, whose second super image has a NaN, be the encoded one."""
    rows = index.snapshot().super_images(video_ids=[video_id])
    values = np.stack(rows[column].to_pylist())
    values[1, 3] = np.nan
    for name, new in (("fingerprint", pa.array([fingerprint] * len(rows))), (column, embedding_column(values))):
        rows = rows.set_column(rows.schema.get_field_index(name), name, new)
    row = next(r for r in index.table("videos").to_table().to_pylist() if r["video_id"] == video_id)
    with writing(index) as writer:
        writer.commit_super_images(index.write_super_images(rows))
        writer.upsert_videos([{**row, "fingerprint": fingerprint}])


@pytest.mark.parametrize("column", ["embedding", "cell_embeddings"])
@pytest.mark.parametrize("was_applied", [True, False])
def test_a_video_that_the_checkpoint_makes_nan_of_fails_and_the_others_are_applied(
    index, tmp_path, column, was_applied
):
    checkpoint = make_checkpoint(tmp_path / "c", index.spec)
    out = str(tmp_path / "out")
    if was_applied:
        run(Applying(index, checkpoint, out))
    with_nan(index, "v002", "g", column)
    for attempts in (1, 2):
        counts = run(Applying(index, checkpoint, out))
        assert counts == {
            "applied": 0 if was_applied or attempts == 2 else 4, "unchanged": 4 if was_applied or attempts == 2 else 0,
            "removed": 0, "failed": 1,
        }  # fmt: skip
        output = Index.open(out)
        state = output.states()["v002"]
        assert (state.stale, state.error_kind, state.failed_version) == (was_applied, "not_finite", "g")
        assert state.attempts == attempts
        images = output.snapshot().super_images([]).to_pylist()
        assert len(images) == output.table("super_images").count_rows() == sum(LENGTHS) - 6 * (not was_applied)


def test_marks_of_stale_videos_follow_the_source(index, tmp_path):
    checkpoint = make_checkpoint(tmp_path / "c", index.spec)
    out = str(tmp_path / "out")
    run(Applying(index, checkpoint, out))
    with writing(index) as writer:
        writer.record_failures([{"video_id": "v002", "fingerprint": "g", "error_kind": "io", "error": "503"}])
    version = Index.open(out).table("super_images").version
    assert run(Applying(index, checkpoint, out))["applied"] == 0
    assert Index.open(out).states() == index.states()
    assert Index.open(out).states()["v002"].stale
    with writing(index) as writer:
        writer.clear_stale(["v002"])
    assert run(Applying(index, checkpoint, out))["unchanged"] == 5
    assert Index.open(out).n_stale() == 0
    assert Index.open(out).table("super_images").version == version


def test_rows_of_a_killed_run_are_not_doubled(index, tmp_path, monkeypatch):
    checkpoint = make_checkpoint(tmp_path / "c", index.spec)
    applying = Applying(index, checkpoint, str(tmp_path / "out"))
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "upsert_videos", lambda self, rows: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(applying)
    assert applying.output.table("super_images").count_rows() == sum(LENGTHS)
    assert run(Applying(index, checkpoint, str(tmp_path / "out")))["applied"] == 5
    assert applying.output.table("super_images").count_rows() == sum(LENGTHS)


def test_an_applied_index_is_neither_applied_to_nor_reindexed(index, tmp_path):
    checkpoint = make_checkpoint(tmp_path / "c", index.spec)
    run(Applying(index, checkpoint, str(tmp_path / "out")))
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
    run(Applying(index, make_checkpoint(tmp_path / "c", index.spec), str(tmp_path / "out")))
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
    """Attention over time would make NaN of them all; on the fly the others count, and applied the video fails."""
    checkpoint = make_checkpoint(tmp_path / "c", index.spec)
    broken = make_index(tmp_path / "broken", [3, 4, 2], grid=index.spec.grid)
    break_rows(broken, {"v001": [1], "v002": [0, 1]})
    table = TunedVectors(StoredVectors(broken.snapshot()), checkpoint).load()
    assert np.isfinite(table.features.vectors).all(axis=1).tolist() == [False, True, True, True, True, True, True]
    assert table.video_ids[table.features.unusable[0]] == "v002"
    assert run(Applying(broken, checkpoint, str(tmp_path / "out")))["failed"] == 2
    assert Index.open(str(tmp_path / "out")).states()["v001"].error_kind == "not_finite"
