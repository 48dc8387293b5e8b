"""The cluster file, jobs submitted to a head with authentication on, and a node that is lost midway."""

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from pipelines.growth import groups_of
from pipelines.workers import Workers
from qasir.errors import SpecError
from qasir.index.index import Index
from tests.videos import write_video

ROOT = Path(__file__).resolve().parents[2]


def test_the_cluster_file_is_valid_and_scales_from_zero():
    config = prepare_config(yaml.safe_load((ROOT / "ray_cluster.yaml").read_text()))
    validate_config(config)
    types = config["available_node_types"]
    assert config["head_node_type"] == "head"
    assert types["head"]["resources"]["CPU"] == 0
    workers = {name: kind for name, kind in types.items() if name != "head"}
    assert all(kind["min_workers"] == 0 < kind["max_workers"] for kind in workers.values())
    assert workers["encoder"]["resources"]["GPU"] == 1
    assert "GPU" not in workers["decoder"]["resources"]
    for command in (*config["head_start_ray_commands"], *config["worker_start_ray_commands"]):
        assert "ray start" not in command or "RAY_AUTH_MODE=token" in command


def test_the_image_has_the_ray_that_the_packages_pin():
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    assert f"ARG RAY_VERSION={pinned}" in (ROOT / "Dockerfile").read_text()


def test_encoders_take_gpus_or_shares_of_them_or_cpus():
    assert Workers.for_cluster(64, 8, 16).encoder_gpus == 1.0
    halves = Workers.for_cluster(64, 4, 16, 0.5)
    assert (halves.encoders, halves.encoder_gpus, halves.encoder_cpus) == (8, 0.5, 0.5)
    assert Workers.for_cluster(64, 4, 16, 2).encoders == 2
    assert Workers.for_cluster(64, 4, 16, 0).encoder_gpus == 0.0
    for share in (-1, 1.5, 8):
        with pytest.raises(SpecError, match="--gpus-per-encoder"):
            Workers.for_cluster(64, 4, 16, share)
    assert Workers.for_cluster(16, 0, 16, 1, untold_gpus=8).encoders == 8
    assert Workers.for_cluster(16, 0, 16, untold_gpus=8).encoder_gpus == 0.0  # none was asked for


def test_decoders_ask_for_the_cpus_they_take_where_nodes_come_for_them():
    """Else hundreds share the first node, and no second one comes."""
    grown = Workers.for_cluster(64 + 4 * 8, 4, 16, grows=True)
    assert (grown.encoders, grown.decoders) == (4, 115)
    assert 4 * grown.encoder_cpus + grown.decoders * grown.decoder_cpus == pytest.approx(96, abs=1)
    assert Workers.for_cluster(96, 4, 16).decoder_cpus == 0.1


def test_a_cluster_file_tells_what_nodes_may_come():
    groups = groups_of(yaml.safe_load((ROOT / "ray_cluster.yaml").read_text()))
    assert [(group.resources, group.most) for group in groups] == [({"CPU": 16}, 16), ({"CPU": 8, "GPU": 1}, 4)]
    assert groups_of({}) == []


def test_decoders_for_gpus_come_on_top_of_those_for_cpus():
    with_gpus = Workers.for_cluster(64, 4, 16)
    assert with_gpus.decoding_with("auto", 4, lambda: 8).decoders == with_gpus.decoders + 32
    assert with_gpus.decoding_with("cuda", 4, lambda: 8).decoders == 32
    assert with_gpus.decoding_with("cuda", 4, lambda: 16).decoders == 64
    assert with_gpus.decoding_with("cpu", 4, lambda: pytest.fail("nobody asks")) == with_gpus
    encoding_on_cpus = Workers.for_cluster(64, 4, 16, 0)
    assert encoding_on_cpus.decoding_with("auto", 4) == encoding_on_cpus
    assert encoding_on_cpus.decoding_with("cuda", 4, lambda: 8).decoders == 32


def test_a_cpu_encoder_fits_one_node():
    many_small = Workers.for_cluster(40, 0, 8)
    assert (many_small.encoders, many_small.threads, many_small.encoder_cpus) == (20, 2, 0.2)
    assert many_small.first_encoders == 5
    assert Workers.for_cluster(64, 0, 64).threads == 8
    assert Workers.for_cluster(1, 0, 1).decoders == 2


def test_a_corpus_gets_the_encoders_that_its_work_is_worth():
    """A slow model, of seconds an image, is loaded more often for few images, with fewer at once, than a fast one."""
    cpus, tiny, large = Workers.for_cluster(4, 0, 4), 1.3, 162.0
    assert [cpus.for_work([n], [tiny]).encoders for n in (1, 199, 200, 9999)] == [1, 1, 2, 4]
    assert [cpus.for_work([n], [large]).encoders for n in (1, 12, 13, 9999)] == [1, 1, 2, 4]
    assert [cpus.for_work([100], [each]).batch for each in (tiny, large, 2000.0)] == [16, 3, 1]
    assert cpus.for_work([50, 5], [tiny, large]).batch == 16
    assert cpus.for_work([50, 50], [tiny, large]).batch == 6
    gpus = Workers.for_cluster(64, 8, 64)
    assert (gpus.for_work([1], [large]).encoders, gpus.for_work([1], [large]).batch) == (8, 128)
    assert [gpus.for_work([100], [each]).batch for each in (tiny, 8.8, 35.0)] == [512, 284, 128]
    assert gpus.for_work([50, 50], [tiny, 8.8]).batch == 495


LOSE_A_NODE = """
import sys, threading
import ray
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": 150 << 20})
doomed = cluster.add_node(num_cpus=2, object_store_memory=150 << 20)
ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)

from pipelines.encode import encode_corpus
from qasir.encoding.models import Target
from qasir.video.corpus import list_videos
from qasir.encoding.options import EncodeOptions, EncoderOptions
from qasir.encoding.prepare import prepare

corpus = list_videos(sys.argv[1])
target = Target(*prepare(EncoderOptions(grid=1, fps=1.0, image_size=96, thumbnails=False), sys.argv[2], corpus))
killed = []

def kill_a_node(now):
    if now.super_images > 20 and not killed:
        assert now.done < now.planned
        killed.append(now)
        cluster.remove_node(doomed, allow_graceful=False)

(summary,) = encode_corpus(corpus, [target], EncodeOptions(commit_every_s=1.0), on_progress=kill_a_node)
print("killed", len(killed), "encoded", summary.encoded, "failed", summary.failed)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_node_lost_midway_costs_nothing_but_time(tmp_path):
    for i in range(12):
        write_video(tmp_path / "videos" / f"v{i:02}.mp4", 200)
    done = subprocess.run(
        [sys.executable, "-c", LOSE_A_NODE, str(tmp_path / "videos"), str(tmp_path / "index")],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.stdout.strip().endswith("killed 1 encoded 12 failed 0"), done.stdout + done.stderr
    index = Index.open(str(tmp_path / "index"))
    keys = [(row["video_id"], row["position"]) for row in index.snapshot().super_images([]).to_pylist()]
    assert keys == [(f"v{i:02}", position) for i in range(12) for position in range(20)]
    assert index.table("super_images").count_rows() == len(keys)


@pytest.fixture
def head():
    """A head node with token authentication on: (address of its job server, environment with the token)."""
    ports = []
    for _ in range(5):  # one each, or another Ray on this machine is in the way
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    environment.pop("RAY_ADDRESS", None)
    command = [
        str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=2", f"--port={ports[0]}",
        "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--dashboard-port={ports[1]}",
        f"--dashboard-agent-listen-port={ports[2]}", f"--dashboard-agent-grpc-port={ports[3]}",
        f"--ray-client-server-port={ports[4]}",
        f"--object-store-memory={200 << 20}", "--disable-usage-stats",
    ]  # fmt: skip
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet)
    address = f"http://127.0.0.1:{ports[1]}"
    deadline = time.monotonic() + 150
    nothing = job_command(address, "submit", "--", "true")  # a head answers some time before it takes jobs
    while subprocess.run(nothing, env=environment, capture_output=True, check=False).returncode != 0:
        assert time.monotonic() < deadline, "the head takes no jobs"
    yield address, environment
    server.terminate()  # takes its daemons along, as a kill would not
    server.wait(timeout=90)


def job_command(address, verb, *args):
    return [str(Path(sys.executable).with_name("ray")), "job", verb, "--address", address, *args]


def submit(head, *entrypoint):
    address, environment = head
    command = job_command(address, "submit", "--working-dir", str(ROOT), "--", "python", *entrypoint, "--json")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    facts = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return done.returncode, facts[-1] if facts else None, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_jobs_submitted_to_a_head_with_authentication(head, tmp_path):
    videos, index = tmp_path / "videos", str(tmp_path / "index")
    write_video(videos / "a.mp4", 30)
    (videos / "bad.mp4").write_bytes(b"nothing")
    status, facts, log = submit(head, "jobs/encode_corpus.py", "--videos", str(videos), "--index", index)
    assert status == 0, log
    assert (facts["encoded"], facts["failed"]) == (1, 1)
    write_video(videos / "b.mp4", 30)
    status, facts, log = submit(head, "jobs/reindex_corpus.py", "--index", index)
    assert status == 0, log
    assert (facts["new"], facts["unchanged"]) == (1, 2)
    assert [row["video_id"] for row in Index.open(index).snapshot().super_images([]).to_pylist()] == ["a", "b"]

    status, _, log = submit(head, "jobs/reindex_corpus.py", "--index", str(tmp_path / "nowhere"))
    assert status != 0
    assert "error: no index at" in log
    address, environment = head
    stranger = {**environment, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    refused = subprocess.run(job_command(address, "list"), env=stranger, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
