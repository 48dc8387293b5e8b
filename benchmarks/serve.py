"""Measures the search page's server as its users wait for it: from Enter to hits, over HTTP on loopback.

python benchmarks/serve.py [--part demo --part million] [--demo demo/index] [--folder build/serve_benchmark]

demo      the demo's index (`make demo`), exact search
million   1,000,000 made-up super images of 50,000 videos, with a vector index, asked by the same model; made once

The server is jobs/serve_search.py, in a process of its own; clients are threads of this one, each with a connection
that it keeps, so that on few cores they take part of the machine. A text is new each time (the server has to encode it)
or one of ten (whose vectors it remembers).
"""

import http.client
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import numpy as np
import typer
from retrieval import clustered, store

from qasir.index.index import Index
from qasir.index.lease import Run
from qasir.retrieval import vector_index

PARTS = ("demo", "million")
N_VIDEOS, EACH = 50_000, 20
CLIENTS = 32
AIMS_MS = {"demo": 30, "million": 60}
PROMPT_MS = 200
"""What a rate's 95th percentile must stay under to count as sustained."""
FIRST_RATE, FASTER = 5.0, 1.4
_STEP_S = 6.0
_ROOT = Path(__file__).resolve().parents[1]
_COLOURS = ("red", "orange", "yellow", "green", "blue", "violet", "black", "white", "grey", "brown", "pink", "golden")
_THINGS = (
    "apple", "bicycle", "boat", "bridge", "car", "cat", "cloud", "cup", "dog", "door", "elephant", "fish", "flag",
    "flower", "guitar", "hammer", "hat", "horse", "house", "key", "lamp", "leaf", "lion", "moon", "mouse", "owl",
    "pencil", "piano", "plane", "pumpkin", "rabbit", "river", "rocket", "shoe", "snail", "star", "sun", "table",
    "tiger", "train", "tree", "trumpet", "turtle", "umbrella", "violin", "whale", "window", "wolf", "zebra",
)  # fmt: skip
_PLACES = ("above", "behind", "beside", "below", "near", "under")


def main(
    part: Annotated[list[str] | None, typer.Option(help=f"Which of {', '.join(PARTS)}.", show_default="all")] = None,
    demo: Annotated[Path, typer.Option(help="The demo's index.")] = Path("demo/index"),
    folder: Annotated[Path, typer.Option(help="Where the made-up index and the results go.")] = Path(
        "build/serve_benchmark"
    ),
    seconds: Annotated[float, typer.Option(min=1, help="How long 32 clients ask at once.")] = 60.0,
    queries: Annotated[int, typer.Option(min=200, help="Memory is looked at after 100 and after this many.")] = 10_000,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "results.json"
    results: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    for name in part or PARTS:
        uri = str(demo) if name == "demo" else str(million(folder, demo))
        results[name] = measure(uri, seconds, queries)
        kept.write_text(json.dumps(results, indent=2) + "\n")
        print(table(name, results[name]), flush=True)


def million(folder: Path, demo: Path) -> Path:
    """An index of the demo's encoder spec, without cells and pictures, whose vectors are made up."""
    uri = folder / "million"
    spec = replace(Index.open(str(demo)).spec, cells=False, thumbnails=False)
    if not uri.exists():
        vectors = clustered(np.random.default_rng(1), N_VIDEOS, EACH, spec.embedding_dim)
        store(uri, vectors, EACH, spec)
    index = Index.open(str(uri))
    if not index.snapshot().is_indexed():
        with Run(index, "benchmark") as run:
            vector_index.build(run.writer)
    return uri


def texts() -> Iterator[str]:
    """Distinct ones, 172,872, in an order of their own."""
    every = itertools.product(_COLOURS, _THINGS, _PLACES, _THINGS)
    found = [f"a {colour} {thing} {place} a {other}" for colour, thing, place, other in every]
    return iter(np.random.default_rng(0).permutation(np.array(found)).tolist())


class Texts:
    """What clients ask, for many threads: new ones, or the same ten again and again."""

    def __init__(self) -> None:
        self._new = texts()
        self._again = itertools.cycle([next(self._new) for _ in range(10)])
        self._lock = threading.Lock()

    def new(self) -> str:
        with self._lock:
            return next(self._new)

    def again(self) -> str:
        with self._lock:
            return next(self._again)


@dataclass
class Timed:
    """How long answers took, in milliseconds, and what went wrong. Threads may share it."""

    took_ms: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def percentile(self, q: float) -> float:
        return float(np.percentile(self.took_ms, q)) if self.took_ms else float("inf")

    def facts(self) -> dict[str, Any]:
        return {
            "queries": len(self.took_ms), "p50_ms": self.percentile(50), "p95_ms": self.percentile(95),
            "errors": len(self.errors), "example": self.errors[:1],
        }  # fmt: skip


class Client:
    """One connection, kept."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)

    def hits(self, text: str) -> int:
        """How many the answer has, read and parsed. Raises OSError."""
        self._connection.request("GET", f"/api/search?q={quote(text)}&top_k=20")
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise OSError(f"{answer.status}: {body[:200]!r}")
        return len(json.loads(body)["hits"])

    def close(self) -> None:
        self._connection.close()


def ask(client: Client, text: str, into: Timed, since: float | None = None) -> None:
    """since: when it was meant to be asked, by time.perf_counter; by default now."""
    since = time.perf_counter() if since is None else since
    try:
        if client.hits(text) == 0:
            into.errors.append(f"no hits for {text!r}")
        into.took_ms.append(1000 * (time.perf_counter() - since))
    except (OSError, http.client.HTTPException) as error:
        client.close()
        into.errors.append(f"{type(error).__name__}: {error}")


def alone(url: str, text: Callable[[], str], n: int) -> Timed:
    """One user, one query after the other."""
    timed, client = Timed(), Client(url)
    for _ in range(n):
        ask(client, text(), timed)
    client.close()
    return timed


def at_once(url: str, text: Callable[[], str], *, until: Callable[[int], bool]) -> tuple[Timed, float]:
    """32 users, each asking again as soon as it has its hits; until: given how many are answered. Returns seconds
    too."""
    timed, begun = Timed(), time.perf_counter()

    def user() -> None:
        client = Client(url)
        while not until(len(timed.took_ms) + len(timed.errors)):
            ask(client, text(), timed)
        client.close()

    _run([user] * CLIENTS)
    return timed, time.perf_counter() - begun


def at_a_rate(url: str, text: Callable[[], str], rate: float, seconds: float) -> Timed:
    """Queries that come at a steady rate, whether those before are answered or not; each is timed from when it came."""
    timed, begun = Timed(), time.perf_counter() + 0.1
    numbers, lock = iter(range(int(rate * seconds))), threading.Lock()

    def user() -> None:
        client = Client(url)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                break
            due = begun + number / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            ask(client, text(), timed, due)
        client.close()

    _run([user] * (2 * CLIENTS))
    return timed


def sustained(url: str, text: Callable[[], str]) -> float:
    """The fastest rate tried, in steps of 1.4, whose 95th percentile stays under 200 ms, without an error. Each is
    given three tries, since other work on the machine delays some."""

    def is_prompt(rate: float) -> bool:
        timed = at_a_rate(url, text, rate, _STEP_S)
        return not timed.errors and timed.percentile(95) < PROMPT_MS

    best, rate = 0.0, FIRST_RATE
    while rate < 5000 and any(is_prompt(rate) for _ in range(3)):
        best, rate = rate, rate * FASTER
    return best


def _run(calls: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@dataclass(frozen=True)
class Server:
    """A running server. start_s: from its process to its address."""

    url: str
    process: int
    start_s: float

    def mib(self) -> float:
        """Memory that it holds (RSS)."""
        return int(self._shown("rss")) / 1024

    def cpu_s(self) -> float:
        """Time of CPUs that it has taken; whole seconds on some systems."""
        parts = [float(part) for part in self._shown("time").replace("-", ":").split(":")]
        return sum(part * unit for part, unit in zip(reversed(parts), (1, 60, 3600, 86400), strict=False))

    def _shown(self, what: str) -> str:
        command = ["ps", "-o", f"{what}=", "-p", str(self.process)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def serving(uri: str) -> Iterator[Server]:
    since = time.perf_counter()
    command = [sys.executable, "jobs/serve_search.py", "--index", str(Path(uri).absolute()), "--port", "0", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_ROOT, env=environment) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit("the server did not start: see above")
        threading.Thread(target=process.stdout.read, daemon=True).start()
        try:
            yield Server(json.loads(line)["url"], process.pid, time.perf_counter() - since)
        finally:
            process.terminate()


def measure(uri: str, seconds: float, queries: int) -> dict[str, Any]:
    """All numbers of one index, from one server."""
    ask_for = Texts()
    with serving(uri) as server:
        first = alone(server.url, ask_for.new, 1)
        at_once(server.url, ask_for.new, until=lambda answered: answered >= 99)  # its threads are all there then
        after_100 = server.mib()
        one = {name: alone(server.url, text, 200) for name, text in _kinds(ask_for).items()}
        until = time.monotonic() + seconds
        before_s = server.cpu_s()
        many, took_s = at_once(server.url, ask_for.new, until=lambda _: time.monotonic() > until)
        cpu_ms = 1000 * (server.cpu_s() - before_s) / max(1, len(many.took_ms))
        again_until = time.monotonic() + seconds / 4
        again, again_s = at_once(server.url, ask_for.again, until=lambda _: time.monotonic() > again_until)
        rate = sustained(server.url, ask_for.new)
        done = 500 + len(many.took_ms) + len(again.took_ms)
        at_once(server.url, ask_for.new, until=lambda answered: done + answered >= queries)
        after_all = server.mib()
        return {
            "cores": os.cpu_count(), "seconds": seconds, "start_s": server.start_s, "first_ms": first.percentile(50),
            "one_new": one["new"].facts(), "one_again": one["again"].facts(),
            "many_new": many.facts() | {"a_second": len(many.took_ms) / took_s},
            "many_again": again.facts() | {"a_second": len(again.took_ms) / again_s},
            "cpu_ms": cpu_ms, "sustained_a_second": rate, "mib_after_100": after_100, "mib_after_all": after_all,
            "queries": queries,
        }  # fmt: skip


def _kinds(ask_for: Texts) -> dict[str, Callable[[], str]]:
    return {"new": ask_for.new, "again": ask_for.again}


def table(name: str, facts: dict[str, Any]) -> str:
    """What was measured of one index, as markdown."""

    def row(what: str, timed: dict[str, Any]) -> str:
        rate = f"{timed['a_second']:.0f}" if "a_second" in timed else ""
        return f"| {what} | {timed['p50_ms']:.1f} | {timed['p95_ms']:.1f} | {rate} | {timed['errors']} |"

    lines = [
        f"\n{name}, {facts['cores']} cores (clients included)\n",
        "| from Enter to hits | p50 ms | p95 ms | a second | errors |",
        "| --- | --- | --- | --- | --- |",
        row(f"one user, new texts (aim: p50 under {AIMS_MS[name]} ms)", facts["one_new"]),
        row("one user, ten texts again and again", facts["one_again"]),
        row(f"{CLIENTS} at once for {facts['seconds']:g} s, new texts", facts["many_new"]),
        row(f"{CLIENTS} at once, ten texts again and again", facts["many_again"]),
        "",
        f"Sustained with p95 under {PROMPT_MS} ms: {facts['sustained_a_second']:.0f} new texts a second. At {CLIENTS} "
        f"at once a query takes {facts['cpu_ms']:.1f} ms of the server's CPUs. "
        f"Started in {facts['start_s']:.1f} s, first query {facts['first_ms']:.0f} ms. Memory after 100 queries "
        f"{facts['mib_after_100']:.0f} MiB, after {facts['queries']:,} or more {facts['mib_after_all']:.0f} MiB.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
