"""Measures retrieval on made-up corpora, as ratios against matrix products taken in the same run.

python benchmarks/retrieval.py [--part exact --part adhoc --part coarse] [--work build/retrieval_benchmark]

exact    all queries against all videos, beside the bare product of the same matrices in the same blocks
adhoc    one query at a time through the vector index, beside one fp32 product over everything in memory
coarse   recall and re-ranking (EERCF), beside scoring every video at the fine granularities
"""

import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import torch
import typer

from qasir.index.index import Index, embedding_column, now
from qasir.index.lease import Run
from qasir.index.ragged import starts
from qasir.index.spec import EncoderSpec
from qasir.retrieval import vector_index
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.methods.coarse_to_fine import CoarseToFine
from qasir.retrieval.methods.maximum import Max
from qasir.retrieval.methods.mean import Mean
from qasir.retrieval.methods.stages import recalled
from qasir.retrieval.methods.text_gated import TextGated
from qasir.retrieval.opening import open_index, searcher_of
from qasir.retrieval.scoring import score
from qasir.retrieval.searcher import best_first
from qasir.retrieval.vectors import Features

PARTS = ("exact", "adhoc", "coarse")


def main(
    part: Annotated[list[str] | None, typer.Option(help=f"Which of {', '.join(PARTS)}.", show_default="all")] = None,
    work: Annotated[Path, typer.Option()] = Path("build/retrieval_benchmark"),
) -> None:
    work.mkdir(parents=True, exist_ok=True)
    print(f"{os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    kept = work / "results.json"
    results: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    runs: dict[str, Callable[[Path], Any]] = {"exact": exact, "adhoc": adhoc, "coarse": coarse}
    for name in part or PARTS:
        results[name] = runs[name](work)
        kept.write_text(json.dumps(results, indent=2) + "\n")
        print(flush=True)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def best_of(call: Callable[[], Any], n: int = 3) -> float:
    times = []
    for _ in range(n):
        since = time.perf_counter()
        call()
        times.append(time.perf_counter() - since)
    return min(times)


# Exact scoring


def exact(_: Path) -> Any:
    """1,000 queries x 20,000 videos x 4 to 32 super images x 512 dimensions."""
    rng = np.random.default_rng(0)
    length = rng.integers(4, 33, 20_000)
    order = np.argsort(length, kind="stable")
    first = np.empty_like(length)
    first[order] = np.cumsum(length[order]) - length[order]
    vectors = unit(rng.standard_normal((int(length.sum()), 512), dtype=np.float32))
    features, queries = Features(first, length, vectors), unit(rng.standard_normal((1000, 512), dtype=np.float32))
    few = features.take(np.arange(1000))
    print(f"{len(queries)} queries x {features.n_videos} videos x 4 to 32 super images ({len(vectors)} in all) x 512\n")
    print("| | seconds | over the product |\n| --- | --- | --- |")
    rows = {}
    for precision in ("fp32", "bf16"):
        # A processor without bfloat16 takes minutes for the whole.
        some, share = (features, "") if precision == "fp32" else (few, f", {few.n_videos} videos")
        product = best_of(partial(_product, queries, some, precision), 3)
        print(f"| product of the same blocks, {precision}{share} | {product:.2f} | 1 |", flush=True)
        for scoring in (Attention(), Max(), TextGated(), Mean()):
            if precision == "bf16" and scoring.name != "attention":
                continue
            took = best_of(partial(score, queries, some, scoring, precision=precision), 3)
            rows[f"{scoring.name} {precision}"] = took / product
            print(f"| {scoring.name}, {precision}{share} | {took:.2f} | {took / product:.2f} |", flush=True)
    mine = best_of(lambda: score(queries, few, Attention()))
    gathered = best_of(lambda: _gathering(queries, few), 1)
    rows["gathering"] = gathered / mine
    print(f"| gathering (query, video, D) vectors, {few.n_videos} videos | {gathered:.2f} | |")
    print(f"| attention on those | {mine:.2f} | {gathered / mine:.1f} times faster than gathering |")
    return rows


def _product(queries: np.ndarray, features: Features, precision: str) -> None:
    """Just Q S^T of every block that `score` makes."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    q, vectors = torch.from_numpy(queries).to(kind), torch.from_numpy(features.vectors)
    for block in features.blocks(min(1 << 15, (1 << 20) // len(queries))):
        images = block.of(vectors)
        images.view(-1, images.shape[2]).to(kind) @ q.T


def _gathering(queries: np.ndarray, features: Features) -> None:
    """The formula by the letter: a D-vector for every (query, video)."""
    q = torch.from_numpy(queries)
    for video in range(features.n_videos):
        s = torch.from_numpy(features.of(video))
        a = torch.softmax(q @ s.T / Attention().temperature, dim=1)
        v = torch.nn.functional.normalize((a[:, :, None] * s[None]).sum(dim=1), dim=1)
        (v * q).sum(dim=1)


# Ad-hoc search


N_VIDEOS, EACH, DIM = 50_000, 20, 512


def clustered(rng: np.random.Generator, n_videos: int, each: int, dim: int) -> np.ndarray:
    """(n_videos * each, dim): topics, videos within topics, moments within videos, and like neighbours within moments.

    As in real embeddings, variance falls off along the dimensions (a power law), and no two images are opposite.
    """
    spectrum = (1.0 + np.arange(dim)) ** -0.5

    def noise(*shape: int) -> np.ndarray:
        return unit(rng.standard_normal((*shape, dim), dtype=np.float32) * spectrum)

    topics = noise(2000)
    out = np.empty((n_videos, each, dim), np.float32)
    per_moment = 4
    for low in range(0, n_videos, 5000):
        n = min(5000, n_videos - low)
        videos = unit(topics[rng.integers(0, len(topics), n)] + 0.7 * noise(n))
        moments = unit(videos[:, None] + 0.8 * noise(n, each // per_moment))
        out[low : low + n] = unit(np.repeat(moments, per_moment, axis=1) + 0.4 * noise(n, each))
    return out.reshape(-1, dim)


def made_up(dim: int) -> EncoderSpec:
    return EncoderSpec(
        "made-up", "", "none", grid=1, image_size=224, fps=1.0, embedding_dim=dim, precision="fp32",
        cells=False, thumbnails=False,
    )  # fmt: skip


def store(uri: Path, vectors: np.ndarray, each: int, spec: EncoderSpec | None = None) -> Index:
    """An index of made-up super images (n, D), `each` a video, without cells. spec: of a model that can be asked."""
    spec = spec or made_up(vectors.shape[1])
    if uri.exists():
        return Index.open(str(uri))
    index = Index.open_or_new(str(uri), spec, "/made-up")
    n_videos, fragments = len(vectors) // each, []
    ids = np.array([f"v{v:06}" for v in range(n_videos)])
    for low in range(0, n_videos, 5000):
        some = slice(low * each, min(low + 5000, n_videos) * each)
        n = (some.stop - some.start) // each
        positions = np.tile(np.arange(each, dtype=np.int32), n)
        rows = {
            "video_id": np.repeat(ids[low : low + n], each), "fingerprint": ["f"] * (n * each), "position": positions,
            "start_s": positions.astype(float), "end_s": positions + 1.0, "n_valid": np.ones(n * each, np.int32),
            "cell_s": pa.array(positions.astype(float)[:, None].tolist(), pa.list_(pa.float64())),
            "embedding": embedding_column(vectors[some]),
        }  # fmt: skip
        fragments += index.write_super_images(pa.table(rows))
    means = vectors.reshape(n_videos, each, -1).mean(axis=1)
    with Run(index, "benchmark") as run:
        run.writer.commit_super_images(fragments)
        for low in range(0, n_videos, 10_000):
            run.writer.upsert_videos(
                [
                    {
                        "video_id": str(ids[v]), "uri": str(ids[v]), "fingerprint": "f", "status": "encoded",
                        "n_super_images": each, "duration_s": float(v % 120), "embedding": means[v].astype(np.float16),
                        "encoded_at": now(),
                    }
                    for v in range(low, min(low + 10_000, n_videos))
                ]
            )  # fmt: skip
    return index


def adhoc(work: Path) -> Any:
    """1,000,000 clustered super images of 50,000 videos; queries near a super image, as a text is to what it
    describes."""
    rng = np.random.default_rng(1)
    vectors = clustered(rng, N_VIDEOS, EACH, DIM)
    index = store(work / "million", vectors, EACH)
    print(f"{len(vectors):,} super images of {N_VIDEOS:,} videos, {DIM} dimensions\n")
    if not index.snapshot().is_indexed():
        since = time.perf_counter()
        with Run(index, "benchmark") as run:
            vector_index.build(run.writer)
        print(f"vector index built in {time.perf_counter() - since:.0f} s\n", flush=True)
    n = 100
    near = vectors[rng.choice(len(vectors), n, replace=False)]
    queries = unit(near + 1.2 * unit(rng.standard_normal((n, DIM), dtype=np.float32)))
    searcher = searcher_of(index)
    scoring = Attention()
    features = Features(*starts(np.full(N_VIDEOS, EACH)), vectors)
    truth = best_first(score(queries, features, scoring), 10)
    everything = torch.from_numpy(vectors)
    product = _latencies(lambda q: everything @ torch.from_numpy(q), queries[:50])
    durations = np.arange(N_VIDEOS) % 120
    print("| | p50 ms | p95 ms | times faster (p50) | overlap with the exact top 10 |\n| --- | --- | --- | --- | --- |")
    print(f"| fp32 product in memory, alone | {product[0]:.1f} | {product[1]:.1f} | 1 | |")
    rows = {}
    every = np.ones(N_VIDEOS, bool)
    for name, where, kept in (
        ("vector index, vectors read from the table", None, every),
        ("vector index, preloaded", None, every),
        ("where duration_s > 60 (half)", "duration_s > 60", durations > 60),
        ("where duration_s = 7 (1 of 120)", "duration_s = 7", durations == 7),
    ):
        best = truth if kept.all() else best_first(np.where(kept, score(queries, features, scoring), -np.inf), 10)
        if name.endswith("preloaded"):
            since = time.perf_counter()
            gib = searcher.preload() / 2**30
            print(f"| (preloading {gib:.1f} GiB took {time.perf_counter() - since:.0f} s) | | | | |", flush=True)
        searcher.search_vector(queries[0], 10, scoring, where=where)
        found: list[Any] = []

        def search(query: np.ndarray, where: str | None = where, found: list[Any] = found) -> None:
            found.append(searcher.search_vector(query, 10, scoring, where=where))

        took = _latencies(search, queries)
        same = np.mean(
            [
                len({int(h.video_id[1:]) for h in hits} & set(row)) / 10
                for hits, row in zip(found, best.tolist(), strict=True)
            ]
        )
        print(f"| {name} | {took[0]:.1f} | {took[1]:.1f} | {product[0] / took[0]:.1f} | {same:.3f} |", flush=True)
        rows[name] = {"p50": took[0], "p95": took[1], "faster": product[0] / took[0], "overlap": float(same)}
    return {"product": product, **rows}


def _latencies(call: Callable[[np.ndarray], Any], queries: np.ndarray) -> tuple[float, float]:
    """(p50, p95) milliseconds of one query at a time."""
    times = []
    for query in queries:
        since = time.perf_counter()
        call(query)
        times.append(1000 * (time.perf_counter() - since))
    return float(np.percentile(times, 50)), float(np.percentile(times, 95))


# Coarse to fine


def coarse(work: Path) -> Any:
    """100,000 videos of 8 super images of 4 cells, 128 dimensions; each query is planted near one cell."""
    rng = np.random.default_rng(2)
    n_videos, each, n_cells, dim = 100_000, 8, 4, 128
    topics = unit(rng.standard_normal((5000, dim), dtype=np.float32))
    # Moments of one video are of unlike topics; a topic is shared by moments of many videos.
    own = unit(rng.standard_normal((n_videos * each, dim), dtype=np.float32))
    images = unit(topics[rng.integers(0, len(topics), n_videos * each)] + own)
    cells = np.empty((n_videos * each, n_cells, dim), np.float32)
    for low in range(0, len(cells), 100_000):
        some = slice(low, low + 100_000)
        noise = unit(rng.standard_normal((min(100_000, len(cells) - low), n_cells, dim), dtype=np.float32))
        cells[some] = unit(images[some, None] + 0.5 * noise)
    n = 300
    chosen = rng.choice(len(images), n, replace=False)
    planted = cells[chosen, rng.integers(0, n_cells, n)]
    queries = unit(planted + unit(rng.standard_normal((n, dim), dtype=np.float32)))
    right = chosen // each
    means = unit(images.reshape(n_videos, each, dim).mean(axis=1))
    fine = {
        "super-image": Features(*starts(np.full(n_videos, each)), images),
        "cell": Features(*starts(np.full(n_videos, each * n_cells)), cells.reshape(-1, dim)),
    }
    print(f"{n_videos:,} videos x {each} super images x {n_cells} cells x {dim}, {n} planted queries, one at a time;")
    print(f"cosine of a query to its cell {np.mean((queries * planted).sum(1)):.2f}\n")
    every = CoarseToFine(rerank=("super-image", "cell"))
    first: list[int] = []
    whole = _latencies(lambda q: first.append(int(every.fine_scores(q[None], means, fine)[0].argmax())), queries[:100])[
        0
    ]
    base = 100 * np.mean(np.array(first) == right[:100])
    all_values = every.fine_scores(queries[:100], means, fine)
    assert (all_values.argmax(axis=1) == np.array(first)).all()
    print("| recall by | recall-k | p50 ms | times faster | R@1 |\n| --- | --- | --- | --- | --- |")
    print(f"| (every video, all granularities) | | {whole:.1f} | 1 | {base:.1f} |", flush=True)
    rows = [{"recall": "none", "ms": whole, "r1": base}]
    index = store(work / "coarse", images, each)
    if not index.snapshot().is_indexed():
        with Run(index, "benchmark") as run:
            vector_index.build(run.writer)
    snapshot = open_index(index.uri).side.snapshot
    single = Features.single(means)

    def by_video(q: np.ndarray, k: int) -> np.ndarray:
        return recalled(score(q[None], single, Max())[0], k)

    def by_image(q: np.ndarray, k: int) -> np.ndarray:
        return recalled(score(q[None], fine["super-image"], Max())[0], k)

    def by_index(q: np.ndarray, k: int, n_partitions: int) -> np.ndarray:
        probing = vector_index.Probing(4 * k, n_partitions, k)
        return np.array([int(v[1:]) for v in vector_index.nearest(snapshot, q, probing)[:k]], dtype=np.int64)

    ways: list[tuple[str, int, Any]] = [
        (name, k, partial(recall, k=k))
        for name, recall in (("video", by_video), ("super-image", by_image))
        for k in (10, 50, 200, 1000, 5000)
    ]
    ways += [
        (f"super-image, vector index, {n} partitions", k, partial(by_index, k=k, n_partitions=n))
        for n in (32, 96, 192, 384)
        for k in (10, 50)
    ]
    for name, k, recall in ways:
        found: list[int] = []

        def search(q: np.ndarray, recall: Any = recall, found: list[int] = found) -> None:
            videos = recall(q)
            some = {name: features.take(videos) for name, features in fine.items()}
            found.append(int(videos[every.fine_scores(q[None], means[videos], some)[0].argmax()]))

        search(queries[0])
        found.clear()
        took = _latencies(search, queries)[0]
        r1 = 100 * np.mean(np.array(found) == right)
        print(f"| {name} | {k} | {took:.1f} | {whole / took:.1f} | {r1:.1f} |", flush=True)
        rows.append({"recall": name, "k": k, "ms": took, "faster": whole / took, "r1": r1})
    return rows


if __name__ == "__main__":
    typer.run(main)
