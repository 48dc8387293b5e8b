"""What decoded the segments of a run, a GPU or the CPU, and why not the GPU."""

from dataclasses import dataclass, field

from qasir.encoding.reports import Report


@dataclass
class Decoders:
    """Counts segments that decoded (a video of up to five minutes is one), whatever index they are for.

    decoded_by: {"cpu" or "cuda": how many}. fallbacks: {a reason of `qasir.video.hardware.FALLBACKS`: how many were
    decoded on the CPU, or to their end there, for that reason}.
    """

    decoded_by: dict[str, int] = field(default_factory=dict)
    fallbacks: dict[str, int] = field(default_factory=dict)

    def add(self, report: Report) -> None:
        for counts, name in ((self.decoded_by, report.decoder), (self.fallbacks, report.fallback)):
            if name is not None:
                counts[name] = counts.get(name, 0) + 1
