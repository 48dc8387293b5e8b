from pathlib import Path
from types import SimpleNamespace
from typing import Any

from qasir.encoding.options import EncoderOptions
from qasir.retrieval.recipe import Recipe
from qasir.study.config import HybridChoice, Material, ScoringChoice, StudyConfig, TwoStageChoice
from qasir.study.feature_encoder import FeatureEncoder
from qasir.study.results import label, setting_id
from qasir.study.settings import settings

N1, N2, BARE = EncoderOptions(grid=1), EncoderOptions(grid=2), EncoderOptions(grid=3, cells=False)


def _same_grid(checkpoint, encoder):
    return checkpoint.grid == encoder.grid


def crossed(*, encoders=(N1, N2), checkpoints=None, broken=None, **parts):
    config = StudyConfig(
        Material("v", Path("q")), None, "auto", False, (0.0, 1.0), encoders,
        **{"scorings": (ScoringChoice(),), "hybrids": (), "two_stage": (), "finetuned": tuple(checkpoints or ())}
        | parts,
    )  # fmt: skip
    return list(settings(config, checkpoints or {}, _same_grid, broken or {}))


def test_every_encoder_gets_every_scoring_it_can_have():
    found = crossed(scorings=(ScoringChoice(), ScoringChoice("sparse:2")))
    assert [(s.kind, s.side.encoder.grid, s.choice.aggregation) for s in found] == [
        ("zero-shot", 1, "attention"), ("sparse", 1, "sparse:2"), ("zero-shot", 2, "attention"),
    ]  # fmt: skip
    assert not any(s.reason for s in found)


def test_what_fits_no_encoder_is_one_setting_with_a_reason():
    choice = TwoStageChoice(rerank="cell")
    found = crossed(
        encoders=(BARE,), scorings=(ScoringChoice("sparse:2"),), two_stage=(choice,),
        checkpoints={"a": SimpleNamespace(grid=2, recipe=Recipe()), "b": "b is missing"},
    )  # fmt: skip
    assert "sparse:2" in found[0].reason
    assert "needs an index of grid 1" in found[0].reason
    assert "--no-cells" in found[1].reason
    assert [s.reason for s in found[2:]] == [
        "a was trained on no encoder of this study", "b is missing",
    ]  # fmt: skip


def test_a_checkpoint_goes_with_the_encoder_it_was_trained_on():
    choice = TwoStageChoice()
    found = crossed(
        two_stage=(choice,),
        checkpoints={
            "tuned": SimpleNamespace(grid=2, recipe=Recipe()),
            "coarse": SimpleNamespace(grid=1, recipe=Recipe("eercf")),
        },
    )  # fmt: skip
    tuned = [(s.kind, s.side.encoder.grid, s.side.finetuned) for s in found if s.side.finetuned]
    assert tuned == [("fine-tuned", 1, "coarse"), ("two-stage", 1, "coarse"), ("fine-tuned", 2, "tuned")]
    assert next(s for s in found if s.side.finetuned == "coarse").choice.aggregation == "tib"


def test_a_broken_encoder_breaks_its_settings_only():
    found = crossed(broken={N2: "no such model"}, hybrids=(HybridChoice({"grid": 1}, {"grid": 2}),))
    assert [(s.kind, s.reason) for s in found] == [
        ("zero-shot", ""), ("zero-shot", "no such model"), ("hybrid", "no such model"),
    ]  # fmt: skip


def test_a_hybrid_picks_one_encoder_for_each_side():
    one, none, both = crossed(
        encoders=(N1, N2, BARE),
        hybrids=tuple(HybridChoice(large, {"grid": 3}) for large in ({"grid": 1}, {"grid": 4}, {"cells": True})),
    )[3:]
    assert (one.side.encoder, one.small.encoder, one.reason) == (N1, BARE, "")
    assert none.reason == "large: 0 encoders have grid 4; pick one by more of its keys"
    assert both.reason == "large: 2 encoders have cells True; pick one by more of its keys"


def test_even_sampling_keeps_the_ids_that_studies_have():
    """Those of versions that knew no other, so that a study begun with them goes on."""
    (even,) = crossed(encoders=(N2,))
    (keyframes,) = crossed(encoders=(EncoderOptions(grid=2, sampling="keyframes", max_gap_s=2.0),))
    assert setting_id(even) == "913efaaff0"
    assert setting_id(keyframes) != setting_id(even)
    assert keyframes.describe() == even.describe() | {"sampling": "keyframes", "max_gap_s": 2.0}
    assert label(keyframes.describe()) == "qasir-tiny N=2 keyframes, at most 2 s apart, attention"


def test_features_are_called_what_they_are_and_how_they_were_read():
    common: dict[str, Any] = {"features": "f.h5", "validation_features": "f.h5"}
    plain = FeatureEncoder("CLIP ViT-L/14", fps=1.0, **common)
    pooled = FeatureEncoder(
        "CLIP ViT-L/14", fps=3.0, columns="0:512", query_features=Path("q.h5"), query_pooling="last", grid=2,
        pool="mean", **common,
    )  # fmt: skip
    found = crossed(
        encoders=(plain, pooled), scorings=(ScoringChoice("mean"),),
        hybrids=(HybridChoice({"grid": 1}, {"query_pooling": "last"}),),
    )  # fmt: skip
    assert [label(one.describe()) for one in found] == [
        "CLIP ViT-L/14 N=1, mean", "CLIP ViT-L/14 N=2 3 fps columns 0:512 queries last, mean",
        "fusion of CLIP ViT-L/14 N=1 and CLIP ViT-L/14 N=2 3 fps columns 0:512 queries last",
    ]  # fmt: skip
    asked = found[1].describe()
    assert (asked["features"], asked["query_features"]) == ("columns 0:512", "last")
    assert found[0].describe()["query_features"] == "by the model's text tower"
    assert [asked[name] for name in ("image_size", "sampling", "fit", "precision")] == [None] * 4
    assert len({setting_id(one) for one in found}) == 3
