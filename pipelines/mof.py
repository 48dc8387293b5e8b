"""Trains with meta-optimised frames: clips are decoded once by Ray Data into a table, then stream through by batch."""

import json
import logging
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray.data
from ray.data import TaskPoolStrategy

from pipelines.cluster import connect, graph_settings, total_cpus
from qasir.errors import QasirError, SpecError
from qasir.evaluation.query_files import Query
from qasir.files.whole import write_bytes, write_whole
from qasir.index.spec import check_fps, check_grid
from qasir.training.mof.allocator import give_back_large_blocks
from qasir.training.mof.clips import CLIPS_SCHEMA, read_clips
from qasir.training.mof.frame_table import ClipTable, PixelScale
from qasir.training.mof.picture import before_and_after
from qasir.training.mof.training import MODEL, Material, MofSettings, MofTraining
from qasir.training.state import check_same, load_state, save_state
from qasir.video.corpus import Corpus
from qasir.video.tile import Tiling
from qasir.vlm.model import Vlm

log = logging.getLogger(__name__)

_READER_CPUS = 0.1
_NAMED = 5
_PICTURES = 3

OnEpoch = Callable[[dict[str, Any]], None]


@graph_settings(may_lose_blocks=True)
def make_clips(corpus: Corpus, uri: str, tiling: Tiling, n_frames: int) -> ClipTable:
    """The table of clips of a corpus' videos; one that is there already, made the same way, is taken as it is.

    Videos that cannot be read are left out and named in the log. Raises SpecError when the table there was made otherwise,
    QasirError when no video can be read.
    """
    about = {
        "side": tiling.image_size, "grid": tiling.grid, "fps": str(tiling.rate), "n_frames": n_frames,
        "videos": {video.video_id: video.fingerprint for video in corpus.videos},
    }  # fmt: skip
    if Path(uri).exists():
        try:
            table = ClipTable(uri)
        except (ValueError, OSError):
            table = None  # a killed run left files and no table
        if table is not None:
            changed = [name for name in about if table.about.get(name) != about[name]]
            if changed:
                raise SpecError(
                    f"{uri} was made from other videos or settings ({', '.join(changed)}): name another --output"
                )
            return table
    connect()
    read: Any = read_clips
    plans = [pa.table({"video_id": [video.video_id], "uri": [video.uri]}) for video in corpus.videos]
    batches: Any = (
        ray.data.from_arrow(plans)
        .map_batches(
            read,
            fn_kwargs={"tiling": tiling, "n_frames": n_frames},
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=_READER_CPUS,
            compute=TaskPoolStrategy(size=int(total_cpus()) + 1),
        )
        .iter_batches(batch_size=None, batch_format="pyarrow")
    )
    failed: list[str] = []
    short: list[str] = []

    def readable() -> Iterator[pa.Table]:
        for batch in batches:
            for row in batch.select(["video_id", "n_there", "error"]).to_pylist():
                if row["error"]:
                    failed.append(f"{row['video_id']} ({row['error']})")
                elif row["n_there"] < n_frames:
                    short.append(row["video_id"])
            table = batch.filter(batch["error"].is_null()).select(CLIPS_SCHEMA.names)
            if len(table):
                yield table

    table = ClipTable.write(uri, readable(), about)
    if failed:
        log.warning(
            "%d of %d videos cannot be read and are left out: %s", len(failed), len(plans), "; ".join(failed[:_NAMED])
        )
    if short:
        log.warning(
            "%d videos gave fewer than %d frames, %s first: some of their frames are taken more than once",
            len(short), n_frames, short[0],
        )  # fmt: skip
    if not table.video_ids:
        raise QasirError(f"not one of {len(plans)} videos can be read: {failed[0]}")
    return table


def train_mof(
    vlm: Vlm, train: Corpus, train_queries: Sequence[Query], validation: Corpus, validation_queries: Sequence[Query],
    settings: MofSettings, output: Path, *, fps: float = 1.0, grid: int = 1, on_epoch: OnEpoch = lambda record: None,
) -> dict[str, Any]:  # fmt: skip
    """Train, and leave `model.safetensors`, `history.json` and pictures in `output`; a killed training goes on there after its
    last epoch.

    on_epoch gets every epoch's record, the first being before training (epoch 0). Returns {best, before, epochs, history,
    seconds, peak_mib}. Raises SpecError when the folder holds a training with other settings, QueryError when no query is
    about a video.
    """
    began = time.monotonic()
    give_back_large_blocks()
    check_fps(fps)
    check_grid(grid)
    tiling = Tiling(Fraction(str(fps)), grid, vlm.image_size)
    asked = {
        **settings.describe(), "model": vlm.source.model, "weights": vlm.source.fingerprint(), "grid": grid, "fps": fps,
        "train_queries": len(train_queries), "validation_queries": len(validation_queries),
        "train_videos": len(train.videos), "validation_videos": len(validation.videos),
    }  # fmt: skip
    check_same(output, asked)
    output.mkdir(parents=True, exist_ok=True)
    scale = PixelScale(*vlm.pixel_scale)
    material = {}
    for name, corpus, queries, n_frames in (
        ("train", train, train_queries, settings.dense_frames),
        ("validation", validation, validation_queries, settings.frames),
    ):
        clips = make_clips(corpus, str(output / f"clips_{name}.lance"), tiling, n_frames)
        material[name] = Material(clips, queries, scale)
        without = len(clips.video_ids) - len(material[name].video_ids)
        if without:
            log.warning("%d %s videos have no query and are left out", without, name)
    training = MofTraining(vlm, settings, material["train"], material["validation"], output)
    found = load_state(output)
    if found is not None:
        training.load_state(found)
        for record in training.history:
            on_epoch(record)
    else:
        training.start()
        on_epoch(training.history[0])
    while training.epoch < settings.epochs:
        since = time.monotonic()
        facts = training.run_epoch()
        record = training.finish_epoch(facts, time.monotonic() - since)
        save_state(output, asked, training.state())
        if training.table is not None:
            training.table.forget_older()
        if training.best is record or not (output / MODEL).exists():
            training.export(output / MODEL)
        write_whole(output / "history.json", json.dumps(training.history, indent=2) + "\n")
        on_epoch(record)
    training.export(output / MODEL)
    draw(training, output)
    return {
        "best": training.best, "before": training.history[0], "epochs": training.epoch, "history": training.history,
        "seconds": time.monotonic() - began, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def draw(training: MofTraining, output: Path) -> None:
    """Pictures of the first videos' frames, before and after."""
    if training.table is None:
        return
    batch = training.table.load(training.train.video_ids[:_PICTURES])
    for i, video_id in enumerate(batch.video_ids):
        name = video_id.replace("/", "_")
        write_bytes(output / f"frames_{name}.png", before_and_after(batch, i, training.train.scale))
