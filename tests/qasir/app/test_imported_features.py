"""The page of an index of imported features, whose videos have no files."""

import numpy as np
import pytest
from fastapi.testclient import TestClient

from qasir.app.assembly import make_page
from qasir.app.settings import AppSettings
from qasir.encoding.feature_corpus import FeatureCorpus
from qasir.encoding.import_features import import_features
from qasir.encoding.import_options import ImportOptions
from qasir.encoding.prepare_import import prepare_import
from tests.features import write_npy
from tests.indexes import unit
from tests.qasir.app.engines import serving


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imported")
    rng = np.random.default_rng(0)
    features = write_npy(folder / "f", {f"v{i}": unit(rng.standard_normal((9, 8))) for i in range(4)})
    corpus = FeatureCorpus(str(features), ImportOptions("a label", fps=1.0))
    index = prepare_import(corpus, str(folder / "i"))
    import_features(corpus, index)
    with serving(index.uri, encode_texts=None) as engine:
        page = make_page(engine, AppSettings())
        with TestClient(page, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
            yield client


@pytest.mark.parametrize("by", ["video", "moment"])
def test_more_like_a_place_is_found_and_no_file_is_promised(client, by):
    found = client.get("/api/search", params={"like": "v1@3.5", "by": by}).json()
    best = found["hits"][0]
    assert (best["video_id"], best["start_s"] <= 3.5 <= best["end_s"]) == ("v1", True)
    assert (best["uri"].endswith("v1.npy#v1"), best["media"], best["problem"]) == (True, None, "the file is gone")
    assert client.get("/media/v1").status_code == 404


def test_words_are_refused_in_words(client):
    refused = client.get("/api/search", params={"q": "a cat"})
    assert (refused.status_code, "only a label" in refused.json()["error"]) == (400, True)
    assert client.get("/").status_code == 200
    assert client.get("/api/facets").json()["codecs"] == []
