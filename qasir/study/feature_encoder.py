"""An encoder of a study over features that others computed: what `import_features.py` is told of frames, and
`evaluate_retrieval.py` of queries."""

from dataclasses import dataclass
from pathlib import Path

from qasir.encoding.import_options import ImportOptions
from qasir.retrieval.query_features import QueryFeatureOptions

AS_GIVEN = "as given"
BY_MODEL = "by the model's text tower"
QUERY_KEYS = ("query_key", "query_pooling", "text_projection", "query_normalise")


@dataclass(frozen=True)
class FeatureEncoder(ImportOptions):
    """Keys named as the options of those jobs. features and query_features, and those of the validation queries, are
    the study's where they are left out; then so is, of how queries' features become vectors, what is None."""

    features: str | None = None
    query_features: Path | None = None
    validation_features: str | None = None
    validation_query_features: Path | None = None
    query_key: str | None = None
    query_pooling: str | None = None
    text_projection: str | None = None
    query_normalise: bool | None = None

    @property
    def cells(self) -> bool:
        """As methods ask of what an index stores: features are of whole frames."""
        return False

    def frames(self, *, validating: bool) -> str:
        """The file or folder of frames' features."""
        found = self.validation_features if validating else self.features
        assert found is not None, "a study's settings are complete"
        return found

    def queries(self, *, validating: bool) -> QueryFeatureOptions:
        """Features of queries; without a file where the model's text tower encodes them."""
        path = self.validation_query_features if validating else self.query_features
        return QueryFeatureOptions(
            path, self.query_key, self.query_pooling, self.text_projection, bool(self.query_normalise)
        )

    @property
    def frames_said(self) -> str:
        """How features of frames become rows, apart from the grid."""
        key = None if self.key is None else f"array {self.key}"
        columns = None if self.columns is None else f"columns {self.columns}"
        return ", ".join(filter(None, (key, columns, "normalised" if self.normalise else None))) or AS_GIVEN

    @property
    def queries_said(self) -> str:
        """How queries become vectors."""
        if self.query_features is None:
            return BY_MODEL
        projected = None if self.text_projection is None else f"projected by {self.text_projection}"
        normalised = "normalised" if self.query_normalise else None
        return ", ".join(filter(None, (self.query_key, projected, self.query_pooling, normalised))) or AS_GIVEN

    @property
    def said(self) -> tuple[str, str]:
        return self.frames_said, self.queries_said

    @property
    def named(self) -> tuple[str | float | None, ...]:
        """What a study's results call it by."""
        return (self.model, self.pretrained, self.grid, self.fps, *self.said)
