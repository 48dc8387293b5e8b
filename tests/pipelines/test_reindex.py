"""Re-indexing on Ray Data."""

import pytest

from pipelines.encode import encode_corpus
from pipelines.reindex import reindex_corpus
from qasir.encoding.models import Target
from qasir.encoding.options import EncoderOptions, ReindexOptions
from qasir.encoding.prepare import prepare
from qasir.video.corpus import list_videos
from tests.videos import write_video

pytestmark = pytest.mark.ray


@pytest.mark.slow
def test_new_and_removed_videos_of_several_indexes(local_ray, videos, tmp_path):
    corpus = list_videos(str(videos))
    small = EncoderOptions(image_size=96, cells=False, thumbnails=False)
    indexes = [prepare(small, str(tmp_path / name), corpus) for name in ("one", "two")]
    encode_corpus(corpus, [Target(*indexes[0])])
    write_video(videos / "new.mp4", 10)
    (videos / "a.mp4").unlink()
    summaries = reindex_corpus(
        list_videos(str(videos)), [index for index, _ in indexes], ReindexOptions(max_removed=0.5)
    )
    assert [(s.new, s.removed, s.unchanged) for s in summaries] == [(1, 1, 2), (3, 0, 0)]
    for index, _ in indexes:
        rows = index.snapshot().super_images([])
        assert rows["video_id"].to_pylist() == ["more/b", "more/c", "new"]
        assert index.table("super_images").count_rows() == 3
