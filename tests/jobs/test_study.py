import pyarrow.parquet as pq
import pytest

from jobs import run_study
from pipelines.study import run_study as study
from pipelines.study_sources import Encoding, folder_name
from qasir.demo.render import render_corpus
from qasir.encoding.encode import plain_stages
from qasir.encoding.options import EncodeOptions, EncoderOptions
from qasir.encoding.run import run_encoding
from qasir.study.config import load_study_config
from qasir.study.page import render_study
from qasir.study.results import read_tables
from tests.jobs.killing import kill_once_there
from tests.jobs.test_jobs import call

CONFIG = """\
videos: {demo}/videos
queries: {demo}/queries.jsonl
validation: {{videos: {demo}/videos, queries: {demo}/queries.jsonl}}
encoders:
  - {{grid: [1, 3], image_size: 96, fps: 0.5, thumbnails: false}}
  - {{grid: 3, image_size: 144, fps: 0.5, cells: false, thumbnails: false}}
  - {{model: nonsense}}
scorings:
  - aggregation: [attention, mean]
  - {{aggregation: "sparse:3"}}
hybrids:
  - {{hybrid: [fusion, cascade], large: {{grid: 1}}, small: {{grid: 3, image_size: 144}}}}
two_stage:
  - {{recall_k: 2, rerank: "super-image,cell"}}
"""


@pytest.fixture(scope="module")
def config(demo, tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "study.yaml"
    path.write_text(CONFIG.format(demo=demo))
    return path


def encode_here(corpus, targets, **options):
    stages = plain_stages(targets, EncodeOptions(), isolate=False)
    return run_encoding(corpus, [target.index for target in targets], stages, EncodeOptions(), **options)


@pytest.fixture(scope="module")
def studied(config, tmp_path_factory):
    """(folder, what the job said, its results); encoded and evaluated without Ray."""
    output = tmp_path_factory.mktemp("out")
    study(load_study_config(config), output, encoding=Encoding(encode_here, lambda: "cpu"))
    said = call(run_study, "--config", config, "--output", output, "--json")
    return output, said, pq.read_table(output / "results.parquet")


def test_indexes_of_even_sampling_are_where_studies_have_them():
    """In the folders of versions that knew no other sampling."""
    assert folder_name(EncoderOptions(grid=2)) == "qasir-tiny_n2_1fps_5a5c0c34"
    keyframes = [folder_name(EncoderOptions(grid=2, sampling="keyframes", max_gap_s=gap)) for gap in (None, 2.0)]
    assert all(name.startswith("qasir-tiny_n2_1fps_keyframes_") for name in keyframes)
    assert len(set(keyframes)) == 2


def test_every_setting_is_a_row(studied, demo):
    output, (status, _, facts, error), results = studied
    assert status == 0, error
    rows = results.to_pylist()
    assert facts["settings"] == len(rows) == 2 + 1 + 2 + 2 + 2 + 2 + 1 + 2
    failed = [row for row in rows if row["status"] == "failed"]
    assert facts["failed"] == len(failed) == 3
    assert all("nonsense" in row["reason"] for row in failed)
    done = [row for row in rows if row["status"] == "done"]
    assert len({row["setting_id"] for row in rows}) == len(rows)
    for row in done:
        assert row["SumR_low"] <= row["SumR"] <= row["SumR_high"]
        assert row["gflops_per_video"] > 0
        assert row["seconds"] > 0
    by_label = {row["label"]: row for row in done}
    dense = next(row for row in done if row["grid"] == 1 and row["aggregation"] == "mean")
    sparse = next(row for row in done if row["kind"] == "sparse")
    super_image = next(
        row for row in done if row["grid"] == 3 and row["image_size"] == 96 and row["aggregation"] == "mean"
    )
    assert sparse["encodings_per_video"] == super_image["encodings_per_video"] < dense["encodings_per_video"] / 7
    assert len(by_label) == len(done)
    ranks = pq.read_table(output / "ranks.parquet")
    assert ranks.num_rows == sum(row["n_queries"] for row in done)
    page = (output / "index.html").read_text()
    assert page.count("<svg") >= 5
    assert page == render_study(read_tables(output), title=f"Study of {demo.name}/queries.jsonl", tuned=True)


def test_a_second_run_does_nothing_again(studied, config):
    output, (_, _, first, _), before = studied
    stamps = {path: path.stat().st_mtime_ns for path in (output / "results").iterdir()}
    status, out, _, _ = call(run_study, "--config", config, "--output", output, "--json")
    assert status == 0
    assert out.count(", as before") == first["settings"] - first["failed"]
    assert {path: path.stat().st_mtime_ns for path in (output / "results").iterdir()} == stamps
    assert pq.read_table(output / "results.parquet").equals(before)


@pytest.mark.slow  # encodes on Ray
def test_a_changed_query_file_is_evaluated_anew(studied, config, demo, tmp_path):
    output, _, _ = studied
    lines = (demo / "queries.jsonl").read_text().splitlines()
    (tmp_path / "fewer.jsonl").write_text("\n".join(lines[: len(lines) // 2]) + "\n")
    other = config.parent / "other.yaml"
    text = f"videos: {demo}/videos\nqueries: {tmp_path}/fewer.jsonl\nencoders: [{{grid: 3, thumbnails: false}}]\n"
    other.write_text(text)
    _, out, _, _ = call(run_study, "--config", other, "--output", output, "--json")
    assert "as before" not in out
    assert pq.read_table(output / "results.parquet")["n_queries"].to_pylist() == [len(lines) // 2]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_study_goes_on(studied, config, tmp_path):
    _, _, done = studied
    kill_once_there("jobs.run_study", ("--config", config, "--output", tmp_path), tmp_path / "results")
    status, _, facts, error = call(run_study, "--config", config, "--output", tmp_path, "--json")
    assert status == 0, error
    assert facts["failed"] == 3
    again = pq.read_table(tmp_path / "results.parquet")
    columns = ["setting_id", "SumR", "MeanR", "gflops_per_video"]
    assert again.select(columns).to_pylist() == done.select(columns).to_pylist()


def test_nothing_that_can_be_built_is_an_error(demo, local_ray, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(f"videos: {demo}/videos\nqueries: {demo}/queries.jsonl\nencoders: [{{model: nonsense}}]\n")
    status, _, facts, _ = call(run_study, "--config", path, "--output", tmp_path / "out", "--json")
    assert status == 1
    assert facts["failed"] == facts["settings"] == 1
    assert "Could not be built" in (tmp_path / "out" / "index.html").read_text()


R10 = {1: 98.6, 2: 98.3, 3: 90.8, 4: 79.5}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_quality_of_the_packaged_model(local_ray, tmp_path):
    """A fixed corpus at every N: a scorer, a tiler or weights that broke show here."""
    render_corpus(tmp_path, 40, seed=77, frame_rate=1)
    path = tmp_path / "study.yaml"
    path.write_text(
        f"videos: {tmp_path}/videos\nqueries: {tmp_path}/queries.jsonl\n"
        "encoders: [{grid: [1, 2, 3, 4], cells: false, thumbnails: false}]\n"
        "scorings: [{aggregation: attention, temperature: 0.01}]\n"
    )
    status, _, _, error = call(run_study, "--config", path, "--output", tmp_path / "out", "--json")
    assert status == 0, error
    rows = pq.read_table(tmp_path / "out" / "results.parquet").to_pylist()
    found = {row["grid"]: row["R@10"] for row in rows}
    # A tiler that loses every second frame costs 2.3 at N = 4, since moments last; one query is 0.3.
    assert found == {n: pytest.approx(r10, abs=1.5) for n, r10 in R10.items()}
