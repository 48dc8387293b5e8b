from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from pipelines.estimate import _Cluster, _RayCalls
from qasir.encoding.estimate import estimate
from qasir.encoding.models import Target
from qasir.encoding.options import EncodeOptions, EncoderOptions
from qasir.encoding.prepare import prepare
from qasir.video.corpus import list_videos
from tests.qasir.encoding.test_watched_calls import TABLE, dies, gives, hangs


def test_a_cluster_answers_and_what_dies_or_hangs_there_ends_nothing(local_ray):
    functions: list[Callable[[], Iterator[Any]]] = [partial(gives, 1), dies, partial(gives, 2)]
    assert dict(_RayCalls(2).each(functions, begin_s=60, end_s=60)) == {
        0: [TABLE.slice(0, 1), TABLE], 1: None, 2: [TABLE, TABLE],
    }  # fmt: skip
    assert dict(_RayCalls(1).each([partial(gives, 1), hangs], begin_s=60, end_s=5)) == {0: [TABLE.slice(0, 1), TABLE]}


@pytest.mark.slow
def test_an_estimate_by_a_cluster(local_ray, demo, demo_index, tmp_path):
    corpus = list_videos(str(demo / "videos"))
    target = Target(*prepare(EncoderOptions(), str(tmp_path / "index"), corpus))
    place = _Cluster([target], None, "auto")
    with place.calls as calls:
        found = estimate(
            corpus, [target], EncodeOptions(), calls,
            time_models=place.time_models, sizes=place.sizes,
            beside_s=0.0,
        )  # fmt: skip
    assert found.forecasts[0].super_images.value == demo_index.table("super_images").count_rows()
    assert found.sample.timed == 4
    assert found.forecasts[0].startup_s > 0
    assert list(tmp_path.iterdir()) == []
    assert isinstance(found.decode_cpu_s.value, float)
