"""Kills the whole job at random moments, again and again, and expects the tables of an uninterrupted run."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from qasir.index.index import Index
from tests.videos import write_video

N_KILLS = int(os.environ.get("QASIR_KILLS", "3"))
SETTINGS = ("--grid", "1", "--fps", "5", "--image-size", "96", "--no-thumbnails", "--commit-every", "0.5s", "--json")


def start(videos, index):
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.encode_corpus", "--videos", str(videos), "--index", str(index), *SETTINGS],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip


def n_written(index, what):
    return sum(1 for _ in Path(index).glob(f"super_images.lance/{what}"))


def kill_at_random(job, index, chance):
    """SIGKILL the job's process group: as it starts, as it writes or after it committed; returns whether it still ran."""
    moment = chance.choice(["data/*", "_versions/*", "_versions/*", None])
    before, deadline = moment and n_written(index, moment), time.monotonic() + 120
    while moment and job.poll() is None and n_written(index, moment) <= before and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(chance.uniform(0.0, 2.0 if moment else 15.0))
    running = job.poll() is None
    if running:
        os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    return running


def contents(uri):
    index = Index.open(str(uri))
    table = index.snapshot().super_images(["start_s", "end_s", "n_valid", "embedding"])
    assert len(table) == index.table("super_images").count_rows(), "orphan rows"
    rows = table.to_pylist()
    keys = [(r["video_id"], r["fingerprint"], r["position"], r["start_s"], r["end_s"], r["n_valid"]) for r in rows]
    assert len(set(keys)) == len(keys), "duplicates"
    videos = index.table("videos").to_table().drop_columns(["encoded_at", "embedding"]).to_pylist()
    return keys, np.array([r["embedding"] for r in rows], np.float32), sorted(videos, key=lambda row: row["video_id"])


def test_killed_anywhere_and_started_again_it_ends_with_the_same_tables(tmp_path):
    chance = random.Random()
    videos = tmp_path / "videos"
    for i in range(10):
        write_video(videos / f"v{i}.mp4", 200 + 30 * i)
    write_video(videos / "long.mp4", 1500)
    (videos / "bad.mp4").write_bytes(b"nothing")
    done = start(videos, tmp_path / "whole")
    facts = json.loads(done.communicate()[0].strip().splitlines()[-1])
    assert (facts["encoded"], facts["failed"]) == (11, 1)

    kills = kept = 0
    while kills < N_KILLS and kill_at_random(start(videos, tmp_path / "killed"), tmp_path / "killed", chance):
        kills += 1
        if index := Index.find(str(tmp_path / "killed")):  # none yet if killed while making it
            kept = max(kept, index.table("super_images").count_rows())
    last = start(videos, tmp_path / "killed")
    last.communicate()
    assert last.returncode == 0
    print(f"{kills} kills; up to {kept} of {facts['super_images']} super images were committed before one")
    assert kills > 0

    (keys, embeddings, rows), (other_keys, other_embeddings, other_rows) = (
        contents(tmp_path / name) for name in ("whole", "killed")
    )
    assert keys == other_keys
    assert rows == other_rows
    np.testing.assert_allclose(embeddings, other_embeddings, atol=2e-3)
