"""The neighbours of a run's settings: what else its user may choose, and mostly asks about."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from qasir.encoding.options import EncoderOptions, settled_gap_s
from qasir.index.spec import MAX_GRID, EncoderSpec

AS_ASKED = "as asked"


@dataclass(frozen=True)
class Choice:
    """The encoder specs of a run's indexes. timed_as: the number of the choice whose frames it decodes too: another
    grid puts the same ones together otherwise."""

    name: str
    specs: tuple[EncoderSpec, ...]
    timed_as: int


def choices_of(specs: Sequence[EncoderSpec]) -> list[Choice]:
    """The settings as they are, N - 1, N + 1, the other sampling and half the rate, for all indexes at once; those left
    out that do not go with one of them."""
    found = [Choice(AS_ASKED, tuple(specs), 0)]
    for by in (-1, 1):
        if all(1 <= spec.grid + by <= min(MAX_GRID, spec.image_size) for spec in specs):
            found.append(Choice(_grid_name(specs, by), tuple(replace(spec, grid=spec.grid + by) for spec in specs), 0))
    others: list[tuple[str, Callable[[EncoderSpec], EncoderSpec]]] = [
        (_sampling_name(specs), _sampled_otherwise),
        ("half the rate", _half_the_rate),
    ]
    return found + [
        Choice(name, tuple(map(change, specs)), len(found) + number) for number, (name, change) in enumerate(others)
    ]


def _grid_name(specs: Sequence[EncoderSpec], by: int) -> str:
    grids = {spec.grid + by for spec in specs}
    return f"N = {grids.pop()}" if len(grids) == 1 else f"N {'+' if by > 0 else '-'} {abs(by)}"


def _sampling_name(specs: Sequence[EncoderSpec]) -> str:
    return "keyframes" if any(spec.sampling == "uniform" for spec in specs) else "uniform"


def _sampled_otherwise(spec: EncoderSpec) -> EncoderSpec:
    if spec.sampling == "uniform":
        gap_s = settled_gap_s(EncoderOptions(fps=spec.fps, sampling="keyframes"))
        return replace(spec, sampling="keyframes", max_gap_s=gap_s)
    return replace(spec, sampling="uniform", max_gap_s=0.0)


def _half_the_rate(spec: EncoderSpec) -> EncoderSpec:
    """With keyframes, and a gap below a period of half the rate, the shortest gap that goes with it."""
    fps = spec.fps / 2
    gap_s = spec.max_gap_s if spec.sampling == "uniform" else max(spec.max_gap_s, 1.0 / fps)
    return replace(spec, fps=fps, max_gap_s=gap_s)
