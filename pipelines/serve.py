"""The search page on Ray Serve: replicas of the same app, and texts encoded in batches, on a GPU where there is one.

serve run pipelines.serve:app index=s3://BUCKET/index [min_replicas=2 max_replicas=8 ...]

docs/operations.md says how on a cluster and on Kubernetes.
"""

import asyncio
import os
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve import Application
from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from pipelines.cluster import connect, total_gpus
from qasir.app.assembly import make_page
from qasir.app.engine import Engine
from qasir.app.errors import BusyError
from qasir.app.guard import KINDS
from qasir.app.portions import Portions
from qasir.app.question import Ranking
from qasir.app.settings import AppSettings
from qasir.errors import SpecError
from qasir.index.spec import EncoderSpec
from qasir.retrieval.text_encoder import TextEncoder

_TOKEN = "QASIR_TOKEN"
_GIB = 1 << 30
_TEXTS_AT_ONCE = 256
_WAIT_S = 0.002
"""How long a text waits for others, to be encoded together."""
_ENCODING_S = 60.0
"""A text that is not encoded by then, the model's loading included, is an error."""


def _several(given: Any) -> Any:
    """A command line gives one text: one name, or several with commas between them."""
    return given.split(",") if isinstance(given, str) else given


Names = Annotated[tuple[str, ...], BeforeValidator(_several)]


class Options(BaseModel):
    """What `serve run` takes as `name=value`, and a Serve config file as `args`.

    index: one or several, `hybrid` of two; finetuned, aggregation, exact: as of jobs/serve_search.py. token: better
    given as QASIR_TOKEN in the environment of the replicas, since Serve shows its applications' arguments. hosts: names
    by which the page may be called. requests, clips, longest_clip_s, cache_gib: of one replica.

    min_replicas, max_replicas: there are more of them the more requests are under way, target_requests each. cpus: of a
    replica. encoders: processes that encode texts; gpus: what each of them takes, by default one where the cluster has
    any.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    index: Names = Field(min_length=1)
    finetuned: Names = ()
    hybrid: str | None = None
    aggregation: str | None = None
    exact: bool | None = None
    token: SecretStr | None = None
    hosts: Names = ()
    allow_sql: bool = True
    requests: int = Field(default=AppSettings.requests, ge=1)
    clips: int = Field(default=AppSettings.clips, ge=1)
    longest_clip_s: float = Field(default=AppSettings.clip_s, gt=0)
    cache_gib: float = Field(default=AppSettings.cache_bytes / _GIB, ge=0)
    min_replicas: int = Field(default=1, ge=1)
    max_replicas: int = Field(default=4, ge=1)
    target_requests: float = Field(default=8.0, gt=0)
    cpus: float = Field(default=1.0, gt=0)
    encoders: int = Field(default=1, ge=1)
    gpus: float | None = Field(default=None, ge=0)

    def settings(self, token: str | None) -> AppSettings:
        return AppSettings(
            allow_sql=self.allow_sql, token=token, hosts=self.hosts, requests=self.requests, clips=self.clips,
            clip_s=self.longest_clip_s, cache_bytes=int(self.cache_gib * _GIB),
        )  # fmt: skip


class TextTower:
    """Encodes the texts of all replicas that wait at the same time together. Loads each model at its first text."""

    def __init__(self) -> None:
        self._towers: dict[EncoderSpec, TextEncoder] = {}

    @serve.batch(max_batch_size=_TEXTS_AT_ONCE, batch_wait_timeout_s=_WAIT_S)
    async def encode(self, asked: list[tuple[EncoderSpec, list[str]]]) -> list[NDArray[np.float32]]:
        return await asyncio.to_thread(self.encode_together, asked)

    def encode_together(self, asked: Sequence[tuple[EncoderSpec, list[str]]]) -> list[NDArray[np.float32]]:
        """For each the (n, D) vectors of its texts; one call of a model for all that want it."""
        vectors: dict[tuple[EncoderSpec, str], NDArray[np.float32]] = {}
        for spec in dict.fromkeys(spec for spec, _ in asked):
            texts = list(dict.fromkeys(text for other, texts in asked for text in texts if other == spec))
            encoded = self._towers.setdefault(spec, TextEncoder(spec)).encode_anew(texts)
            vectors |= {(spec, text): vector for text, vector in zip(texts, encoded, strict=True)}
        return [np.stack([vectors[spec, text] for text in texts]) for spec, texts in asked]


@serve.ingress()
class Page:
    """One replica of the page: opens the indexes and follows their versions by itself."""

    def __init__(self, options: Options, tower: DeploymentHandle) -> None:
        token = options.token.get_secret_value() if options.token else os.environ.get(_TOKEN)
        check_reach(_http_host(), token)
        self._tower = tower
        self._engine = Engine(
            options.index,
            finetuned=options.finetuned,
            hybrid=options.hybrid,
            ranking=Ranking(aggregation=options.aggregation, exact=options.exact),
            encode_texts=self._encode,
        )
        self._page = Portions(make_page(self._engine, options.settings(token)))

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return self._page

    def __del__(self) -> None:
        self._engine.close()

    def _encode(self, spec: EncoderSpec, texts: Sequence[str]) -> NDArray[np.float32]:
        try:
            return self._tower.encode.remote((spec, list(texts))).result(timeout_s=_ENCODING_S)
        except RayTaskError as error:
            raise error.cause from None
        except (RayError, RayServeException, TimeoutError) as error:
            raise BusyError("what encodes texts does not answer: try again") from error


def app(options: Options) -> Application:
    """The application, for `serve run pipelines.serve:app`."""
    connect()
    gpus = (1.0 if total_gpus() else 0.0) if options.gpus is None else options.gpus
    if options.max_replicas < options.min_replicas:
        options = options.model_copy(update={"max_replicas": options.min_replicas})
    tower = serve.deployment(
        name="TextTower",
        num_replicas=options.encoders,
        max_ongoing_requests=_TEXTS_AT_ONCE,
        ray_actor_options={"num_cpus": 1, "num_gpus": gpus},
    )(TextTower)
    page = serve.deployment(
        name="Page",
        max_ongoing_requests=len(KINDS) * options.requests,
        autoscaling_config={
            "min_replicas": options.min_replicas,
            "max_replicas": options.max_replicas,
            "target_ongoing_requests": options.target_requests,
        },
        ray_actor_options={"num_cpus": options.cpus},
    )(Page)
    return page.bind(options, tower.bind())


def check_reach(host: str | None, token: str | None) -> None:
    """Raises SpecError when others than this machine reach the address that Serve listens at, and no token is asked
    for."""
    if token is None and host is not None and not _is_loopback(host):
        raise SpecError(f"Serve listens at {host}, where others reach it: give a token, as {_TOKEN} in the environment")


def _http_host() -> str | None:
    """Where Serve listens; None if it does not."""
    client = _get_global_client()
    assert client is not None
    return client.http_config.host


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
