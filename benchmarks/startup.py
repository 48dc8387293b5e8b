"""What passes before the first super images of a job are encoded, by part: a run of jobs/encode_corpus.py on a new
index, with notes of when each part began and ended, and the CPU-seconds of its processes meanwhile (Linux).

python benchmarks/encode.py --part startup
"""

import functools
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qasir.demo.render import render_corpus

N_VIDEOS, SEED = 40, 7
"""Those of `make demo`."""
_LOOK_EVERY_S = 0.1
_TICKS = os.sysconf("SC_CLK_TCK")
_KINDS = {
    "the job": r"startup\.py", "GCS and raylet": r"gcs_server|raylet/raylet",
    "Ray's agents": r"[Aa]gent|monitor|dashboard",
    "encoders": r"Encoder", "Ray Data's own actors": r"_StatsActor|ActorLocationTracker|_AutoscalingCoordinator",
    "decoders, writers and reports": r"ray::|default_worker",
}  # fmt: skip
_PARTS = [
    ("Python, options, listing", "spawned", "listed"),
    ("Ray starts (beside what follows)", "Ray began", "Ray is there"),
    ("the job's imports", "listed", "imported"),
    ("index, model's sizes, Ray awaited", "imported", "prepared"),
    ("cutting", "cutting", "cut"),
    ("graph made", "cut", "graph made"),
    ("first decoder: process and imports", "graph made", "decoding"),
    ("first encoder: process and imports", "graph made", "loading"),
    ("first encoder: model", "loading", "loaded"),
    ("all, to the first batch", "spawned", "encoding"),
]


def startup(work: Path, *, times: int = 3) -> Any:
    """The parts of so many runs, the fastest one shown: whatever else runs on the machine only adds."""
    videos = work / "demo"
    if not (videos / "videos").exists():
        render_corpus(videos, N_VIDEOS, seed=SEED)
    runs = [_run(videos / "videos") for _ in range(times)]
    best = min(runs, key=lambda run: run["s"]["encoding"])
    print("| part | from, s | seconds |\n| --- | --- | --- |")
    for part, began, ended in _PARTS:
        if began in best["s"] and ended in best["s"]:
            print(f"| {part} | {best['s'][began]:.1f} | {best['s'][ended] - best['s'][began]:.1f} |")
    print("\n| processes | CPU-seconds until the first batch |\n| --- | --- |")
    for kind, seconds in best["cpu_s"].items():
        print(f"| {kind} | {seconds:.1f} |")
    print(f"| all | {sum(best['cpu_s'].values()):.1f} |\n")
    print("all runs, seconds to the first batch: " + ", ".join(f"{run['s']['encoding']:.1f}" for run in runs))
    return runs


def _run(videos: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        notes, since = Path(place) / "notes", time.time()
        child = subprocess.Popen(
            [sys.executable, __file__, str(videos), f"{place}/index", str(notes)], stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
        looks: list[tuple[float, dict[int, tuple[str, float]]]] = []
        while child.poll() is None:
            looks.append((time.time() - since, dict(_processes(child.pid))))
            time.sleep(_LOOK_EVERY_S)
        assert child.returncode == 0, "the job failed"
        seconds = {"spawned": 0.0}
        for line in notes.read_text().splitlines():
            what, at = json.loads(line)
            seconds[what] = min(at - since, seconds.get(what, at))
    daemons = [at for at, seen in looks if any("gcs_server" in name for name, _ in seen.values())]
    seconds["Ray began"] = daemons[0]
    used: dict[int, tuple[str, float]] = {}
    for at, seen in looks:
        if at <= seconds["encoding"]:
            used |= seen
    cpu_s: dict[str, float] = defaultdict(float)
    for name, cpu in used.values():
        cpu_s[next((kind for kind, pattern in _KINDS.items() if re.search(pattern, name)), "others")] += cpu
    return {"s": seconds, "cpu_s": dict(cpu_s)}


def _processes(root: int) -> Iterator[tuple[int, tuple[str, float]]]:
    """pid -> (command line, CPU-seconds) of a process and all below it."""
    children: dict[int, list[int]] = defaultdict(list)
    facts = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            name = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        children[int(fields[1])].append(int(folder.name))
        facts[int(folder.name)] = (name, (int(fields[11]) + int(fields[12])) / _TICKS)
    below = [root]
    while below:
        pid = below.pop()
        below += children[pid]
        if pid in facts:
            yield pid, facts[pid]


# In the job


def note(path: str, what: str) -> None:
    """Add a line to the notes, from any process."""
    with open(path, "a") as file:
        file.write(json.dumps([what, time.time()]) + "\n")


def decode_and_note(segments: Any, specs: Any, *, notes: str, **limits: Any) -> Iterator[Any]:
    from qasir.encoding.decode import decode_segments

    note(notes, "decoding")
    yield from decode_segments(segments, specs, **limits)


def run_job(videos: str, index: str, notes: str) -> None:
    """jobs/encode_corpus.py, with notes."""
    import jobs.encode_corpus as job

    target = job.target

    def noting_target(*args: Any, **options: Any) -> Any:
        note(notes, "imported")
        _note_from_here(notes)
        found = target(*args, **options)
        note(notes, "prepared")
        return found

    job.target = noting_target
    import qasir.video.corpus as corpus

    corpus.list_videos = _noted(corpus.list_videos, notes, None, "listed")
    sys.argv = ["encode_corpus.py", "--videos", videos, "--index", index]
    job.app(standalone_mode=False)


def _note_from_here(notes: str) -> None:
    import pipelines.cluster
    import pipelines.encode
    from pipelines.encoding import EncoderActor

    def tell() -> None:
        pipelines.cluster.connect()
        note(notes, "Ray is there")

    class NotingEncoder(EncoderActor):
        def __init__(self, *args: Any, **options: Any) -> None:
            note(notes, "loading")
            super().__init__(*args, **options)
            note(notes, "loaded")

        def __call__(self, tiles: Any) -> Any:
            note(notes, "encoding")
            return super().__call__(tiles)

    threading.Thread(target=tell, daemon=True).start()
    graph: Any = pipelines.encode
    graph.EncoderActor = NotingEncoder
    graph._segments = _noted(graph._segments, notes, "cutting", "cut")
    decode = functools.partial(decode_and_note, notes=notes)
    graph.RayStages._graph = _noted(graph.RayStages._graph, notes, None, "graph made")
    graph.RayStages = functools.partial(graph.RayStages, decode=decode)


def _noted(function: Any, notes: str, before: str | None, after: str) -> Any:
    @functools.wraps(function)
    def noted(*args: Any, **options: Any) -> Any:
        if before is not None:
            note(notes, before)
        result = function(*args, **options)
        note(notes, after)
        return result

    return noted


if __name__ == "__main__":
    run_job(*sys.argv[1:])
