import os
import signal
from dataclasses import dataclass

import numpy as np
import pytest

from pipelines.score import DistributedRanker
from qasir.errors import QasirError
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.methods.cascade import Cascade
from qasir.retrieval.methods.maximum import Max
from qasir.retrieval.methods.mean import Mean
from qasir.retrieval.methods.sparse import Sparse
from qasir.retrieval.opening import open_index, open_searcher
from qasir.retrieval.scoring import score
from qasir.retrieval.vector_source import StoredVectors
from tests.indexes import DIM, break_rows, make_index, unit, writing


@pytest.mark.parametrize("scoring", [Attention(), Max(), Mean(), Sparse(2, 0.1)], ids=str)
def test_fragments_scored_apart_equal_scoring_in_memory(scoring, local_ray, tmp_path):
    """Thirteen commits over nine videos: most videos lie in several fragments, and some rows are of no readable
    video."""
    lengths = [1, 9, 3, 14, 2, 6, 30, 1, 4]
    index = make_index(tmp_path / "i", lengths, commits=13, grid=1, cells=False)
    stale = index.snapshot().super_images(video_ids=["v003"]).to_pydict()
    stale["fingerprint"] = ["old"] * len(stale["position"])
    with writing(index) as writer:
        writer.commit_super_images(index.write_super_images(make_table(stale, index)))
    queries = unit(np.random.default_rng(0).standard_normal((5, DIM)))
    searcher = open_index(index.uri)
    expected = score(queries, searcher.sides[0].vectors.load().features, scoring)
    distributed = open_searcher([index.uri], make_ranker=DistributedRanker)
    np.testing.assert_allclose(distributed.score_vectors([queries], scoring), expected, atol=1e-6)


def test_a_cascade_reads_only_what_the_small_index_recalled(local_ray, tmp_path, monkeypatch):
    lengths = [2, 5, 3, 4, 6, 1, 2, 3]
    uris = [make_index(tmp_path / name, lengths, seed=seed, commits=3).uri for seed, name in enumerate(("a", "b"))]
    queries = [unit(np.random.default_rng(side).standard_normal((4, DIM))) for side in range(2)]
    expected = open_searcher(uris).score_vectors(queries, Cascade(2))
    distributed = open_searcher(uris, make_ranker=DistributedRanker)
    read = []
    load = StoredVectors.load
    monkeypatch.setattr(StoredVectors, "load", lambda self, *asked: read.append((self, *asked)) or load(self, *asked))
    np.testing.assert_allclose(distributed.score_vectors(queries, Cascade(2)), expected, atol=1e-6)
    assert {granularity for _, granularity, _ in read} == {"super-image"}
    assert all(ids is not None and len(ids) <= 8 for _, _, ids in read)
    assert len({source.snapshot.uri for source, *_ in read}) == 1


def make_table(columns, index):
    import pyarrow as pa

    return pa.Table.from_pydict(columns, schema=index.table("super_images").schema)


def test_a_fragment_that_cannot_be_read_is_an_error_that_names_it(local_ray, tmp_path):
    """Neither a video without a score nor Ray's own traceback."""
    index = make_index(tmp_path / "i", [3] * 8, commits=4)
    searcher = open_searcher([index.uri], make_ranker=DistributedRanker)
    third = index.table("super_images").get_fragments()[2]
    (file,) = third.data_files()
    (tmp_path / "i" / "super_images.lance" / "data" / file.path).write_bytes(b"damaged")
    queries = unit(np.random.default_rng(0).standard_normal((2, DIM)))
    with pytest.raises(
        QasirError, match=r"super_images.lance: 1 of 4 fragments were not scored: 2 \(\w+: .*\); run again"
    ):
        searcher.score_vectors([queries], Max())


@dataclass(frozen=True)
class DiesOfOne(Max):
    """Max pooling in workers, of which the one that meets a certain video dies."""

    name = "dies of one"

    def pool(self, similarity, images, padding=None, gate=None):
        if images.shape[1] == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().pool(similarity, images, padding, gate)


def test_a_fragment_whose_worker_dies_is_an_error_that_names_it(local_ray, tmp_path):
    index = make_index(tmp_path / "i", [3, 3, 7, 3], commits=1)
    searcher = open_searcher([index.uri], make_ranker=DistributedRanker)
    queries = unit(np.random.default_rng(0).standard_normal((2, DIM)))
    with pytest.raises(QasirError, match=r"1 of 1 fragments were not scored: 0 \(its worker died"):
        searcher.score_vectors([queries], DiesOfOne())


def test_rows_that_are_not_finite_are_left_out_of_fragments_too(local_ray, tmp_path, caplog):
    index = make_index(tmp_path / "i", [3, 4, 2, 5, 1], commits=3, cells=False)
    break_rows(index, {"v001": [0], "v002": [0, 1]})
    queries = unit(np.random.default_rng(0).standard_normal((2, DIM)))
    expected = open_index(index.uri).score_vectors([queries], Attention())
    caplog.clear()
    scores = open_searcher([index.uri], make_ranker=DistributedRanker).score_vectors([queries], Attention())
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert np.isneginf(scores[:, 2]).all()
    assert np.isfinite(np.delete(scores, 2, axis=1)).all()
    assert "3 of 15 super images that were read have numbers that are not finite" in caplog.text
