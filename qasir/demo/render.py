"""Writes a demo corpus to disk: `videos/*.mp4`, `queries.jsonl` and the sprites' licence."""

import json
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import av
from av.video.frame import VideoFrame

from qasir.demo.corpus import FRAME_RATE, HEIGHT, WIDTH, DemoVideo, frames, plan_corpus
from qasir.demo.sprites import sprite_licence
from qasir.files.whole import write_whole

DEMO_TAG = "qasir demo"
"""The `comment` in every demo video's metadata, for whoever meets one elsewhere. Nothing here reads it."""
_STAMP = "corpus.json"
_FRAMES_A_PROCESS = 1500
"""Frames that take longer to render than another process takes to start."""


def render_corpus(
    output: Path,
    n_videos: int,
    seed: int,
    *,
    frame_rate: int = FRAME_RATE,
    keyframe_s: float | None = None,
    processes: int | None = None,
    on_video: Callable[[str], None] = lambda video_id: None,
) -> tuple[int, int]:
    """Render what is not there yet; returns (videos rendered, queries). The same seed gives the same frames.

    frame_rate: frames a second, a divisor of FRAME_RATE; at a lower one a set that is sampled as rarely is made sooner.
    keyframe_s: the most seconds from one keyframe to the next, a whole number of frames; None leaves it to the encoder.
    processes: how many videos are rendered at once, each in its own; None takes as many as there are CPUs and it pays.
    A video appears under its name only when it is whole. Files of another set in `output` are an error (ValueError).
    """
    videos, queries = plan_corpus(n_videos, seed)
    folder = output / "videos"
    folder.mkdir(parents=True, exist_ok=True)
    stamp: dict[str, float] = {"seed": seed, "videos": n_videos}
    if frame_rate != FRAME_RATE:
        if frame_rate < 1 or FRAME_RATE % frame_rate:
            raise ValueError(f"frame rate {frame_rate}: choose a divisor of {FRAME_RATE}")
        stamp["frame_rate"] = frame_rate
    gop = None
    if keyframe_s is not None:
        gop = round(keyframe_s * frame_rate)
        if gop < 1 or gop != keyframe_s * frame_rate:
            raise ValueError(f"a keyframe every {keyframe_s:g} s: choose a multiple of {1 / frame_rate:g} s")
        stamp["keyframe_s"] = keyframe_s
    _check_stamp(output / _STAMP, stamp)
    todo = [video for video in videos if not (folder / f"{video.video_id}.mp4").exists()]
    # Spawned, not forked: a parent that has started threads (Ray's, torch's) must not be forked.
    context = multiprocessing.get_context("spawn")
    if processes is None:
        n_frames = sum(video.n_frames for video in todo) * frame_rate // FRAME_RATE
        processes = min(os.cpu_count() or 1, n_frames // _FRAMES_A_PROCESS)
    workers = min(len(todo), processes)
    if workers > 1:
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            for video_id in pool.map(partial(render_video, folder=folder, frame_rate=frame_rate, gop=gop), todo):
                on_video(video_id)
    else:
        for video in todo:
            on_video(render_video(video, folder, frame_rate, gop))
    write_whole(output / "queries.jsonl", "".join(json.dumps(asdict(query)) + "\n" for query in queries))
    write_whole(output / "SPRITES_LICENCE.txt", sprite_licence())
    return len(todo), len(queries)


def render_video(video: DemoVideo, folder: Path, frame_rate: int = FRAME_RATE, gop: int | None = None) -> str:
    """Encode one video with H.264, one thread, so that its pictures depend on plan and encoder version alone.

    gop: the most frames from one keyframe to the next; None takes the encoder's, 250. It makes one at a cut, too.
    """
    path = folder / f"{video.video_id}.mp4"
    unfinished = path.with_suffix(".partial")
    options = {"preset": "veryfast", "crf": "23"} | ({} if gop is None else {"g": str(gop)})
    with av.open(str(unfinished), "w", format="mp4") as container:
        container.metadata["comment"] = DEMO_TAG
        stream = container.add_stream("libx264", rate=frame_rate, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        for pixels in frames(video, FRAME_RATE // frame_rate):
            container.mux(stream.encode(VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    os.replace(unfinished, path)
    return video.video_id


def is_demo_video(path: str) -> bool:
    """Whether a video file lies where `render_corpus` wrote it; the file itself is not opened."""
    try:
        stamp = json.loads((Path(path).parent.parent / _STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(stamp, dict) and {"seed", "videos"} <= stamp.keys()


def _check_stamp(path: Path, stamp: dict[str, float]) -> None:
    if path.exists():
        there = json.loads(path.read_text(encoding="utf-8"))
        if there != stamp:
            raise ValueError(f"{path.parent} holds another set ({there}, asked for {stamp}): name another --output")
    write_whole(path, json.dumps(stamp) + "\n")
