"""How many workers each stage gets of a cluster's CPUs and GPUs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qasir.encoding.bounds import Capacity
from qasir.encoding.memory import DECODE_MEMORY
from qasir.encoding.models import CPU_BATCH, GPU_BATCH, cpu_batch
from qasir.errors import SpecError

DECODER_CPUS, WRITER_CPUS, CUTTER_CPUS = 0.1, 0.05, 0.1
SUSPECT_CPUS, SUSPECT_MEMORY = 1.0, DECODE_MEMORY + (1 << 30)
"""What a video gets that may have killed its decoder, and is looked at alone: bytes that the limit allows it, and those
of the two processes."""
_ENCODER_CPUS_A_THREAD = 0.1
"""Small fractions, because what bounds the stages is their number of workers. Ray Data keeps a third of half the CPUs
it was granted for each stage, and is granted what stages ask for plus only whole ones of the rest: with 0.25 a decoder
that was 1.3 of 2 CPUs, and one of three decoders ran."""
_DECODERS_A_CPU = 1.25
_IMAGES_AN_ENCODER, _GFLOPS_AN_ENCODER = 100, 1_000
"""More encoders than a small corpus needs would take its CPUs just to load models."""
_FIRST_ENCODERS = 16
_ENCODERS_A_NODE = 4
_MOST_THREADS = 8
"""On CPUs a node gets about four encoders that share its CPUs as threads: one with them all stands still whenever one
of its threads is kept waiting by another process (58 against 80 super images a second on two CPUs), one a CPU holds a
copy of the model each."""


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

    @property
    def first_encoders(self) -> int:
        """How many to start with; Ray Data adds more as the work backs up, and loading models beside decoders is
        slow."""
        return min(_FIRST_ENCODERS, self.encoders if self.encoder_gpus else max(1, self.encoders // _ENCODERS_A_NODE))

    def capacity(self, cpus: float) -> Capacity:
        """What these do at once on a cluster of so many CPUs."""
        threads = 0 if self.encoder_gpus else self.threads
        cores = cpus if threads else max(1.0, cpus - self.encoders * self.encoder_cpus)
        return Capacity(cores, self.decoders, self.encoders, threads)

    def for_work(self, images: Sequence[float], gflops: Sequence[float]) -> "Workers":
        """No more encoders than so much work is worth, and on CPUs batches that take no longer than some seconds.

        images: about how many there are for each index; gflops: what one of them costs.
        """
        n, total = sum(images), sum(count * each for count, each in zip(images, gflops, strict=True))
        worth = int(max(n / _IMAGES_AN_ENCODER, total / _GFLOPS_AN_ENCODER))
        batch = self.batch if self.encoder_gpus else cpu_batch(images, gflops)
        return replace(self, encoders=min(self.encoders, max(self.first_encoders, worth)), batch=batch)

    @classmethod
    def for_cluster(
        cls,
        cpus: float,
        gpus: float,
        node_cpus: float,
        gpus_per_encoder: float | None = None,
        *,
        may_grow: bool = False,
    ) -> "Workers":
        """Encoders take a GPU each, or the share asked for; CPUs where there is none, or where the share is 0.

        node_cpus: those of the largest node, since a worker cannot span two. may_grow: nodes may come that nobody knows
        of yet. Raises SpecError when GPUs are asked for that the cluster neither has nor may get.
        """
        share = gpus_per_encoder if gpus_per_encoder is not None else (1.0 if gpus > 0 else 0.0)
        if share < 0 or (share > 1 and share != int(share)):
            raise SpecError(
                f"--gpus-per-encoder {share:g}: give a share of one GPU, or a whole number of GPUs; 0 for CPUs"
            )
        if share > gpus and not may_grow:
            raise SpecError(f"--gpus-per-encoder {share:g}: the cluster has {gpus:g} GPUs and may not grow to more")
        if share:
            encoders = max(1, int(gpus / share + 1e-6))
            encoder_cpus = min(1.0, share)
            decoders = max(1, int(_DECODERS_A_CPU * (cpus - encoders * encoder_cpus)))
            return cls(encoders, encoder_cpus, share, threads=1, decoders=decoders, batch=GPU_BATCH)
        threads = max(1, min(_MOST_THREADS, int(node_cpus) // _ENCODERS_A_NODE))
        encoders = max(1, int(cpus) // threads)
        return cls(
            encoders, _ENCODER_CPUS_A_THREAD * threads, 0.0, threads=threads, decoders=int(cpus) + 1, batch=CPU_BATCH
        )
