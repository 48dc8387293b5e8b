import logging
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from qasir.demo.render import render_corpus
from qasir.encoding.encode import encode
from qasir.encoding.options import EncoderOptions
from qasir.index.index import Index
from tests.videos import ordinary_priority, write_video

VISIBLE_GPUS = os.environ.get("CUDA_VISIBLE_DEVICES")
# The tests are about CPU results; those of the mark gpu start processes that see GPUs.
os.environ["CUDA_VISIBLE_DEVICES"] = ""
# Ray's workers run at niceness 15, and beside anything else that keeps the CPUs busy they get next to nothing: the
# loss of a node beside two busy loops was not over in 540 s, and takes 110 s with this.
os.environ.setdefault("RAY_worker_niceness", "0")
# Two processes run tests side by side; threads of torch and OpenMP beside them only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark what uses the local Ray, so that `-m "not ray"` leaves it out; files with slow tests come first, so that no
    long one is left for the end where two processes share the files."""
    for item in items:
        if "local_ray" in item.fixturenames:
            item.add_marker(pytest.mark.ray)
    n_slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: n_slow[item.path], reverse=True)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    """SVT-AV1, where it may, gives the thread that opens an encoder real-time priority, and what that starts inherits
    it: then nothing else on the machine runs, not even Ray's daemons."""
    ordinary_priority()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item):
    ordinary_priority()


@pytest.fixture(scope="session")
def gpu() -> dict[str, str]:
    """The environment of a process that may use the GPUs, which this one does not see."""
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    if VISIBLE_GPUS is not None:
        environment["CUDA_VISIBLE_DEVICES"] = VISIBLE_GPUS
    look = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    if subprocess.run([sys.executable, "-c", look], env=environment, check=False).returncode != 0:
        (pytest.fail if os.environ.get("QASIR_REQUIRE_GPU") == "1" else pytest.skip)("torch sees no GPU")
    return environment


@pytest.fixture(scope="session")
def local_ray():
    """One local Ray for all tests of this process."""
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


@pytest.fixture(autouse=True)
def ray_only_where_asked_for(request):
    """A test whose job starts Ray says so by `local_ray`, and gets its settings."""
    was_up = ray_is_up()
    yield
    assert was_up == ray_is_up() or "local_ray" in request.fixturenames, "this test needs the fixture local_ray"


def ray_is_up() -> bool:
    return "ray" in sys.modules and sys.modules["ray"].is_initialized()


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Path:
    """A rendered demo of four videos, with a frame a second, which is as many as are sampled."""
    folder = tmp_path_factory.mktemp("demo")
    render_corpus(folder, 4, seed=5, frame_rate=1)
    return folder


@pytest.fixture(scope="session")
def demo_index(demo, tmp_path_factory) -> Index:
    """The demo, encoded by the plain loop; tests must not write to it."""
    return encoded_demo(demo, tmp_path_factory.mktemp("index") / "demo", EncoderOptions())


@pytest.fixture(scope="session")
def dense_index(demo, tmp_path_factory) -> Index:
    """The same at a small frame a super image, without cells and thumbnails; tests must not write to it."""
    options = EncoderOptions(grid=1, image_size=96, cells=False, thumbnails=False)
    return encoded_demo(demo, tmp_path_factory.mktemp("dense") / "demo", options)


def encoded_demo(demo: Path, uri: Path, model: EncoderOptions) -> Index:
    summary = encode(demo / "videos", uri, model=model, isolate=False)
    assert (summary.encoded, summary.failed) == (4, 0)
    return Index.open(str(uri))


@pytest.fixture
def videos(tmp_path) -> Path:
    """A folder of three tiny videos, two of them in a sub-folder."""
    folder = tmp_path / "videos"
    write_video(folder / "a.mp4", 30)
    write_video(folder / "more" / "b.mp4", 25)
    write_video(folder / "more" / "c.mkv", 12)
    return folder
