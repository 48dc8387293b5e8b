import logging
import os
from pathlib import Path

import pytest

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the tests are about CPU results
# Ray's workers run at niceness 15, and beside anything else that keeps the CPUs busy they get next to nothing: the loss of a node
# beside two busy loops was not over in 540 s, and takes 110 s with this.
os.environ.setdefault("RAY_worker_niceness", "0")

from qasir.demo.render import render_corpus
from qasir.encoding.options import EncoderOptions
from qasir.encoding.prepare import prepare
from qasir.index.index import Index
from tests.videos import write_video

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real videos and annotations beside the checkout; tests that use them skip where there are none."""
    if not SHARED.is_dir():
        pytest.skip("no shared data beside the checkout")
    return SHARED


@pytest.fixture(scope="session")
def local_ray():
    """One local Ray for the whole run."""
    import ray

    os.environ["RAY_idle_worker_killing_time_threshold_ms"] = "600000"  # noqa: SIM112  as pipelines.cluster does
    ray.init(
        "local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=200 << 20,
        logging_level=logging.ERROR,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Path:
    """A rendered demo of four videos."""
    folder = tmp_path_factory.mktemp("demo")
    render_corpus(folder, 4, seed=5)
    return folder


@pytest.fixture(scope="session")
def demo_index(demo, local_ray, tmp_path_factory) -> Index:
    """The demo encoded through the whole pipeline; tests must not write to it."""
    from pipelines.encode import encode_corpus
    from qasir.encoding.models import Target
    from qasir.video.corpus import list_videos

    corpus = list_videos(str(demo / "videos"))
    index, source = prepare(EncoderOptions(), str(tmp_path_factory.mktemp("index") / "demo"), corpus)
    summary = encode_corpus(corpus, [Target(index, source)])[0]
    assert (summary.encoded, summary.failed) == (4, 0)
    return index


@pytest.fixture
def videos(tmp_path) -> Path:
    """A folder of three tiny videos, two of them in a sub-folder."""
    folder = tmp_path / "videos"
    write_video(folder / "a.mp4", 30)
    write_video(folder / "more" / "b.mp4", 25)
    write_video(folder / "more" / "c.mkv", 12)
    return folder
