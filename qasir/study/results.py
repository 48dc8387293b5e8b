"""The results of a study: one file a setting as it is done, from which the tables are made."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from qasir.evaluation.evaluate import Evaluation
from qasir.evaluation.metrics import METRICS, RECALL_AT
from qasir.files.whole import write_parquet, write_whole
from qasir.retrieval.methods.method import Method
from qasir.retrieval.methods.named import pooled_numbers
from qasir.study.feature_encoder import AS_GIVEN, BY_MODEL
from qasir.study.settings import GIVEN, SAMPLING, Setting

DONE, FAILED = "done", "failed"
_VERSION = 1
"""Raised whenever the same setting on the same tables would give other results."""

_SIDE = [
    *((name, pa.string()) for name in ("model", "pretrained")), ("grid", pa.int32()), ("image_size", pa.int32()),
    ("fps", pa.float64()), ("sampling", pa.string()), ("max_gap_s", pa.float64()),
    *((name, pa.string()) for name in ("fit", "precision", *GIVEN, "finetuned")),
]  # fmt: skip
_BIN = pa.struct(
    [
        ("lo", pa.float64()), ("hi", pa.float64()), ("n_queries", pa.int64()),
        *((f"R@{k}", pa.float64()) for k in RECALL_AT), ("SumR", pa.float64()),
    ]
)  # fmt: skip
_FURTHER = [name for name in pooled_numbers() if name not in ("temperature", "gate_temperature")]
"""Numbers of methods that have no column of their own in the list below."""
RESULTS_SCHEMA = pa.schema(
    [
        ("setting_id", pa.string()),
        ("kind", pa.string()),
        ("label", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        *_SIDE,
        *((f"small_{name}", kind) for name, kind in _SIDE),
        ("aggregation", pa.string()),
        ("temperature", pa.float64()),
        ("small_temperature", pa.float64()),
        ("gate_temperature", pa.float64()),
        ("hybrid", pa.string()),
        ("weight", pa.float64()),
        ("top_k", pa.int64()),
        ("recall", pa.string()),
        ("recall_k", pa.int64()),
        ("rerank", pa.string()),
        *((name, pa.float64()) for name in _FURTHER),
        ("n_queries", pa.int64()),
        ("n_videos", pa.int64()),
        *((f"{name}{end}", pa.float64()) for name in METRICS for end in ("", "_low", "_high")),
        ("by_mv", pa.list_(_BIN)),
        ("encodings_per_video", pa.float64()),
        ("gflops_per_video", pa.float64()),
        ("gflops_per_query", pa.float64()),
        ("model_seconds_per_video", pa.float64()),
        ("parameters", pa.int64()),
        ("embedding_dim", pa.int32()),
        ("seconds", pa.float64()),
    ]
)
"""Of `results.parquet`: one row a setting. Intervals (_low, _high) are 95 %, over videos. encodings_per_video: super
images, of both encoders in a hybrid; model_seconds_per_video: of the models alone, on the machine that ran the study;
parameters: of the image towers; features, query_features: of features that others computed, how those of frames became
rows, and of queries vectors; seconds: to evaluate. NULL where a setting failed, or where a column has no meaning for
it: of such features, what is of pixels and models, and what encoding cost."""

RANKS_SCHEMA = pa.schema(
    [("setting_id", pa.string()), ("query_id", pa.string()), ("video_id", pa.string()), ("rank", pa.int32())]
)
"""Of `ranks.parquet`: where each query's video came in each setting, for paired comparisons."""


@dataclass(frozen=True)
class Result:
    """A row of RESULTS_SCHEMA, and the ranks (Q,) behind it in the order of the study's queries that could be asked."""

    row: dict[str, Any]
    rank: NDArray[np.int64]
    query_ids: list[str]
    video_ids: list[str]

    @property
    def is_done(self) -> bool:
        return bool(self.row["status"] == DONE)

    def __getitem__(self, name: str) -> Any:
        return self.row[name]


def setting_id(setting: Setting) -> str:
    """Of settings that sample evenly, and encode videos, what it was before there was another way, so that studies go
    on."""
    about = setting.describe()
    for prefix in ("", "small_"):
        if about[f"{prefix}sampling"] != "keyframes":
            for name in SAMPLING:
                del about[f"{prefix}{name}"]
        if about[f"{prefix}features"] is None:
            for name in GIVEN:
                del about[f"{prefix}{name}"]
    return digest(about)[:10]


def failed(setting: Setting, reason: str) -> Result:
    """The row of a setting that cannot be evaluated."""
    asked = setting.describe()
    row = {"setting_id": setting_id(setting), "label": label(asked), "status": FAILED, "reason": reason, **asked}
    return Result(_complete(row), np.zeros(0, np.int64), [], [])


def done(setting: Setting, sides: Sequence[Mapping[str, Any]], evaluation: Evaluation) -> Result:
    """sides: what each encoder turned out to be (`pipelines.study.SideFacts`): image_size, precision, pretrained, fit,
    max_gap_s, embedding_dim, parameters, images (V,) of each video, seconds_an_image. Of features that others
    computed, parameters and seconds_an_image are None, and so is what encoding cost."""
    known = ("image_size", "precision", "pretrained", "fit", "max_gap_s")
    found = {
        f"{prefix}{name}": side[name] for prefix, side in zip(("", "small_"), sides, strict=False) for name in known
    }
    encodings = [float(n.mean()) for n in evaluation.method.encodings([side["images"] for side in sides])]
    asked = {name: value for name, value in setting.describe().items() if value is not None}
    is_costed = all(side["parameters"] is not None for side in sides)
    row = {
        **setting.describe(), **_chosen(evaluation.method), **asked, **found, "setting_id": setting_id(setting),
        "status": DONE,
        "n_queries": len(evaluation.rank), "n_videos": evaluation.n_videos, **evaluation.metrics,
        **{f"{name}_low": bounds[0] for name, bounds in evaluation.ci95.items()},
        **{f"{name}_high": bounds[1] for name, bounds in evaluation.ci95.items()},
        "by_mv": [{"lo": b.lo, "hi": b.hi, "n_queries": b.n_queries, **(b.metrics or {})} for b in evaluation.by_mv],
        "encodings_per_video": sum(encodings),
        **(_encoding_cost(evaluation, encodings, sides) if is_costed else {}),
        "embedding_dim": sides[0]["embedding_dim"], "gflops_per_query": evaluation.cost.scoring_per_query,
        "seconds": evaluation.seconds,
    }  # fmt: skip
    row["label"] = label(row)
    ids = [query.query_id for query in evaluation.queries]
    return Result(_complete(row), evaluation.rank, ids, evaluation.groups)


def _encoding_cost(
    evaluation: Evaluation, encodings: Sequence[float], sides: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    return {
        "model_seconds_per_video": sum(n * side["seconds_an_image"] for n, side in zip(encodings, sides, strict=True)),
        "parameters": sum(side["parameters"] for side in sides),
        "gflops_per_video": evaluation.cost.encoding_per_video,
    }


def short_name(model: str) -> str:
    """A model's name without the path of its folder or the owner on a hub; a label as it is."""
    return model.rstrip("/").rsplit("/", 1)[-1] if model.startswith(("hf-hub:", "local-dir:")) else model


def label(row: Mapping[str, Any]) -> str:
    """A setting in a few words."""

    def side(prefix: str) -> str:
        size = row.get(f"{prefix}image_size")
        parts = [short_name(row[f"{prefix}model"]), f"N={row[f'{prefix}grid']}"]
        if size:
            parts.append(f"{size} px")
        if row[f"{prefix}fps"] not in (None, 1.0):
            parts.append(f"{row[f'{prefix}fps']:g} fps")
        if row[f"{prefix}sampling"] == "keyframes":
            gap = row[f"{prefix}max_gap_s"]
            parts.append("keyframes" if gap is None else f"keyframes, at most {gap:g} s apart")
        if row.get(f"{prefix}features") not in (None, AS_GIVEN):
            parts.append(row[f"{prefix}features"])
        if row.get(f"{prefix}query_features") not in (None, AS_GIVEN, BY_MODEL):
            parts.append(f"queries {row[f'{prefix}query_features']}")
        if row[f"{prefix}finetuned"]:
            parts.append(f"fine-tuned ({Path(row[f'{prefix}finetuned']).name})")
        return " ".join(parts)

    encoder = side("") if row["model"] is not None else "no encoder"
    if row["kind"] == "hybrid":
        if row["small_model"] is None:
            return f"{row['hybrid']}"
        how = f", w = {row['weight']:g}" if row.get("weight") is not None else ""
        how = f", k = {row['top_k']}" if row["hybrid"] == "cascade" and row.get("top_k") is not None else how
        return f"{row['hybrid']} of {encoder} and {side('small_')}{how}"
    if row["kind"] == "two-stage":
        return f"{encoder}, {row['recall_k']} by {row['recall']}, then {row['rerank']}"
    tau = row["temperature"] if row.get("temperature") is not None else row.get("gate_temperature")
    further = "".join(f", {name} {row[name]:g}" for name in _FURTHER if row.get(name) is not None)
    return f"{encoder}, {row['aggregation']}" + (f" {tau:g}" if tau is not None else "") + further


class ResultFiles:
    """A folder with one file a result, named by all that it follows from; whole or not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def find(self, setting: Setting, facts: Mapping[str, Any]) -> Result | None:
        """The result of this setting on these tables and queries, if it is there."""
        try:
            stored = json.loads(self._path(setting, facts).read_text(encoding="utf-8"))
            row = {**setting.describe(), **stored["row"]}
            row["label"] = label(row)
            return Result(_complete(row), np.array(stored["rank"], np.int64), stored["query_ids"], stored["video_ids"])
        except (OSError, ValueError, KeyError):
            return None

    def keep(self, setting: Setting, facts: Mapping[str, Any], result: Result) -> None:
        stored = {
            "row": result.row,
            "rank": result.rank.tolist(),
            "query_ids": result.query_ids,
            "video_ids": result.video_ids,
        }
        write_whole(self._path(setting, facts), json.dumps(stored))

    def _path(self, setting: Setting, facts: Mapping[str, Any]) -> Path:
        return self.folder / f"{setting_id(setting)}_{digest({'version': _VERSION, **facts})[:16]}.json"


def write_tables(output: Path, results: Sequence[Result]) -> None:
    """results.parquet and ranks.parquet."""
    write_parquet(
        output / "results.parquet", pa.Table.from_pylist([result.row for result in results], schema=RESULTS_SCHEMA)
    )
    ranks = [
        pa.table(
            [pa.array([r["setting_id"]] * len(r.query_ids)), r.query_ids, r.video_ids, pa.array(r.rank, pa.int32())],
            schema=RANKS_SCHEMA,
        )
        for r in results
        if r.is_done
    ]
    write_parquet(output / "ranks.parquet", pa.concat_tables([RANKS_SCHEMA.empty_table(), *ranks]))


def read_tables(folder: Path) -> list[Result]:
    """What `write_tables` wrote."""
    ranks = pq.read_table(folder / "ranks.parquet")
    found = []
    for row in map(_complete, pq.read_table(folder / "results.parquet").to_pylist()):
        own = ranks.filter(pc.field("setting_id") == row["setting_id"])
        ids, videos = (own[name].to_pylist() for name in ("query_id", "video_id"))
        found.append(Result(row, own["rank"].to_numpy().astype(np.int64), ids, videos))
    return found


def _chosen(method: Method) -> dict[str, Any]:
    """A method's numbers by column, those of a hybrid's second index with a prefix."""
    found = dict(method.numbers())
    for prefix, side in zip(("", "small_"), method.sides(), strict=False):
        found |= {f"{prefix}{name}": value for name, value in side.numbers().items()}
    return found


def _complete(row: Mapping[str, Any]) -> dict[str, Any]:
    """Every column of RESULTS_SCHEMA and nothing else."""
    return {name: row.get(name) for name in RESULTS_SCHEMA.names}


def digest(facts: Any) -> str:
    """SHA-256 of facts as JSON."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
