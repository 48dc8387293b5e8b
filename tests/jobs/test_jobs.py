import json
from dataclasses import replace

import lance
import numpy as np
import pytest
from typer.testing import CliRunner

from jobs import (
    apply_finetuned,
    build_vector_index,
    encode_corpus,
    evaluate_retrieval,
    reindex_corpus,
    render_demo,
    search_corpus,
)
from jobs.command_line import duration
from jobs.progress import decoder_lines, progress_line
from qasir.encoding.failures import too_many_failed
from qasir.encoding.reindex import ReindexSummary
from qasir.encoding.run import EncodeSummary, RunProgress
from qasir.errors import QasirError, QueryError
from qasir.index.index import Index, embedding_column
from tests.indexes import make_index, writing
from tests.qasir.retrieval.test_tuned import make_checkpoint
from tests.videos import write_video


def call(job, *args):
    """(exit status, stdout, the JSON of its last line or None, the user error or None)."""
    result = CliRunner().invoke(job.app, [str(arg) for arg in args])
    if result.exception and not isinstance(result.exception, SystemExit | QasirError):
        raise result.exception
    lines = result.stdout.strip().splitlines()
    error = result.exception if isinstance(result.exception, QasirError) else None
    facts = json.loads(lines[-1]) if "--json" in args and lines and error is None else None
    return result.exit_code, result.stdout, facts, error


def test_encode_evaluate_search(demo, demo_index, tmp_path):
    status, _, facts, _ = call(encode_corpus, "--videos", demo / "videos", "--index", demo_index.uri, "--json")
    assert status == 0
    assert {"encoded", "failed", "unchanged", "super_images", "video_seconds", "seconds"} <= set(facts)
    assert (facts["encoded"], facts["unchanged"]) == (0, 4)
    out = tmp_path / "report"
    args = ("--index", demo_index.uri, "--queries", demo / "queries.jsonl")
    status, text, facts, _ = call(evaluate_retrieval, *args, "--output", out, "--json")
    assert status == 0
    assert "says nothing: only 4 videos" in text
    assert sorted(path.name for path in out.iterdir()) == ["index.html", "metrics.json", "rankings.parquet"]
    assert json.loads((out / "metrics.json").read_text())["metrics"] == facts["metrics"]
    query = json.loads((demo / "queries.jsonl").read_text().splitlines()[0])
    status, text, facts, _ = call(search_corpus, "--index", demo_index.uri, "--top-k", 2, "--json", query["query"])
    assert status == 0
    assert len(facts["hits"]) == 2
    assert facts["hits"][0]["video_id"] in text


def test_evaluating_counts_what_was_left_out_of_the_query_file(demo, demo_index, tmp_path):
    first, second, third, *_ = map(json.loads, (demo / "queries.jsonl").read_text().splitlines())
    second |= {"start_s": second["end_s"] + 1, "end_s": second["start_s"]}
    third |= {"query": ""}
    queries, out = tmp_path / "q.jsonl", tmp_path / "report"
    queries.write_text("".join(json.dumps(row) + "\n" for row in (first, second, third)))
    args = ("--index", demo_index.uri, "--queries", queries, "--output", out, "--json")
    listed, trec = tmp_path / "ids.txt", tmp_path / "trec"
    listed.write_text(f"nowhere\n{first['video_id']}\n")
    status, text, facts, _ = call(evaluate_retrieval, *args, "--video-ids", listed)
    assert facts["video_ids"] == {"listed": 2, "not_in_index": 1, "queries_about_others": 0}
    assert (facts["n_videos"], facts["metrics"]["R@1"]) == (1, 100.0)
    said = "over the 2 listed videos only, of which the index lacks 1"
    assert said in text
    assert said in (out / "index.html").read_text()
    status, _, facts, _ = call(evaluate_retrieval, *args, "--trec", trec)
    right = {tuple(line.split()[::2]) for line in (trec / "qrels.txt").read_text().splitlines()}
    run = [line.split() for line in (trec / "run.txt").read_text().splitlines()]
    ranks = [int(rank) for query, _, video, rank, *_ in run if (query, video) in right]
    assert (len(run), len(ranks), np.mean(ranks)) == (2 * 4, 2, facts["metrics"]["MeanR"])
    assert (status, facts["n_queries"], sum(b["n_queries"] for b in facts["by_mv"])) == (0, 2, 1)
    counts = {"no_text": 1, "moment_reversed": 1}
    assert facts["query_file"] == {"format": "jsonl", "n_queries": 2, "left_out": counts, "mended": {}}
    assert json.loads((out / "metrics.json").read_text())["query_file"] == facts["query_file"]
    page = (out / "index.html").read_text()
    assert "queries without a text, left out: 1 (first line 3)" in page
    assert "moments that end before they start, left out: 1 (first line 2: " in page


def test_searching_moments(demo, demo_index):
    query = json.loads((demo / "queries.jsonl").read_text().splitlines()[0])
    args = ("--index", demo_index.uri, "--json", query["query"])
    status, text, facts, _ = call(search_corpus, *args, "--moments", "--per-video", 2, "--top-k", 6)
    assert status == 0
    assert facts["by"] == "moment"
    hits = facts["hits"]
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    assert max(sum(hit["video_id"] == other["video_id"] for other in hits) for hit in hits) == 2
    assert set(hits[0]) == {"video_id", "score", "start_s", "end_s", "uri", "video_score"}
    lines = [line for line in text.splitlines() if "  score " in line]
    assert len(lines) == len(hits) == 6
    for hit, line in zip(hits, lines, strict=True):
        assert hit["video_id"] in line
        assert f"score {hit['score']:.3f}" in line
        assert f"video {hit['video_score']:.3f}" in line
        assert hit["uri"] == str(demo / "videos" / f"{hit['video_id']}.mp4")
    videos = call(search_corpus, *args)[2]
    assert videos["by"] == "video"
    assert {hit["uri"] for hit in videos["hits"]} == {str(path) for path in (demo / "videos").iterdir()}
    assert call(search_corpus, *args, "--per-video", 2)[0] == 2  # of no use where videos are ranked
    assert "top-k 0" in str(call(search_corpus, *args, "--moments", "--top-k", 0)[3])


def test_searching_by_picture_and_by_place(demo_index, tmp_path):
    index = ("--index", demo_index.uri)
    row = demo_index.snapshot().super_images(["thumbnail", "start_s"]).to_pylist()[1]
    (tmp_path / "p.jpg").write_bytes(row["thumbnail"])
    like = f"{row['video_id']}@{row['start_s']}"
    status, _, facts, _ = call(search_corpus, *index, "--image", tmp_path / "p.jpg", "--json")
    assert status == 0
    assert (facts["query"], facts["image"], facts["like"]) == (None, str(tmp_path / "p.jpg"), None)
    assert facts["hits"][0]["video_id"] == row["video_id"]
    status, _, facts, _ = call(search_corpus, *index, "--like", like, "--moments", "--json", "a penguin")
    assert status == 0
    assert (facts["query"], facts["image"], facts["like"], facts["by"]) == ("a penguin", None, like, "moment")
    assert facts["hits"]
    alone = call(search_corpus, *index, "--like", like, "--moments", "--json")[2]["hits"][0]
    assert alone["video_id"] == row["video_id"]
    assert alone["start_s"] <= row["start_s"] < alone["end_s"]
    for args, says in (
        ((), "nothing to search for"),
        (("--image", __file__), "is not a picture that can be read"),
        (("--like", "nope@1"), "no encoded video 'nope'"),
        (("--like", f"{row['video_id']}@9999"), "choose seconds from 0 to"),
        (("--like", "nope"), "VIDEO@12.5"),
        (("--like", like, "--indexed", "a penguin"), "score every video"),
    ):
        status, _, _, error = call(search_corpus, *index, *args)
        assert status != 0
        assert says in str(error)
        assert "\n" not in str(error)


def test_evaluating_moments_over_the_corpus(demo, demo_index, tmp_path):
    args = ("--index", demo_index.uri, "--queries", demo / "queries.jsonl", "--output", tmp_path, "--json")
    _, text, facts, _ = call(evaluate_retrieval, *args)
    found = facts["corpus_moments"]
    assert found == json.loads((tmp_path / "metrics.json").read_text())["corpus_moments"]
    assert (found["n_queries"], found["without_moment"], found["nms"]) == (facts["n_queries"], 0, None)
    assert set(found["recalls"]) == {"cell", "super-image"}
    assert set(found["recalls"]["cell"]) == {f"R@{k} IoU {iou}" for k in (1, 5, 10, 100) for iou in (0.5, 0.7)}
    assert found["recalls"]["cell"]["R@100 IoU 0.5"][0] > found["recalls"]["cell"]["R@1 IoU 0.5"][0] > 10
    assert f"moments of all videos ranked, for {facts['n_queries']} queries: 100 a query" in text
    page = (tmp_path / "index.html").read_text()
    assert "Finding the moment among those of all videos" in page
    assert f"{found['recalls']['cell']['R@10 IoU 0.7'][0]:.1f} <span" in page
    _, text, facts, _ = call(evaluate_retrieval, *args, "--nms", 0)
    assert facts["corpus_moments"]["nms"] == 0
    assert "no two of a video with an IoU above 0" in text
    assert "nms 2" in str(call(evaluate_retrieval, *args, "--nms", 2)[3])


def test_evaluating_with_every_aggregation(demo, demo_index):
    args = ("--index", demo_index.uri, "--queries", demo / "queries.jsonl", "--json")
    sums = [
        call(evaluate_retrieval, *args, "--aggregation", a)[2]["metrics"]["MRR"] for a in ("attention", "mean", "max")
    ]
    assert len(set(sums)) == 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--grid", 0), "grid 0"),
        (("--grid", 99), "grid 99"),
        (("--fps", 0), "fps 0"),
        (("--fps", "nan"), "fps nan"),
        (("--fit", "crop"), "squash, letterbox"),
        (("--precision", "int8"), "auto, fp32"),
        (("--model", "ViT-Z"), "unknown model 'ViT-Z'"),
        (("--model", "ViT-B-32"), "needs --pretrained"),
        (("--grid", 2), "grid: 3 in the index, 2 asked for"),
        (("--no-cells",), "cells: True in the index, False asked for"),
    ],
)
def test_bad_settings_change_nothing(demo, demo_index, options, says):
    before = demo_index.table("runs").version
    status, _, _, error = call(encode_corpus, "--videos", demo / "videos", "--index", demo_index.uri, *options)
    assert status != 0
    assert says in str(error)
    assert demo_index.table("runs").version == before


def test_a_gpu_must_be_there_to_decode_on_it(demo, demo_index, local_ray, tmp_path):
    jobs = [
        (encode_corpus, ("--videos", demo / "videos", "--index", tmp_path / "index")),
        (reindex_corpus, ("--index", demo_index.uri)),
    ]
    version = demo_index.version
    for job, args in jobs:
        status, _, _, error = call(job, *args, "--decoder", "cuda")
        assert status != 0
        assert str(error) == "--decoder cuda: the cluster has no GPU: choose auto or cpu"
    assert not (tmp_path / "index").exists()
    assert Index.open(demo_index.uri).version == version


def test_what_decoded_is_said_where_a_gpu_was_asked_for():
    summary = EncodeSummary(3, 0, 0, 9, 30.0, 1.0, {}, {}, decoded_by={"cpu": 3})
    assert decoder_lines(summary) == []
    summary = replace(summary, decoded_by={"cpu": 12, "cuda": 1301}, fallbacks={"small": 10, "no_place": 2})
    assert decoder_lines(summary) == ["segments decoded: 1,301 on cuda, 12 on cpu; not on a GPU: no_place 2, small 10"]


def test_a_precision_that_no_encoder_of_the_cluster_has_is_refused(demo, local_ray, tmp_path):
    args = ("--videos", demo / "videos", "--index", tmp_path / "i", "--precision", "fp16")
    assert "fp16 needs a GPU" in str(call(encode_corpus, *args)[3])
    assert not (tmp_path / "i").exists()


def test_bad_paths(demo, demo_index, tmp_path):
    for job, args, says in [
        (encode_corpus, ("--videos", tmp_path / "no", "--index", tmp_path / "i"), "no such folder"),
        (evaluate_retrieval, ("--index", tmp_path / "no", "--queries", demo / "queries.jsonl"), "no index at"),
        (evaluate_retrieval, ("--index", demo_index.uri, "--queries", tmp_path / "no"), "no such query file"),
        (search_corpus, ("--index", tmp_path / "no", "a cat"), "no index at"),
        (search_corpus, ("--index", demo_index.uri, ""), "the query is empty"),
        (search_corpus, ("--index", demo_index.uri, "--temperature", 0, "a cat"), "temperature 0"),
        (render_demo, ("--output", demo, "--videos", 3), "another set"),
    ]:
        status, _, _, error = call(job, *args)
        assert status != 0
        assert says in str(error)
    assert not (tmp_path / "i").exists()


@pytest.mark.parametrize(
    ("encoded", "failed", "max_failed", "is_too_many"),
    [
        (3, 3, 0.1, False), (1, 18, 0.1, False), (0, 1, 0.1, True), (0, 0, 0.1, False), (18, 2, 0.1, False),
        (17, 3, 0.1, True), (3, 20, 0.9, False), (0, 20, 1.0, False),
    ],
)  # fmt: skip
def test_a_share_of_failures_counts_from_twenty_attempts_and_of_fewer_only_all(
    encoded, failed, max_failed, is_too_many
):
    summary = EncodeSummary(encoded, failed, 9, 0, 0.0, 1.0, {}, {})
    assert too_many_failed(summary, max_failed) == is_too_many
    again = replace(summary, failed=failed + 30, retried=30, failed_again=30)
    assert too_many_failed(again, max_failed) == is_too_many, "what failed before does not count"
    succeeded = replace(summary, encoded=encoded + 30, retried=30)
    assert too_many_failed(succeeded, max_failed) == is_too_many
    nightly = ReindexSummary(encoded, failed, 0, 9, failed + 30, 1.0, None, retried=30, failed_again=30)
    assert too_many_failed(nightly, max_failed) == is_too_many, "one rule for both jobs"


@pytest.mark.slow
def test_exit_status_follows_the_failures(tmp_path, local_ray):
    videos = tmp_path / "videos"
    videos.mkdir()
    for i in range(3):
        (videos / f"bad{i}.mp4").write_bytes(b"nothing")
    status, out, facts, _ = call(encode_corpus, "--videos", videos, "--index", tmp_path / "index", "--json")
    assert (status, facts["failed"], facts["failures_by_kind"]) == (1, 3, {"not_a_video": 3})
    assert "3 failed" in out
    status, _, facts, _ = call(encode_corpus, "--videos", videos, "--index", tmp_path / "index", "--json")
    assert (status, facts["failed"], facts["unchanged"]) == (0, 0, 3)
    for i in range(3):
        (videos / f"bad{i}.mp4").write_bytes(b"nothing else")
    args = ("--index", tmp_path / "index", "--json")
    status, out, facts, _ = call(reindex_corpus, *args)
    assert (status, facts["changed"], facts["failed"], facts["failed_again"]) == (1, 3, 3, 0)
    assert "failures: not_a_video 3" in out
    status, out, facts, _ = call(reindex_corpus, *args, "--retry-failed")
    assert (status, facts["retried"], facts["failed"], facts["failed_again"]) == (0, 3, 3, 3)
    assert "3 of 3 that had failed before failed again" in out
    write_video(videos / "a.mp4", 20)
    assert call(reindex_corpus, *args)[0] == 0
    (videos / "a.mp4").write_bytes(b"nothing")
    status, out, facts, _ = call(reindex_corpus, *args)
    assert (status, facts["changed"], facts["failed"], facts["stale"]) == (1, 1, 1, 1)
    assert "stale: 1" in out
    status, out, facts, _ = call(reindex_corpus, *args, "--plan")
    assert (status, facts["unchanged"], facts["stale"]) == (0, 4, 1)


def test_applying_a_checkpoint_says_what_became_nan_and_fails_if_all_did(tmp_path):
    index = make_index(tmp_path / "i", [2, 3])
    make_checkpoint(tmp_path / "c", index.spec)
    args = ("--index", index.uri, "--finetuned", tmp_path / "c", "--json")
    rows = index.table("super_images").to_table().sort_by("video_id")
    for n_bad, status in ((1, 0), (3, 1)):
        vectors = np.stack(rows["embedding"].to_pylist())
        vectors[-n_bad:, 0] = np.nan
        at = rows.schema.get_field_index("embedding")
        spoilt = rows.set_column(at, rows.schema.field(at), embedding_column(vectors))
        spoilt = spoilt.replace_schema_metadata(index.table("super_images").schema.metadata)
        lance.write_dataset(spoilt if n_bad < 3 else spoilt.slice(2), index.table_uri("super_images"), mode="overwrite")
        found, out, facts, _ = call(apply_finetuned, *args, "--output", tmp_path / f"out{n_bad}")
        assert (found, facts["failed"]) == (status, 1)
        assert "failures: not_finite 1" in out
        index.table("videos").delete("video_id = 'v000'")


def test_a_hybrid_says_how_many_videos_it_leaves_out(tmp_path):
    uris = [make_index(tmp_path / name, [2] * 10, dim=192).uri for name in ("large", "small")]
    with writing(Index.open(uris[0])) as writer:
        writer.remove(["v003"])
    both = ("--index", uris[0], "--index", uris[1], "--hybrid", "fusion", "--json")
    status, text, facts, _ = call(search_corpus, *both, "a penguin")
    assert (status, facts["left_out"]) == (0, 1)
    assert "1 videos are left out" in text
    queries = tmp_path / "q.jsonl"
    queries.write_text("".join(f'{{"query_id": "{v}", "query": "a cat", "video_id": "v{v:03}"}}\n' for v in range(5)))
    status, text, facts, _ = call(evaluate_retrieval, *both, "--queries", queries)
    assert (status, facts["left_out"], facts["skipped"]["left_out"]) == (0, 1, 1)
    assert "1 videos are left out" in text


def test_hybrids_and_sparse_frames_from_the_command_line(demo, demo_index, dense_index, tmp_path):
    queries = demo / "queries.jsonl"
    both = ("--index", dense_index.uri, "--index", demo_index.uri)
    out = tmp_path / "report"
    status, text, facts, _ = call(
        evaluate_retrieval, *both, "--queries", queries, "--hybrid", "fusion", "--temperature", 0.005,
        "--temperature", 0.01, "--validation-queries", queries, "--output", out, "--json",
    )  # fmt: skip
    assert status == 0
    assert "chosen on" in text
    assert list(facts["compared"]) == ["large", "small", "fusion", "cascade"]
    assert (
        facts["compared"]["large"]["gflops"]["encoding_per_video"]
        > facts["compared"]["small"]["gflops"]["encoding_per_video"]
    )
    assert "Performance against cost" in (out / "index.html").read_text()
    status, _, facts, _ = call(
        evaluate_retrieval, *both, "--queries", queries, "--hybrid", "cascade", "--top-k", 2, "--json"
    )
    assert (status, facts["scoring"]["top_k"]) == (0, 2)
    status, text, facts, _ = call(search_corpus, *both, "--hybrid", "cascade", "--cascade-k", 2, "--json", "a penguin")
    assert (status, len(facts["hits"]), facts["left_out"]) == (0, 4, 0)
    args = ("--index", dense_index.uri, "--queries", queries, "--json")
    sparse, dense = call(evaluate_retrieval, *args, "--aggregation", "sparse:2")[2], call(evaluate_retrieval, *args)[2]
    assert sparse["gflops"]["encoding_per_video"] < 0.3 * dense["gflops"]["encoding_per_video"]


@pytest.mark.parametrize(
    ("n_indexes", "args", "named"),
    [
        (2, ("--hybrid", "cascade", "--weight", 0.3, "--weight", 0.4), "weight"),
        (2, ("--hybrid", "cascade", "--weight", 0.3, "--direction", "video-to-text"), "--weight"),
        (2, ("--hybrid", "cascade", "--cascade-k", 3, "--top-k", 4), "--top-k"),
        (1, ("--aggregation", "mean", "--validation-queries", "{queries}"), "--validation-queries"),
        (1, ("--temperature", 0.02, "--validation-queries", "{queries}"), "--validation-queries"),
    ],
)
def test_evaluating_names_an_option_that_it_has_no_use_for(demo, demo_index, n_indexes, args, named):
    queries = demo / "queries.jsonl"
    indexes = ("--index", demo_index.uri) * n_indexes
    options = [str(arg).format(queries=queries) for arg in args]
    status, _, _, error = call(evaluate_retrieval, *indexes, "--queries", queries, *options)
    assert (status, type(error)) == (1, QueryError)
    assert named in str(error)


def test_scoring_on_ray_gives_the_metrics_of_scoring_here(demo, dense_index, local_ray):
    args = ("--index", dense_index.uri, "--queries", demo / "queries.jsonl", "--json")
    here, on_ray = call(evaluate_retrieval, *args)[2], call(evaluate_retrieval, *args, "--distributed")[2]
    assert on_ray["metrics"] == here["metrics"]


def test_videos_ask_for_texts_from_the_command_line(demo, demo_index, tmp_path):
    args = ("--index", demo_index.uri, "--queries", demo / "queries.jsonl", "--direction", "video-to-text", "--json")
    status, text, facts, _ = call(evaluate_retrieval, *args, "--paragraphs", "--output", tmp_path)
    assert status == 0
    assert (facts["n_queries"], facts["n_texts"], facts["direction"]) == (4, 4, "video-to-text")
    assert {"MedR", "MeanR"} <= set(facts["metrics"])
    assert "MeanR" in text
    assert json.loads((tmp_path / "metrics.json").read_text())["metrics"] == facts["metrics"]
    assert (tmp_path / "rankings.parquet").exists()
    _, _, several, _ = call(evaluate_retrieval, *args)
    assert several["n_texts"] > 4
    _, _, _, error = call(evaluate_retrieval, *args[:4], "--direction", "x")
    assert "direction 'x'" in str(error)


def test_coarse_to_fine_and_filters_from_the_command_line(demo, demo_index):
    two_stage = ("--recall", "super-image", "--recall-k", 3, "--rerank", "super-image,cell", "--json")
    status, _, facts, _ = call(
        evaluate_retrieval, "--index", demo_index.uri, "--queries", demo / "queries.jsonl", *two_stage
    )
    assert (status, facts["scoring"]["recall_k"]) == (0, 3)
    assert set(facts["moments"]) == {"super-image", "cell"}
    status, _, facts, _ = call(search_corpus, "--index", demo_index.uri, *two_stage, "a penguin")
    assert len(facts["hits"]) == 4
    status, _, facts, _ = call(
        search_corpus, "--index", demo_index.uri, "--where", "duration_s < 0", "--json", "a penguin"
    )
    assert (status, facts["hits"]) == (0, [])


def test_a_vector_index_is_built_used_and_kept_up(tmp_path):
    index = make_index(tmp_path / "i", [4] * 80, grid=1, cells=False, dim=192)
    status, _, facts, _ = call(build_vector_index, "--index", index.uri, "--json")
    assert (status, facts["super_images"]) == (0, 320)
    status, out, facts, _ = call(search_corpus, "--index", index.uri, "--json", "a penguin")
    assert (status, facts["exact"], len(facts["hits"])) == (0, False, 5)
    assert "--exact scores all" in out
    assert call(search_corpus, "--index", index.uri, "--exact", "--json", "a penguin")[2]["exact"]
    few = make_index(tmp_path / "few", [2], grid=1, cells=False)
    assert "fewer than 256" in str(call(build_vector_index, "--index", few.uri)[3])


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--hybrid", "fusion"), "takes two --index"),
        (("--hybrid", "sum"), "fusion, cascade"),
        (("--temperature", "0.1", "--temperature", "0.2"), "2 temperatures for 1 index"),
        (("--recall", "frame"), "video, super-image"),
        (("--rerank", "patch"), "super-image, cell"),
        (("--aggregation", "sparse:2"), "needs an index of grid 1"),
        (("--where", "no_such = 1"), "is not a SQL condition"),
        (("--indexed",), "build_vector_index"),
    ],
)
def test_what_does_not_go_together_is_said(demo_index, args, says):
    status, _, _, error = call(search_corpus, "--index", demo_index.uri, *args, "a penguin")
    assert status != 0
    assert says in str(error)


def test_one_file_describes_several_indexes(tmp_path, local_ray):
    write_video(tmp_path / "videos" / "a.mp4", 30)
    config = tmp_path / "corpus.yaml"
    config.write_text("videos: videos\nindexes:\n  - uri: one\n    grid: 2\n  - uri: two\n    grid: 1\n    fps: 2\n")
    status, out, facts, _ = call(encode_corpus, "--config", config, "--json")
    assert status == 0
    assert " bounds this" in out
    assert [(entry["index"], entry["encoded"], entry["super_images"]) for entry in facts["indexes"]] == [
        (str(tmp_path / "one"), 1, 1),
        (str(tmp_path / "two"), 1, 6),
    ]
    status, _, facts, _ = call(reindex_corpus, "--config", config, "--json")
    assert (status, facts["new"], facts["unchanged"]) == (0, 0, 2)
    assert [entry["unchanged"] for entry in facts["indexes"]] == [1, 1]
    config.write_text("videos: videos\nindexes:\n  - uri: one\n    grid: 3\n")
    for job in (encode_corpus, reindex_corpus):
        status, _, _, error = call(job, "--config", config)
        assert status != 0
        assert "grid: 2 in the index, 3 asked for" in str(error)
    config.write_text("videos: videos\nindexes:\n  - uri: new\n    grid: 0\n")
    assert "new: grid 0" in str(call(encode_corpus, "--config", config)[3])


def test_reindex_prints_its_facts(demo, demo_index):
    status, out, facts, _ = call(reindex_corpus, "--index", demo_index.uri, "--plan", "--json")
    assert status == 0
    assert "would be removed" in out
    assert {"new", "changed", "removed", "unchanged", "failed", "seconds", "version"} <= set(facts)
    assert (facts["new"], facts["unchanged"]) == (0, 4)
    status, _, _, error = call(reindex_corpus, "--index", demo_index.uri, "--videos", demo)
    assert status != 0
    assert "holds another corpus" in str(error)
    for args in ((), ("--index", "a", "--config", "b"), ("--index", "a", "--keep-versions-for", "soon")):
        assert call(reindex_corpus, *args)[0] != 0


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("0.5s", 0.5), ("5m", 300), ("2h", 7200), ("7d", 604800)])
def test_lengths_of_time(text, seconds):
    assert duration(text).total_seconds() == seconds


def test_a_progress_line_tells_the_rate_and_the_time_left():
    line = progress_line(RunProgress(done=250, planned=1000, super_images=5000, video_seconds=9e4, seconds=100.0))
    assert line == "250 of 1,000 videos (25 %), 5,000 super images, 50.0 a second; about 5.0 min left"
    assert "nothing finished yet" in progress_line(RunProgress(0, 10, 0, 0.0, 3.0))


@pytest.mark.parametrize(
    ("job", "args", "named"),
    [
        (encode_corpus, ("--config", "c.yaml", "--grid", 2, "--no-cells"), "leave out --grid, --no-cells"),
        (encode_corpus, ("--config", "c.yaml", "--videos", "v"), "leave out --videos"),
        (reindex_corpus, ("--config", "c.yaml", "--index", "i"), "leave out --index"),
        (reindex_corpus, ("--index", "i", "--plan", "--commit-every", "5s"), "leave out --commit-every"),
        (reindex_corpus, ("--index", "i", "--plan", "--keep-versions-for", "1d"), "leave out --keep-versions-for"),
        (reindex_corpus, ("--index", "i", "--plan", "--max-failed", "0.5"), "leave out --max-failed"),
    ],
)
def test_options_without_a_use_are_usage_errors_that_name_them(job, args, named):
    result = CliRunner().invoke(job.app, [str(arg) for arg in args])
    assert result.exit_code == 2
    assert named in " ".join(result.output.split())


def test_a_number_that_changes_nothing_is_an_error(demo_index):
    args = ("a penguin", "--index", demo_index.uri, "--rerank", "cell", "--gate-temperature", 0.5)
    _, _, _, error = call(search_corpus, *args)
    assert "gate temperature" in str(error)
