import lance
import numpy as np
import pytest

from qasir.errors import QasirError, QueryError, UnreadableIndexError
from qasir.evaluation.query import Query
from qasir.retrieval.vector_source import StoredVectors
from qasir.training.finetune.examples import (
    Pairs,
    VideoRows,
    batches_of,
    check_numbers,
    collate,
    load_videos,
    settled_batch_size,
)
from tests.indexes import DIM, make_index
from tests.qasir.training.finetune.made_up import unit_rows


@pytest.fixture
def snapshot(tmp_path):
    return make_index(tmp_path / "i", [3, 1, 6, 2], commits=3, failed=["bad"]).snapshot()


def queries_of(*videos):
    return [Query(str(i), f"query {i}", f"v{v:03}") for i, v in enumerate(videos)]


def pairs_of(snapshot, *videos):
    return Pairs.of(snapshot, queries_of(*videos), unit_rows(0, len(videos), DIM))


def test_batches_hold_every_pair_once(snapshot):
    pairs = pairs_of(snapshot, *[0, 1, 2, 3] * 6)
    batches = pairs.batches(6, seed=1, epoch=0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(24))
    assert not np.array_equal(np.concatenate(batches), np.concatenate(pairs.batches(6, seed=1, epoch=1)))
    np.testing.assert_array_equal(np.concatenate(batches), np.concatenate(pairs.batches(6, seed=1, epoch=0)))


def test_workers_share_the_pairs_evenly(snapshot):
    pairs = pairs_of(snapshot, *[0, 1, 2, 3] * 7)
    shares = [pairs.batches(4, seed=1, epoch=0, rank=rank, world=3) for rank in range(3)]
    assert {len(share) for share in shares} == {2}
    seen = np.concatenate([np.concatenate(share) for share in shares])
    assert len(seen) == len(set(seen.tolist())) == 24


def test_more_workers_than_a_batch_fits_share_what_there_is(snapshot):
    pairs = pairs_of(snapshot, *[0, 1, 2, 3])
    shares = [pairs.batches(4, seed=1, epoch=0, rank=rank, world=2) for rank in range(2)]
    assert [len(share[0]) for share in shares] == [2, 2]


def test_batches_carry_the_tables_vectors(snapshot):
    """Videos of several lengths, one twice; the last cell of each video is blank."""
    pairs = pairs_of(snapshot, 2, 0, 2, 1)
    some = np.array([3, 0, 2])
    made = collate(some, pairs, load_videos(pairs.plan(some), VideoRows.of(snapshot, cells=True)))
    images, cells = StoredVectors(snapshot).load(), StoredVectors(snapshot).load("cell")
    np.testing.assert_array_equal(made.texts.numpy(), pairs.texts[some])
    assert made.video.tolist() == [1, 2, 2]
    for i, video_id in enumerate(["v001", "v002", "v002"]):
        for table, values, padding in (
            (images, made.images, made.image_padding),
            (cells, made.cells, made.cell_padding),
        ):
            expected = table.features.vectors[table.rows(video_id)]
            assert (~padding[i]).sum() == len(expected)
            np.testing.assert_allclose(values[i, : len(expected)].numpy(), expected, atol=1e-6)


def test_cells_are_read_only_when_asked_for(snapshot):
    pairs = pairs_of(snapshot, 0, 1)
    both = np.arange(2)
    made = collate(both, pairs, load_videos(pairs.plan(both), VideoRows.of(snapshot, cells=False)))
    assert made.cells is None


def test_one_video_is_no_contrast(snapshot):
    with pytest.raises(QueryError, match="about 1 video"):
        pairs_of(snapshot, 1, 1)


def test_a_batch_larger_than_the_data_is_made_smaller(caplog):
    assert settled_batch_size(64, 100, 1) == 64
    assert settled_batch_size(512, 100, 1) == 100
    assert "larger than the 100 training queries" in caplog.text
    assert settled_batch_size(64, 100, 2) == 50
    with pytest.raises(QueryError, match="too few for 2 workers"):
        settled_batch_size(4, 3, 2)
    with pytest.raises(QueryError, match="batch size 1"):
        settled_batch_size(1, 100, 1)


def test_a_batch_of_which_a_part_does_not_come_back_is_an_error(snapshot):
    pairs = pairs_of(snapshot, 0, 1, 2)

    def read(plans):
        yield load_videos(plans[0].slice(0, 2), VideoRows.of(snapshot, cells=False))

    with pytest.raises(QasirError, match="2 of a batch's 3 videos were read and no more came"):
        list(batches_of(pairs, [np.arange(3)], read))


@pytest.mark.parametrize("column", ["embedding", "cell_embeddings"])
def test_a_nan_names_its_super_image(tmp_path, column):
    index = make_index(tmp_path / "i", [3, 2])
    table = index.table("super_images").to_table()
    values = np.stack(table[column].to_pylist())
    values[4, 1] = np.nan
    from qasir.index.index import embedding_column

    spoilt = table.set_column(
        table.schema.get_field_index(column), table.schema.field(column), embedding_column(values)
    )
    lance.write_dataset(spoilt, index.table_uri("super_images"), mode="overwrite")
    with pytest.raises(UnreadableIndexError, match=f"super image 1 of v001 has a number in its {column}"):
        check_numbers(index.snapshot(), cells=True)
    if column != "embedding":
        check_numbers(index.snapshot())
