"""What opens features on Ray's workers, and dies of it."""

import os
from pathlib import Path

from pipelines.import_features import Files
from qasir.encoding.feature_corpus import FeatureCorpus


class DiesOnce(Files):
    """Its first worker dies before it has read anything. marker: a file that says so to the next."""

    def __init__(self, features: FeatureCorpus, marker: Path) -> None:
        super().__init__(features.path, features.options, features.version)
        self._marker = marker

    def opened(self) -> FeatureCorpus:
        if not self._marker.exists():
            self._marker.touch()
            os._exit(1)
        return super().opened()


class DiesOfB(Files):
    """Whoever reads video b dies of it."""

    def opened(self) -> FeatureCorpus:
        found = super().opened()
        load = found.load
        found.load = lambda video_id: os._exit(1) if video_id == "b" else load(video_id)  # type: ignore[method-assign]
        return found
