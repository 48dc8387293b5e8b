"""Makes docs/models.md: what the models that people choose cost, from open_clip's own configs.

    python docs/make_models_table.py

Nothing is downloaded: the towers are built without numbers, and PyTorch counts what one image costs.
"""

from pathlib import Path

import torch

from qasir.vlm.build import architecture
from qasir.vlm.flops import counted
from qasir.vlm.weights import VlmSource

MODELS = (
    "qasir-tiny", "MobileCLIP-S1", "MobileCLIP-S2", "MobileCLIP-B", "ViT-B-32", "ViT-B-16", "ViT-B-16-SigLIP",
    "ViT-B-16-SigLIP-384",
    "ViT-L-14", "ViT-L-14-336", "ViT-L-16-SigLIP-256", "ViT-L-16-SigLIP-384", "ViT-SO400M-14-SigLIP",
    "ViT-SO400M-14-SigLIP-384", "ViT-H-14",
)  # fmt: skip
GRIDS = (1, 2, 3, 4, 5)
HEAD = """# What models cost

Made by `python docs/make_models_table.py` from open_clip's own configs: GFLOPs are PyTorch's count on the real modules
(one multiply-add is 2 FLOPs; papers often print half), image tower only. A minute of video at one sample a second is 60
frames, so 60 / N² encodings; halve the sampling rate and it costs half.

"""


def row(name: str) -> str:
    model = architecture(VlmSource(name, ""))
    size = model.visual.image_size
    side = size[0] if isinstance(size, tuple | list) else size
    with torch.no_grad():
        gflops = counted(lambda: model.encode_image(torch.empty(1, 3, side, side, device="meta")))
        dim = model.encode_image(torch.empty(1, 3, side, side, device="meta")).shape[-1]
    image = sum(p.numel() for p in model.visual.parameters()) / 1e6
    whole = sum(p.numel() for p in model.parameters()) / 1e6
    minute = " | ".join(f"{60 / n**2 * gflops:,.0f}" for n in GRIDS)
    return f"| {name} | {side} | {image:.1f} | {whole:.1f} | {dim} | {gflops:.2f} | {minute} |"


def main() -> None:
    names = " | ".join(f"N = {n}" for n in GRIDS)
    lines = [
        "| model | pixels | image tower, M | all parameters, M | D | GFLOPs a super image | GFLOPs a video minute: "
        f"{names} |",
        "|" + " --- |" * (6 + len(GRIDS)),
        *(row(name) for name in MODELS),
    ]
    (Path(__file__).parent / "models.md").write_text(HEAD + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
