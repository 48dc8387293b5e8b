"""What a model computes in: the precision that is asked for, on the machine that there is."""

from collections.abc import Callable

import torch

from qasir.errors import ModelError


def resolve_precision(precision: str, *, device_type: Callable[[], str] | None = None) -> str:
    """What "auto" means: bf16 on CUDA and on CPUs that compute it natively, else fp32.

    Elsewhere bfloat16 is emulated: measured 100 times slower than float32 on an AVX2 machine. device_type() is "cuda"
    or "cpu", asked only if it matters; without it, this machine decides.
    """
    if precision in ("fp32", "bf16"):
        return precision
    kind = device_type() if device_type else ("cuda" if torch.cuda.is_available() else "cpu")
    if precision == "auto":
        return "bf16" if kind == "cuda" or _cpu_has_bf16() else "fp32"
    if kind == "cpu":
        raise ModelError("precision fp16 needs a GPU: on a CPU choose fp32, bf16 or auto")
    return precision


def _cpu_has_bf16() -> bool:
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # an older torch does not say
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") or capabilities.get("bf16"))
