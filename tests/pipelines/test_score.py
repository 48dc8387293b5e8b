import numpy as np
import pytest

from pipelines.score import DistributedScores
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.methods.maximum import Max
from qasir.retrieval.methods.mean import Mean
from qasir.retrieval.methods.sparse import Sparse
from qasir.retrieval.opening import open_index
from qasir.retrieval.scoring import score
from qasir.retrieval.vectors import Features
from tests.indexes import DIM, make_index, unit


@pytest.mark.parametrize("scoring", [Attention(), Max(), Mean(), Sparse(2, 0.1)], ids=str)
def test_fragments_scored_apart_equal_scoring_in_memory(scoring, local_ray, tmp_path):
    """Thirteen commits over nine videos: most videos lie in several fragments, and some rows are of no readable video."""
    lengths = [1, 9, 3, 14, 2, 6, 30, 1, 4]
    index = make_index(tmp_path / "i", lengths, commits=13, grid=1, cells=False)
    stale = index.snapshot().super_images(video_ids=["v003"]).to_pydict()
    stale["fingerprint"] = ["old"] * len(stale["position"])
    index.commit_super_images(index.write_super_images(make_table(stale, index)))
    queries = unit(np.random.default_rng(0).standard_normal((5, DIM)))
    searcher = open_index(index.uri)
    expected = score(queries, searcher.sides[0].vectors.load().features, scoring)
    found = DistributedScores(searcher.sides[0].snapshot)(queries, scoring)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    searcher.scorer = DistributedScores(searcher.sides[0].snapshot)
    np.testing.assert_allclose(searcher.score_vectors(queries, scoring), expected, atol=1e-6)
    assert Features.single(queries).n_videos == 5


def make_table(columns, index):
    import pyarrow as pa

    return pa.Table.from_pydict(columns, schema=index.table("super_images").schema)
