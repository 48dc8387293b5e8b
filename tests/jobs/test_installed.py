"""What is installed where: the wheel, an editable clone, and the image, each in an environment that has the
dependencies alone."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import venv
import zipfile
from pathlib import Path

import pytest

from tests.videos import write_video

ROOT = Path(__file__).resolve().parents[2]
NOT_COPIED = shutil.ignore_patterns("__pycache__")


def run(*command, cwd, **environment):
    """The standard output of a command that succeeds, run without this process's PYTHONPATH."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "RAY_ADDRESS")}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=inherited | environment, capture_output=True, text=True,
        check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def make_environment(folder, *, dependencies):
    """The Python of a new virtual environment; with dependencies it sees what is installed here, but no editable qasir,
    since a line of a .pth file adds a folder and not that folder's own .pth files."""
    venv.create(folder, with_pip=False)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    if dependencies:
        here = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
        (packages / "dependencies.pth").write_text("\n".join(here) + "\n")
    return folder / "bin" / "python"


def pip_install(python, *what, cwd):
    """Install something that needs no package from anywhere."""
    options = ["--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--ignore-installed"]
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, *what, cwd=cwd)


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """A folder with what the Dockerfile copies."""
    folder = tmp_path_factory.mktemp("image") / "qasir"
    folder.mkdir()
    for line in re.findall(r"^COPY --chown=\S+ (.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE):
        *names, target = line.split()
        for name in names:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / target, ignore=NOT_COPIED)
            else:
                shutil.copy(ROOT / name, folder / target)
    return folder


@pytest.fixture(scope="module")
def wheel(image, tmp_path_factory):
    """The wheel, built from a copy, so that no file of an older build gets into it."""
    source, built = (tmp_path_factory.mktemp(name) for name in ("source", "wheel"))
    shutil.copytree(image, source, dirs_exist_ok=True)
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "--no-build-isolation"]
    run(*command, "-w", built, source, cwd=built)
    (found,) = built.glob("*.whl")
    return found


def test_the_wheel_holds_the_library_and_its_data_and_nothing_else(wheel, image):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA"))
    assert names == {str(path.relative_to(image)) for path in (image / "qasir").rglob("*") if path.is_file()}
    assert {"qasir/py.typed", "qasir/vlm/packaged/qasir-tiny.safetensors", "qasir/demo/sprites/LICENSE"} <= names
    needed = set(re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", metadata, re.MULTILINE))
    assert "torch" in needed
    assert not {"ray", "typer"} & needed


def test_the_wheel_is_imported_in_an_empty_environment(wheel, tmp_path):
    python = make_environment(tmp_path / "empty", dependencies=False)
    pip_install(python, wheel, cwd=tmp_path)
    look = "import importlib.util as u, qasir; print(qasir.__file__, u.find_spec('jobs'), u.find_spec('pipelines'))"
    where, *absent = run(python, "-c", look + "; print(*qasir.__all__)", cwd=tmp_path).split()[:3]
    assert Path(where).is_relative_to(tmp_path)
    assert absent == ["None", "None"]


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """A Python with the dependencies and without qasir."""
    return make_environment(tmp_path_factory.mktemp("environment"), dependencies=True)


def test_without_an_installation_jobs_run_as_modules_of_the_clone(python, image):
    assert "--output" in run(python, "-m", "jobs.render_demo", "--help", cwd=image)


def test_an_editable_installation_puts_the_clone_on_the_path(image, tmp_path):
    python = make_environment(tmp_path / "editable", dependencies=True)
    pip_install(python, "-e", image, cwd=tmp_path)
    assert "--output" in run(python, image / "jobs" / "render_demo.py", "--help", cwd=tmp_path)
    assert "--output" in run(python, "-m", "jobs.render_demo", "--help", cwd=tmp_path)
    look = "import jobs, pipelines, qasir; print(jobs.__path__[0], pipelines.__path__[0], qasir.__path__[0])"
    assert {Path(found).parent for found in run(python, "-c", look, cwd=tmp_path).split()} == {image}


@pytest.fixture
def pythonpath(image):
    """The PYTHONPATH that the Dockerfile sets, where the image is a folder of this machine."""
    (work,) = re.findall(r"^WORKDIR (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    (path,) = re.findall(r"^ENV PYTHONPATH=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    return path.replace(work, str(image))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_rayjob_of_the_image_needs_no_working_dir(python, image, pythonpath, tmp_path):
    """KubeRay submits an entrypoint to the cluster's head, whose environment is the image's; so is that of its
    workers."""
    write_video(tmp_path / "videos" / "a.mp4", 30)
    ray = [python, "-m", "ray.scripts.scripts"]
    ports = [free_port() for _ in range(5)]
    settings = {
        "PYTHONPATH": pythonpath, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    start = [
        *ray, "start", "--head", "--block", "--num-cpus=2", f"--port={ports[0]}", "--node-ip-address=127.0.0.1",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={ports[1]}", f"--dashboard-agent-listen-port={ports[2]}",
        f"--dashboard-agent-grpc-port={ports[3]}", f"--ray-client-server-port={ports[4]}",
        f"--object-store-memory={200 << 20}", "--disable-usage-stats",
    ]  # fmt: skip
    quiet = subprocess.DEVNULL
    head = subprocess.Popen(
        [str(word) for word in start], cwd=tmp_path, env=os.environ | settings, stdout=quiet, stderr=quiet
    )
    submit = [*ray, "job", "submit", "--address", f"http://127.0.0.1:{ports[1]}", "--"]
    try:
        until_it_takes_jobs(submit, settings, tmp_path)
        job = ["python", image / "jobs" / "encode_corpus.py", "--videos", tmp_path / "videos"]
        said = run(*submit, *job, "--index", tmp_path / "index", "--json", cwd=tmp_path, **settings)
    finally:
        head.terminate()  # takes its daemons along, as a kill would not
        head.wait(timeout=90)
    facts = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert facts[-1]["encoded"] == 1


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def until_it_takes_jobs(submit, settings, cwd):
    """A head answers some time before it takes jobs."""
    deadline = time.monotonic() + 150
    nothing = [str(word) for word in (*submit, "true")]
    while subprocess.run(nothing, cwd=cwd, env=os.environ | settings, capture_output=True, check=False).returncode != 0:
        assert time.monotonic() < deadline, "the head takes no jobs"
