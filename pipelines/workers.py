"""How many workers each stage gets of a cluster's CPUs and GPUs: at first what is likely to be right, then what is
worth having by the rates that were measured (`pipelines.probe`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil

from qasir.encoding.bounds import Bounds, Capacity, Cost
from qasir.encoding.memory import DECODE_MEMORY
from qasir.encoding.models import CPU_BATCH, GPU_BATCH, cpu_batch, gpu_batch
from qasir.errors import SpecError
from qasir.video.hardware import CUDA, places_a_gpu

DECODER_CPUS, WRITER_CPUS, CUTTER_CPUS = 0.1, 0.05, 0.1
SUSPECT_CPUS, SUSPECT_MEMORY = 1.0, DECODE_MEMORY + (1 << 30)
"""What a video gets that may have killed its decoder, and is looked at alone: bytes that the limit allows it, and those
of the two processes."""
_ENCODER_CPUS_A_THREAD = 0.1
"""Small fractions, because what bounds the stages is their number of workers. Ray Data keeps a third of half the CPUs
it was granted for each stage, and is granted what stages ask for plus only whole ones of the rest: with 0.25 a decoder
that was 1.3 of 2 CPUs, and one of three decoders ran."""
_GROWING_DECODER_CPUS = 0.8
"""On a cluster that grows: decoders that ask for little share the first node that comes, and no other does."""
_DECODERS_A_CPU = 1.25
"""More than one, since a decoder also hands on and is handed what it works on; and as many more of either stage as
measured rates say."""
_MOST_DECODERS_A_CPU = 4
"""Of those that mostly wait."""
_LEAST_ENCODER_CPUS = 0.1
_ROUNDING = 1e-6
_IMAGES_AN_ENCODER, _GFLOPS_AN_ENCODER = 100, 1_000
"""More encoders than a small corpus needs would take its CPUs just to load models."""
_FIRST_ENCODERS = 16
_ENCODERS_A_NODE = 4
_MOST_THREADS = 8
"""On CPUs a node gets about four encoders that share its CPUs as threads: one with them all stands still whenever one
of its threads is kept waiting by another process (58 against 80 super images a second on two CPUs), one a CPU holds a
copy of the model each."""


def most_decoders(cpus: float, memory: float) -> int:
    """How many decoders so many CPUs and bytes of memory take at most, where they keep no core each busy."""
    return int(min(_MOST_DECODERS_A_CPU * cpus, memory / DECODE_MEMORY))


@dataclass(frozen=True)
class Workers:
    """Sizes of the stages; `threads` is what torch uses in one encoder, `batch` how many super images it takes at
    once."""

    encoders: int
    encoder_cpus: float
    encoder_gpus: float
    threads: int
    decoders: int
    batch: int
    is_measured: bool = False
    decoder_cpus: float = DECODER_CPUS

    @property
    def first_encoders(self) -> int:
        """How many to start with; unless it was measured, Ray Data adds more as the work backs up, and loading models
        beside decoders is slow."""
        if self.is_measured:
            return self.encoders
        return min(_FIRST_ENCODERS, self.encoders if self.encoder_gpus else max(1, self.encoders // _ENCODERS_A_NODE))

    def capacity(self, cpus: float, gpus: float | None = None) -> Capacity:
        """What these do at once with so many CPUs; and with so many GPUs, which may be fewer than the cluster may grow
        to."""
        if not self.encoder_gpus:
            return Capacity(cpus, self.decoders, self.encoders, self.threads)
        most = self.encoders if gpus is None else max(1, int(gpus / self.encoder_gpus + _ROUNDING))
        encoders = min(self.encoders, most)
        return Capacity(max(1.0, cpus - encoders * self.encoder_cpus), self.decoders, encoders, encoder_threads=0)

    def for_work(self, images: Sequence[float], gflops: Sequence[float]) -> "Workers":
        """No more encoders than so much work is worth; batches that take CPUs no longer than some seconds, and keep
        GPUs busy.

        images: about how many there are for each index; gflops: what one of them costs.
        """
        n, total = sum(images), sum(count * each for count, each in zip(images, gflops, strict=True))
        worth = int(max(n / _IMAGES_AN_ENCODER, total / _GFLOPS_AN_ENCODER))
        batch = (gpu_batch if self.encoder_gpus else cpu_batch)(images, gflops)
        return replace(self, encoders=min(self.encoders, max(self.first_encoders, worth)), batch=batch)

    def decoding_with(self, decoder: str, gpus: float, places: Callable[[], int] = places_a_gpu) -> "Workers":
        """With decoders for the GPUs too, which need little of a CPU; with decoder "cuda" with those alone.

        gpus: of the cluster; places: how many decode on each at a time. Of what "auto" decodes they get their share
        where encoders have GPUs.
        """
        if decoder == CUDA:
            return replace(self, decoders=max(1, int(places() * gpus)))
        if decoder == "auto" and self.encoder_gpus:
            return replace(self, decoders=self.decoders + int(places() * gpus))
        return self

    def measured(self, cost: Cost, cpus: float, *, decoders: int, encoder_cores: float) -> "Workers":
        """Of these, which are what the cluster takes, as many as it is worth having: with more it would be no faster.

        cost: as measured. decoders: how many there may be at most, where they wait and so do not keep a core each busy.
        encoder_cores: how many cores an encoder was seen to take, of which those with GPUs take less than they reserve.
        """
        most = replace(self, decoders=max(decoders, self.decoders))
        if self.encoder_gpus:
            most = replace(most, encoder_cpus=min(self.encoder_cpus, max(_LEAST_ENCODER_CPUS, encoder_cores)))
        # Decoders that wait share what so many that work would have.
        shared = self.decoder_cpus * self.decoders / most.decoders
        most = replace(most, decoder_cpus=max(DECODER_CPUS, min(self.decoder_cpus, shared)))
        spare_s = Bounds(cost, most.capacity(cpus)).seconds() / _DECODERS_A_CPU
        return replace(
            most,
            is_measured=True,
            decoders=min(most.decoders, ceil((cost.decode_cpu_s + cost.decode_wait_s) / spare_s)),
            encoders=min(
                most.encoders, ceil(cost.video_encode_s / (spare_s * (1 if self.encoder_gpus else self.threads)))
            ),
        )

    @classmethod
    def for_cluster(
        cls,
        cpus: float,
        gpus: float,
        node_cpus: float,
        gpus_per_encoder: float | None = None,
        *,
        grows: bool = False,
        untold_gpus: float = 0.0,
    ) -> "Workers":
        """Encoders take a GPU each, or the share asked for; CPUs where there is none, or where the share is 0.

        node_cpus: those of the largest node, since a worker cannot span two. grows: some of the CPUs are of nodes that
        are yet to come. untold_gpus: how many may come besides, of which nobody knows. Raises SpecError when GPUs are
        asked for that the cluster neither has nor may get.
        """
        share = gpus_per_encoder if gpus_per_encoder is not None else (1.0 if gpus > 0 else 0.0)
        if share < 0 or (share > 1 and share != int(share)):
            raise SpecError(
                f"--gpus-per-encoder {share:g}: give a share of one GPU, or a whole number of GPUs; 0 for CPUs"
            )
        if share:
            gpus = max(gpus, untold_gpus)
        if share > gpus:
            raise SpecError(f"--gpus-per-encoder {share:g}: the cluster has {gpus:g} GPUs and may not grow to more")
        decoder_cpus = _GROWING_DECODER_CPUS if grows else DECODER_CPUS
        if share:
            encoders = max(1, int(gpus / share + _ROUNDING))
            encoder_cpus = min(1.0, share)
            decoders = max(1, int(_DECODERS_A_CPU * (cpus - encoders * encoder_cpus)))
            return cls(
                encoders, encoder_cpus, share, threads=1, decoders=decoders, batch=GPU_BATCH, decoder_cpus=decoder_cpus
            )
        threads = max(1, min(_MOST_THREADS, int(node_cpus) // _ENCODERS_A_NODE))
        encoders = max(1, int(cpus) // threads)
        return cls(
            encoders, _ENCODER_CPUS_A_THREAD * threads, 0.0, threads=threads, decoders=int(cpus) + 1, batch=CPU_BATCH,
            decoder_cpus=decoder_cpus,
        )  # fmt: skip
