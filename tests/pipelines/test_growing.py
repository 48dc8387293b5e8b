"""A cluster that grows: Ray's own autoscaler, whose nodes are processes on this machine with made-up GPUs."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from tests.videos import write_video

ROOT = Path(__file__).resolve().parents[2]
HEAD = "f" * 51 + "00000"
STORE = 100 << 20


def cluster_file(port):
    """As `ray up` leaves it on the head: a head that runs no tasks, nodes for decoders and a node with a GPU."""
    nodes = {
        "ray.head.default": {"resources": {"CPU": 0}, "max_workers": 0},
        "decoder": {"resources": {"CPU": 2, "object_store_memory": STORE}, "max_workers": 2},
        "encoder": {"resources": {"CPU": 1, "GPU": 1, "object_store_memory": STORE}, "max_workers": 1},
    }
    commands = ["setup_commands", "initialization_commands", "head_setup_commands", "worker_setup_commands"]
    return {
        "cluster_name": "growing", "max_workers": 3, "idle_timeout_minutes": 0.05, "upscaling_speed": 20,
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "gcs_address": f"127.0.0.1:{port}", "head_node_id": HEAD, "launch_multiple": True,
            "disable_node_updaters": True,
        },
        "head_node_type": "ray.head.default",
        "available_node_types": {
            name: {"node_config": {}, "min_workers": 0, **node} for name, node in nodes.items()
        },
        "auth": {"ssh_user": "nobody"}, "docker": {}, "file_mounts": {}, "cluster_synced_files": [],
        "file_mounts_sync_continuously": False, "rsync_exclude": [], "rsync_filter": [],
        "head_start_ray_commands": [], "worker_start_ray_commands": [], **{each: [] for each in commands},
    }  # fmt: skip


def ends(process, log, what, deadline_s):
    """Wait until a log says so much."""
    deadline = time.monotonic() + deadline_s
    while what not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


@pytest.fixture
def bare_head(tmp_path):
    """A head without CPUs whose autoscaler makes nodes: the environment of a job that is run on it."""
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    port = ports[0]
    (tmp_path / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(cluster_file(port)))
    environment = {
        **os.environ, "HOME": str(tmp_path), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_worker_niceness": "0", "RAY_DATA_MIN_GAP_BETWEEN_AUTOSCALING_REQUESTS": "1",
    }  # fmt: skip
    for name in ("RAY_ADDRESS", "CUDA_VISIBLE_DEVICES"):  # by the latter, even made-up GPUs are refused
        environment.pop(name, None)
    autoscaling = {
        "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD, "RAY_raylet_start_wait_time_s": "150",
    }  # fmt: skip
    command = [
        str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=0", f"--port={port}",
        "--node-ip-address=127.0.0.1", "--include-dashboard=false", f"--object-store-memory={STORE}",
        f"--autoscaling-config={tmp_path / 'ray_bootstrap_config.yaml'}", "--disable-usage-stats",
        f"--ray-client-server-port={ports[1]}",
    ]  # fmt: skip
    log = tmp_path / "head.log"
    with log.open("w") as file:
        server = subprocess.Popen(
            command, env={**environment, **autoscaling}, stdout=file, stderr=file, start_new_session=True
        )
    try:
        ends(server, log, "will now block", 150)
        yield {**environment, "RAY_ADDRESS": f"127.0.0.1:{port}"}
    finally:
        server.terminate()  # takes its daemons along, as a kill would not
        with suppress(subprocess.TimeoutExpired):
            server.wait(timeout=60)
        with suppress(ProcessLookupError):  # nodes of the autoscaler's that it had no time to end
            os.killpg(server.pid, signal.SIGKILL)


ENCODE = """
import functools, json, sys, threading, time
import ray
import pipelines.encode
from pipelines.cluster import connect
from qasir.encoding.models import Target
from qasir.encoding.options import EncodeOptions, EncoderOptions
from qasir.encoding.prepare import prepare
from qasir.video.corpus import list_videos
from tests.pipelines.test_growing import kinds
from tests.qasir.encoding.decoders import note_node

connect()
seen = [kinds()]
def look():
    while True:
        if kinds() != seen[-1]:
            seen.append(kinds())
        time.sleep(0.2)

threading.Thread(target=look, daemon=True).start()
graphs, graph = [], pipelines.encode.RayStages._graph
def remember(stages, segments, workers, reports):
    graphs.append(repr(workers))
    return graph(stages, segments, workers, reports)

pipelines.encode.RayStages._graph = remember
pipelines.encode.RayStages = functools.partial(pipelines.encode.RayStages, decode=note_node)
corpus = list_videos(sys.argv[1])
how = EncoderOptions(grid=1, fps=1.0, image_size=96, thumbnails=False, precision="fp32")
(summary,) = pipelines.encode.encode_corpus(corpus, [Target(*prepare(how, sys.argv[2], corpus))], EncodeOptions())
deadline = time.monotonic() + 60
while any(kinds().values()) and time.monotonic() < deadline:
    time.sleep(0.2)
print(json.dumps({"seen": seen, "left": kinds(), "workers": graphs, "encoded": summary.encoded}))
"""


def kinds():
    """How many nodes of each kind are there, besides the head."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    n_encoders = sum("GPU" in node for node in nodes)
    return {"decoder": sum("CPU" in node for node in nodes) - n_encoders, "encoder": n_encoders}


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_bare_head_gets_nodes_uses_them_and_gives_them_back(bare_head, tmp_path):
    for i in range(8):
        write_video(tmp_path / "videos" / f"v{i}.mp4", 100)
    done = subprocess.run(
        [sys.executable, "-c", ENCODE, str(tmp_path / "videos"), str(tmp_path / "index")],
        cwd=ROOT, env=bare_head, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads(done.stdout.strip().splitlines()[-1])
    print(json.dumps(facts, indent=1))
    assert facts["encoded"] == 8
    assert facts["seen"][0] == {"decoder": 0, "encoder": 0}
    assert max(now["encoder"] for now in facts["seen"]) == 1
    assert max(now["decoder"] for now in facts["seen"]) >= 1
    # Encoders are given GPUs, though there were none, and decoders all CPUs that may come.
    assert "encoders=1, encoder_cpus=1.0, encoder_gpus=1.0" in facts["workers"][0]
    assert "decoders=13" in facts["workers"][0]  # 5 for the CPUs, and 8 that may find a place on the GPU
    where = {path.read_text() for path in (tmp_path / "videos").glob("*.node")}
    assert "decoder" in where, where
    assert facts["left"] == {"decoder": 0, "encoder": 0}
