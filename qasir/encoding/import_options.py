"""What a person chooses about imported features: what decides an index's rows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from qasir.features.opening import FORMATS
from qasir.options import Doc, Shown

POOLS = ("mean",)


@dataclass(frozen=True)
class ImportOptions:
    """How features of frames become an index. Either fps or durations says when the frames were."""

    model: Annotated[
        str, Doc("What the features are of: an open_clip model, whose text tower then encodes queries, or a label.")
    ]
    pretrained: Annotated[
        str | None,
        Doc("The open_clip tag or checkpoint of --model. Without it, a model that is not packaged is only a label."),
    ] = None
    fps: Annotated[float | None, Doc("How many frames a second the features are of.")] = None
    durations: Annotated[
        Path | None,
        Doc(
            "The videos' lengths in seconds, over which their frames are spread evenly: .json of {id: seconds}, or "
            ".jsonl or .csv with an id and `duration`."
        ),
    ] = None
    format: Annotated[str, Doc(f"{', '.join(FORMATS)}.")] = "auto"
    key: Annotated[str | None, Doc("The array of an .npz to read."), Shown("`features`, or the only one")] = None
    strip_prefix: Annotated[str, Doc("What to leave out at the beginning of ids, v_ say."), Shown("nothing")] = ""
    columns: Annotated[str | None, Doc("A:B, the columns to use, from 0 and without B."), Shown("all")] = None
    normalise: Annotated[bool, Doc("Scale vectors to length 1; without it, another length is an error.")] = False
    grid: Annotated[int, Doc("N: stand in for super images of N x N frames by pooling their features.")] = 1
    pool: Annotated[str | None, Doc("How features of a grid are pooled: mean.")] = None
