import numpy as np
import pytest
import torch

from qasir.errors import FeaturesError, ModelError, QueryError
from qasir.retrieval.query_features import EncodeGiven, QueryFeatureOptions, QueryFeatures
from qasir.vlm.model import Vlm
from qasir.vlm.weights import resolve
from tests.features import write_hdf5, write_npz
from tests.indexes import unit

ONE = unit(np.array([1.0, 2, 3, 4]))


def features(path, **options):
    return QueryFeatures(path, QueryFeatureOptions(path, **options))


def test_a_vector_is_taken_as_it_is_by_the_id_of_its_query(tmp_path):
    path = write_hdf5(tmp_path / "q.h5", {"7": ONE, "VID#enc#0": 3 * ONE})
    np.testing.assert_array_equal(features(path).vector("7", 4), ONE)
    with pytest.raises(FeaturesError, match=r"VID#enc#0: 1 of 1 rows are not of length 1.*: --query-normalise scales"):
        features(path).vector("VID#enc#0", 4)
    np.testing.assert_allclose(features(path, query_normalise=True).vector("VID#enc#0", 4), ONE, rtol=1e-6)
    with pytest.raises(QueryError, match="7: a vector of 4 dimensions, where the index has 5"):
        features(path).vector("7", 5)
    with pytest.raises(QueryError, match="q.h5: no features of 2 of 3 queries: 8, 9; it has those of 7, VID#enc#0"):
        features(path).check(["7", "8", "9"])


def test_npz_files_are_named_by_qid_and_their_array_is_named(tmp_path):
    tokens = np.array([[1, 0, 0], [0, 3, 0], [0, 0, 2]], np.float32)
    arrays = {"pooler_output": unit(np.ones(3)), "last_hidden_state": tokens}
    folder = write_npz(tmp_path / "q", {"qid7": arrays})
    np.testing.assert_array_equal(features(folder, query_key="pooler_output").vector("7", 3), arrays["pooler_output"])
    for how, expected in {
        "last": [0, 0, 1],
        "mean": unit(np.array([1, 3, 2.0])),
        "max": unit(np.array([1, 3, 2.0])),
    }.items():
        given = features(folder, query_key="last_hidden_state", query_pooling=how)
        np.testing.assert_allclose(given.vector("7", 3), expected, rtol=1e-6)
    with pytest.raises(FeaturesError, match="qid7: 3 tokens of 3 dimensions: say by --query-pooling"):
        features(folder, query_key="last_hidden_state").vector("7", 3)
    with pytest.raises(FeaturesError, match="no array 'features' in it: name one of pooler_output, last_hidden_state"):
        features(folder).vector("7", 3)
    with pytest.raises(FeaturesError, match="pooling 'first': choose one of last, mean, max"):
        features(folder, query_pooling="first")


def test_tokens_that_are_not_projected_are_by_the_model_named(tmp_path):
    vlm = Vlm(resolve("qasir-tiny"))
    tower, texts = vlm.module, ["a penguin", "two cats and a pizza"]
    hidden = []
    with torch.no_grad():
        hook = tower.ln_final.register_forward_hook(lambda module, asked, found: hidden.append(found))
        expected = vlm.encode_texts(texts)
        hook.remove()
        tokens = vlm.tokens(texts)
    ends = tokens.argmax(dim=-1).tolist()
    states = {str(i): hidden[0][i, : end + 1].numpy() for i, end in enumerate(ends)}
    path = write_hdf5(tmp_path / "q.h5", states)
    dim = expected.shape[1]
    given = features(path, query_pooling="last", text_projection="qasir-tiny:packaged")
    for i in range(2):
        np.testing.assert_allclose(given.vector(str(i), dim), expected[i], atol=1e-5)
    path = write_hdf5(tmp_path / "projected.h5", {"0": np.ones(8, np.float32)})
    with pytest.raises(QueryError, match="8 dimensions, and --text-projection qasir-tiny takes"):
        features(path, text_projection="qasir-tiny").vector("0", dim)
    with pytest.raises(ModelError, match="unknown model 'nothing'"):
        features(path, text_projection="nothing:x").vector("0", dim)


def test_queries_of_one_text_must_have_like_features(tmp_path):
    path = write_hdf5(tmp_path / "q.h5", {"a": ONE, "b": ONE.astype(np.float16), "c": -ONE, "d": ONE})
    given = features(path)
    encode = EncodeGiven(given, [("a", "a cat"), ("b", "a cat"), ("c", "a dog")], 4)
    np.testing.assert_array_equal(encode(["a dog", "a cat"]), [-ONE, ONE])
    with pytest.raises(QueryError, match="'a' and 'c' are one text, 'a cat', with different features"):
        EncodeGiven(given, [("a", "a cat"), ("c", "a cat")], 4)(["a cat"])
    with pytest.raises(QueryError, match="'a bird' is none of the queries with features"):
        encode(["a bird"])
    with pytest.raises(QueryError, match="no features of 2 of 3 queries: x, y"):
        EncodeGiven(given, [("a", "1"), ("x", "2"), ("y", "3")], 4)(["1", "2", "3"])
