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
