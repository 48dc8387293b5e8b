import runpy
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from qasir.evaluation.metrics import bootstrap, summarise
from qasir.study.comparing import difference, pareto
from qasir.study.page import render_study
from qasir.study.questions import findings
from qasir.study.results import DONE, RESULTS_SCHEMA, Result, label, write_tables

SCRIPT = Path(__file__).parents[3] / "docs" / "make_results.py"

QUERIES, VIDEOS = [f"q{i}" for i in range(60)], [f"v{i % 20}" for i in range(60)]
GRID_COST = {1: 90.0, 2: 22.0, 3: 10.0}


def result(quality, cost, *, kind="zero-shot", aggregation="attention", grid=1, **more):
    """Made-up ranks: a share `quality` of the queries is answered right, the others at rank 50."""
    rank = np.where(np.arange(60) < 60 * quality, 1, 50)
    bounds = bootstrap(rank, VIDEOS)
    row = {
        **dict.fromkeys(RESULTS_SCHEMA.names), "status": DONE, "kind": kind, "model": "m", "grid": grid,
        "image_size": 192,
        "fps": 1.0, "aggregation": aggregation, "gflops_per_video": cost, "gflops_per_query": 0.001, "n_videos": 20,
        "n_queries": 60, "encodings_per_video": cost, "parameters": 10**6, "model_seconds_per_video": 0.1,
        **summarise(rank),
        **{f"{name}_low": pair[0] for name, pair in bounds.items()},
        **{f"{name}_high": pair[1] for name, pair in bounds.items()},
        "by_mv": [{"lo": 0.0, "hi": 0.5, "n_queries": 60, **summarise(rank)}, {"lo": 0.5, "hi": 1.0, "n_queries": 0}],
        "seconds": 1.0, **more,
    }  # fmt: skip
    row["label"] = label(row)
    return Result(row, rank, QUERIES, VIDEOS)


@pytest.fixture
def study():
    grids = [result(q, GRID_COST[n], grid=n) for n, q in ((1, 0.9), (2, 0.7), (3, 0.4))]
    return [
        *grids,
        result(0.2, 90.0, aggregation="mean"),
        result(0.5, 22.0, kind="sparse", aggregation="sparse:2"),
        result(0.8, 40.0, grid=2, image_size=288),
        result(0.65, 21.0, grid=2, sampling="keyframes", max_gap_s=4.0),
        result(0.5, 5.0, grid=2, model="local-dir:/models/small", parameters=10**5),
        result(0.8, 22.0, kind="fine-tuned", grid=2, finetuned="tuned"),
        result(
            0.85, 32.0, kind="hybrid", grid=2, hybrid="fusion", weight=0.5, small_model="m", small_grid=3, small_fps=1.0
        ),
    ]  # fmt: skip


def test_every_question_is_answered_from_the_numbers(study):
    answers = {one.question: one for one in findings(study)}
    assert len(answers) == 9
    assert all(one.chart.startswith("<svg") for one in answers.values())
    text = {question: " ".join(one.sentences) for question, one in answers.items()}
    assert "N = 2 saves 4.1 times the encodings of N = 1" in text["What does a larger N cost, and save?"]
    gain = f"{difference(study[1], study[4])[0]:+.1f}"
    assert gain in text["Super images, or as many single frames?"]
    cost = f"{difference(study[6], study[1])[0]:+.1f}"
    assert f"keyframes, 21.0 encodings a video, {study[6]['SumR']:.1f}" in text["Keyframes, or evenly spaced frames?"]
    assert f"1 a second, 22.0 encodings, {study[1]['SumR']:.1f}" in text["Keyframes, or evenly spaced frames?"]
    assert f"a difference of {cost}" in text["Keyframes, or evenly spaced frames?"]
    assert "over mean" in text["Attention, or pooling?"]
    assert "192 to 288 px, for 1.8 times the GFLOPs" in text["What does resolution buy?"]
    assert (
        "m (1.0 M parameters) instead of small (0.1 M) costs 4.4 times the GFLOPs"
        in text["What does a larger model buy?"]
    )
    assert "for 1.45 times the GFLOPs" in text["Zero-shot, fine-tuned, two-stage or hybrid?"]


def test_one_setting_has_nothing_to_compare(study):
    for finding in findings(study[:1])[1:]:
        assert len(finding.sentences) == 1
    assert findings([]) == []


def test_the_front_is_what_nothing_beats(study):
    front = pareto(study)
    assert [one["SumR"] for one in front] == sorted(one["SumR"] for one in front)
    for one in study:
        beaten = any(
            o is not one and o["gflops_per_video"] <= one["gflops_per_video"] and o["SumR"] > one["SumR"] for o in study
        )
        assert beaten != (one in front)


def test_a_difference_is_over_the_queries_that_both_answered(study):
    one, other = study[0], study[2]
    shorter = Result(other.row, other.rank[10:], QUERIES[10:], VIDEOS[10:])
    value, low, high = difference(one, shorter)
    ours = summarise(one.rank[10:])["SumR"] - summarise(other.rank[10:])["SumR"]
    assert value == pytest.approx(ours)
    assert low <= value <= high


def test_the_page_shows_what_could_not_be_built(study):
    row = {**dict.fromkeys(RESULTS_SCHEMA.names), "status": "failed", "label": "x", "reason": "no <such> model"}
    failed = Result(row, np.zeros(0, int), [], [])
    page = render_study([*study, failed], title="T", tuned=False)
    assert "no &lt;such&gt; model" in page
    assert "1 could not be built" in page
    assert render_study([failed], title="T", tuned=True).count("<svg") == 0


def test_the_document_and_its_pictures_are_made_from_a_study_s_tables(study, tmp_path):
    (tmp_path / "docs" / "results").mkdir(parents=True)
    (tmp_path / "docs" / "results" / "introduction.md").write_text("# Results\n")
    (tmp_path / "docs" / "results" / "sampling.md").write_text("## Keyframes\n\nSaid by hand.\n")
    folders = [tmp_path / "study", *(tmp_path / "sampling" / name / "study" for name in ("every_2_s", "default"))]
    for folder in folders:
        folder.mkdir(parents=True)
        write_tables(
            folder,
            [Result({**one.row, "setting_id": str(i)}, one.rank, QUERIES, VIDEOS) for i, one in enumerate(study)],
        )
    make = runpy.run_path(str(shutil.copy(SCRIPT, tmp_path / "docs")))["main"]
    make(tmp_path / "study")
    assert "## Keyframes" not in (tmp_path / "docs" / "RESULTS.md").read_text()
    make(sampling=tmp_path / "sampling")
    with_both = (tmp_path / "docs" / "RESULTS.md").read_text()
    assert with_both.index("Said by hand.\n\n| keyframes | N |") < with_both.index("## Every setting")
    make(sampling=tmp_path / "sampling")
    make(tmp_path / "study")
    assert (tmp_path / "docs" / "RESULTS.md").read_text() == with_both
    text = (tmp_path / "docs" / "RESULTS.md").read_text()
    pictures = list((tmp_path / "docs" / "results").glob("*.svg"))
    assert len(pictures) == 8
    for picture in pictures:
        assert f"(results/{picture.name})" in text
        assert ElementTree.parse(picture).getroot().tag == "{http://www.w3.org/2000/svg}svg"
        assert "var(" not in picture.read_text()
