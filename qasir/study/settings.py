"""Crosses what a study asks for into settings: each an encoder, or two, and a way of ranking."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from qasir.encoding.options import EncoderOptions
from qasir.errors import QasirError
from qasir.retrieval.checkpoint import Checkpoint
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.methods.coarse_to_fine import CoarseToFine
from qasir.retrieval.methods.hybrid import Hybrid
from qasir.retrieval.methods.method import Method
from qasir.retrieval.methods.sparse import Sparse
from qasir.study.config import Encoder, HybridChoice, ScoringChoice, StudyConfig, TwoStageChoice

SAMPLING = ("sampling", "max_gap_s")
"""The keys of an encoder that say which frames it takes."""
GIVEN = ("features", "query_features")
"""Of an encoder that is features: in words, how those of frames became rows, and of queries vectors."""
TUNED = "fine-tuned"
KINDS = (Method.kind, Sparse.kind, CoarseToFine.kind, TUNED, Hybrid.kind)
Choice = ScoringChoice | HybridChoice | TwoStageChoice


@dataclass(frozen=True)
class Side:
    """An encoder, and the folder of a fine-tuned checkpoint for it."""

    encoder: Encoder
    finetuned: str | None = None

    def describe(self, prefix: str = "") -> dict[str, Any]:
        """What of an encoder has a meaning for it; the rest is None."""
        names = ("model", "pretrained", "grid", "image_size", "fps", *SAMPLING, "fit", "precision")
        found: dict[str, Any] = {name: getattr(self.encoder, name, None) for name in names}
        said = (None, None) if isinstance(self.encoder, EncoderOptions) else self.encoder.said
        found |= {**dict(zip(GIVEN, said, strict=True)), "finetuned": self.finetuned}
        return {f"{prefix}{name}": value for name, value in found.items()}


@dataclass(frozen=True)
class Setting:
    """One row of the results. side: of a hybrid the expensive encoder, and small the other; reason: why it cannot be
    built."""

    side: Side | None
    choice: Choice
    small: Side | None = None
    reason: str = ""

    @property
    def kind(self) -> str:
        """One of KINDS: the method's, but what is as any other is fine-tuned when its encoder is."""
        own = self.choice.kind()
        is_tuned = self.side is not None and self.side.finetuned is not None
        return TUNED if own == Method.kind and is_tuned else own

    def describe(self) -> dict[str, Any]:
        """What was asked for, flat: None where something is left open, or has no meaning here."""
        nothing = Side(EncoderOptions())
        sides = [(side or nothing).describe(prefix) for side, prefix in ((self.side, ""), (self.small, "small_"))]
        for side, named in zip((self.side, self.small), sides, strict=True):
            if side is None:
                named.update(dict.fromkeys(named))
        asked = {f.name: getattr(self.choice, f.name) for f in fields(self.choice) if f.name not in ("large", "small")}
        return {"kind": self.kind, **sides[0], **sides[1], **asked}


def settings(
    config: StudyConfig,
    checkpoints: Mapping[str, Checkpoint | str],
    fits: Callable[[Checkpoint, Encoder], bool],
    broken: Mapping[Encoder, str],
) -> Iterator[Setting]:
    """Every setting, each encoder's together and hybrids last.

    checkpoints: of each folder, or why it cannot be used; fits: whether one was trained on an encoder; broken: why an
    encoder cannot be built. What fits no encoder is one setting with a reason.
    """
    used: set[Any] = set()

    def with_reason(side: Side, choice: Choice) -> Setting:
        used.update((choice, side.finetuned))
        return Setting(side, choice, reason=broken.get(side.encoder, ""))

    for encoder in config.encoders:
        plain = Side(encoder)
        for scoring in config.scorings:
            if not refusal(scoring, encoder):
                yield with_reason(plain, scoring)
        staged = [choice for choice in config.two_stage if not refusal(choice, encoder)]
        for two_stage in staged:
            yield with_reason(plain, two_stage)
        for folder in config.finetuned:
            checkpoint = checkpoints[folder]
            if isinstance(checkpoint, str) or encoder in broken or not fits(checkpoint, encoder):
                continue
            yield with_reason(Side(encoder, folder), ScoringChoice(checkpoint.recipe.scoring.asked_as()))
            if checkpoint.recipe.name == "eercf":
                for two_stage in staged:
                    yield with_reason(Side(encoder, folder), two_stage)
    choices: list[ScoringChoice | TwoStageChoice] = [*config.scorings, *config.two_stage]
    for choice in choices:
        if choice not in used:
            yield Setting(None, choice, reason=refusal(choice, config.encoders[-1]))
    for folder in config.finetuned:
        if folder not in used:
            why = checkpoints[folder]
            reason = why if isinstance(why, str) else f"{folder} was trained on no encoder of this study"
            yield Setting(Side(config.encoders[0], folder), ScoringChoice(), reason=reason)
    for hybrid in config.hybrids:
        yield _hybrid(hybrid, config.encoders, broken)


def refusal(choice: ScoringChoice | TwoStageChoice, encoder: Encoder) -> str:
    """Why an encoder cannot be ranked with in this way; empty where it can."""
    try:
        choice.method([Attention()]).check([encoder], [f"{encoder.model}, N = {encoder.grid}"])
    except QasirError as error:
        return str(error)
    return ""


def _hybrid(choice: HybridChoice, encoders: Sequence[Encoder], broken: Mapping[Encoder, str]) -> Setting:
    sides = []
    for name in ("large", "small"):
        keys = dict(getattr(choice, name))
        folder = keys.pop("finetuned", None)
        found = [one for one in encoders if all(getattr(one, key) == value for key, value in keys.items())]
        if len(found) != 1:
            what = ", ".join(f"{key} {value}" for key, value in keys.items())
            return Setting(
                None, choice, reason=f"{name}: {len(found)} encoders have {what}; pick one by more of its keys"
            )
        sides.append(Side(found[0], folder))
    reason = next((broken[side.encoder] for side in sides if side.encoder in broken), "")
    return Setting(sides[0], choice, small=sides[1], reason=reason)
