"""Lets open_clip import beside a CPU-only torch.

The registry's torchvision is a CUDA build; beside a CPU-only torch its import dies for want of two operators that
open_clip never calls. Declaring them is enough. Import this module before open_clip, in every process.
"""

import torch

_NMS_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

try:
    import torchvision
except RuntimeError as error:
    if "torchvision::" not in str(error):
        raise
    for _operator in ("torchvision::nms", "torchvision::qnms"):
        torch.library.define(_operator, _NMS_SCHEMA)
    import torchvision  # noqa: F401
