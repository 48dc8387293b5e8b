import re
from pathlib import Path

import pytest

from qasir.errors import ConfigError
from qasir.study.config import ScoringChoice, TwoStageChoice, load_study_config

GOOD = """\
videos: clips
queries: q.jsonl
validation: {videos: val, queries: val.jsonl}
encoders:
  - {model: qasir-tiny, grid: [1, 2], image_size: [144, 192]}
  - {grid: 3, pretrained: weights.pt}
scorings:
  - {aggregation: attention, temperature: [0.01, 0.1]}
  - aggregation: [mean, "sparse:2"]
finetuned: [tuned, /elsewhere]
hybrids:
  - {hybrid: [fusion, cascade], large: {grid: 1, image_size: 192}, small: {grid: 3, finetuned: tuned}, top_k: 5}
two_stage:
  - {recall_k: [5, 10], rerank: "super-image,cell"}
"""


def load(tmp_path, text):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return load_study_config(path)


def test_lists_are_crossed_and_paths_are_beside_the_file(tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"")
    config = load(tmp_path, GOOD)
    assert (config.corpus.videos, config.corpus.queries) == (str(tmp_path / "clips"), tmp_path / "q.jsonl")
    assert config.validation.videos == str(tmp_path / "val")
    assert [(one.grid, one.image_size) for one in config.encoders] == [
        (1, 144), (1, 192), (2, 144), (2, 192), (3, None),
    ]  # fmt: skip
    assert config.encoders[-1].pretrained == str(tmp_path / "weights.pt")
    assert config.scorings == (
        ScoringChoice("attention", 0.01), ScoringChoice("attention", 0.1), ScoringChoice("mean"),
        ScoringChoice("sparse:2"),
    )  # fmt: skip
    assert config.finetuned == (str(tmp_path / "tuned"), "/elsewhere")
    assert [(one.hybrid, one.top_k, one.small["finetuned"]) for one in config.hybrids] == [
        ("fusion", 5, str(tmp_path / "tuned")), ("cascade", 5, str(tmp_path / "tuned")),
    ]  # fmt: skip
    assert config.two_stage == tuple(TwoStageChoice(recall_k=k, rerank="super-image,cell") for k in (5, 10))
    assert config.mv_edges == (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def test_an_encoder_is_picked_by_paths_as_encoders_name_them(tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"")
    start = (
        "videos: a\nqueries: b\nencoders: [{grid: 2, pretrained: weights.pt}, {grid: 3, model: 'local-dir:small'}]\n"
    )
    picks = "hybrids: [{large: {pretrained: weights.pt}, small: {model: 'local-dir:small', finetuned: null}}]\n"
    config = load(tmp_path, start + picks)
    assert config.hybrids[0].large == {"pretrained": config.encoders[0].pretrained}
    assert config.hybrids[0].small["model"] == config.encoders[1].model == f"local-dir:{tmp_path / 'small'}"
    assert config.hybrids[0].small["finetuned"] is None


def test_without_scorings_attention_is_one(tmp_path):
    config = load(tmp_path, "videos: a\nqueries: b\nencoders: [{grid: 2}]\n")
    assert config.scorings == (ScoringChoice(),)
    assert config.validation is None


START = "videos: a\nqueries: b\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (START + "encoders:\n  - gird: 2\n", r"study.yaml:4: encoders\[0\].gird: unknown key"),
        (START + "encoders:\n  - grid: [1, two]\n", r":4: encoders\[0\].grid: .*not 'two'"),
        (START + "encoders:\n  - grid: []\n", r":4: encoders\[0\].grid: an empty list"),
        (START + "encoders:\n  - grid: [2, 2]\n", r":3: encoders: twice the same"),
        (START + "encoders: 3\n", r":3: encoders: give a list"),
        (START, r"encoders: give a list of encoders"),
        (START + "settings: []\n", r":3: settings: unknown key; the keys are videos, queries"),
        ("queries: b\nencoders:\n  - grid: 2\n", r"videos: name a folder"),
        ("videos: b\nencoders:\n  - grid: 2\n", r"queries: name a query file"),
        (START + "validation:\n  videos: c\nencoders: [{grid: 2}]\n", r":3: validation.queries: name a query file"),
        (START + "format: csv\nencoders: [{grid: 2}]\n", r":3: format: choose one of .*not 'csv'"),
        (START + "paragraphs: maybe\nencoders: [{grid: 2}]\n", r":3: paragraphs: choose true or false"),
        (START + "encoders: [{grid: 2}]\nfinetuned: [3]\n", r":4: finetuned: give a list of folders"),
        (START + "encoders: [{grid: 2}]\nmv_edges: [a]\n", r":4: mv_edges: give a list of numbers"),
        (START + "encoders: [{grid: 2}]\nmv_edges: [1, 0]\n", r":4: mv_edges: .*increasing"),
        (START + "encoders: [{grid: 2}]\nhybrids:\n  - {large: {grid: 2}}\n", r":5: hybrids\[0\].small: missing"),
        (
            START + "encoders: [{grid: 2}]\nhybrids:\n  - large: {grid: 2}\n    small: {size: 3}\n",
            r":6: hybrids\[0\].small.size: unknown key",
        ),
        (
            START + "encoders: [{grid: 2}]\nhybrids:\n  - large: {grid: 2}\n    small: {grid: two}\n",
            r":6: hybrids\[0\].small.grid: .*integer, not 'two'",
        ),
        (
            START + "encoders: [{grid: 2}]\nhybrids: [{large: 3, small: {}}]\n",
            r":4: hybrids\[0\].large: expected the keys",
        ),
        (START + "encoders:\n  - grid: [1, 2]\n  - grid: [3, x]\n", r":5: encoders\[1\].grid: .*not 'x'"),
        (START + "encoders: [{grid: 2}]\nvalidation: later\n", r":4: validation: expected the keys videos, queries"),
        (START + "encoders: [{grid: 2}]\nscorings: mean\n", r":4: scorings: give a list of scorings, not 'mean'"),
        (START + "encoders: [{grid: 2}]\ntwo_stage: [{recall_k: many}]\n", r":4: two_stage\[0\].recall_k"),
    ],
)
def test_errors_name_the_line_and_the_key(tmp_path, text, says):
    with pytest.raises(ConfigError, match=says):
        load(tmp_path, text)


FEATURES = """\
features: clip.h5
queries: test.jsonl
query_features: texts.h5
query_pooling: last
strip_prefix: v_
video_ids: test.txt
missing: miss
moments_from: release.jsonl
validation: {queries: val.jsonl, query_features: val_texts.h5}
encoders:
  - {model: CLIP ViT-L/14, fps: 3}
  - {model: CLIP ViT-L/14, fps: 3, query_pooling: [mean, max], query_normalise: true}
  - {model: other, durations: d.json, features: other, query_features: other.h5, validation_features: other_val}
hybrids: [{large: {model: CLIP ViT-L/14, query_pooling: last}, small: {query_features: other.h5}}]
"""


def test_a_study_over_features_fills_in_what_encoders_leave_to_it(tmp_path):
    config = load(tmp_path, FEATURES)
    assert (config.corpus.videos, config.corpus.video_ids) == (None, tmp_path / "test.txt")
    assert config.validation.queries == tmp_path / "val.jsonl"
    assert (config.strip_prefix, config.missing, config.moments_from) == ("v_", "miss", tmp_path / "release.jsonl")
    first, *_, last = config.encoders
    assert [(one.query_pooling, bool(one.query_normalise)) for one in config.encoders] == [
        ("last", False), ("mean", True), ("max", True), (None, False),
    ]  # fmt: skip
    assert first.frames(validating=False) == first.frames(validating=True) == str(tmp_path / "clip.h5")
    assert first.queries(validating=False).query_features == tmp_path / "texts.h5"
    assert first.queries(validating=True).query_features == tmp_path / "val_texts.h5"
    assert last.frames(validating=True) == str(tmp_path / "other_val")
    assert last.queries(validating=True).query_features == tmp_path / "other.h5"
    assert last.durations == tmp_path / "d.json"
    assert [one.said for one in config.encoders[1:]] == [
        ("as given", "mean, normalised"), ("as given", "max, normalised"), ("as given", "as given"),
    ]  # fmt: skip
    assert config.hybrids[0].small == {"query_features": tmp_path / "other.h5"}


OVER = "features: a\nqueries: b\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (START + "query_features: c\nencoders: [{grid: 2}]\n", r":3: query_features: a study is over videos or over"),
        (OVER + "videos: c\nencoders: [{model: x}]\n", r":1: features: .*leave out this key or `videos`"),
        (OVER + "encoders: [{grid: 2}]\n", r":3: encoders\[0\].model: missing"),
        (OVER + "encoders: [{model: x, image_size: 96}]\n", r":3: encoders\[0\].image_size: unknown key; .* fps"),
        (START + "encoders: [{columns: '0:3'}]\n", r":3: encoders\[0\].columns: unknown key"),
        (
            "queries: b\nencoders:\n  - {model: x, features: f}\n  - {model: y}\n",
            r":2: encoders: one has no `features`, and the study names none",
        ),
        (OVER + "query_pooling: last\nencoders: [{model: x}]\n", r":4: encoders: query_pooling says how `query_feat"),
        (OVER + "encoders: [{model: x}, {model: x, features: c}]\n", r":3: encoders: two of other files .* x alike"),
        (OVER + "encoders: [{model: x}]\nmissing: hit\n", r":4: missing: .*not 'hit'"),
        (OVER + "encoders: [{model: x}]\nmoments_format: tvr\n", r":4: moments_format: "),
        (OVER + "encoders: [{model: x}]\nvalidation: {videos: v, queries: q}\n", r"validation.videos: unknown key"),
        (OVER + "encoders: [{model: x}]\nhybrids: [{large: {image_size: 3}, small: {}}]\n", r"large.image_size: unk"),
    ],
)
def test_videos_and_features_do_not_mix(tmp_path, text, says):
    with pytest.raises(ConfigError, match=says):
        load(tmp_path, text)


DOCS = Path(__file__).parents[3] / "docs"
WRITTEN = "".join((DOCS / name).read_text() for name in ("study.md", "benchmarks.md"))
STUDIES = re.findall(r"```yaml\n(.*?)```", WRITTEN, re.DOTALL)


@pytest.mark.parametrize("text", STUDIES)
def test_the_studies_of_the_docs_can_be_read(tmp_path, text):
    assert load(tmp_path, text).encoders
