"""The losses of the packaged VLM on a batch of scenes.

Four losses around one learned prototype per class (sprite names and backgrounds) in the joint space; with prototypes
the image tower has far-apart targets from the first step, which a text tower that starts from nothing cannot give it:
- scene: the class token against the prototypes; the target is uniform over what the scene holds;
- patch: labelled patch tokens, projected like the class token, against the prototypes;
- text: the plain text of a class against the prototypes;
- caption: InfoNCE in both directions between scenes and captions of one or two of their names, where a caption that
  happens to fit another scene of the batch is not a negative.
Only the two towers are kept.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qasir.vlm.open_clip_import import open_clip  # isort: skip
from open_clip import SimpleTokenizer  # isort: skip

from qasir.demo.scene_batches import SceneBatch, class_texts, other_words
from qasir.demo.sprites import BACKGROUNDS
from qasir.demo.towers import CompactVocabulary, build_model, encode_window
from qasir.demo.training_plan import TrainingPlan

_FIRST_SCALE, _LARGEST_SCALE = float(np.log(16.0)), float(np.log(100.0))


class SceneLosses(nn.Module):
    """The towers of a config, with the prototypes and the scale that are learned beside them."""

    def __init__(self, plan: TrainingPlan, config: dict[str, Any]) -> None:
        super().__init__()
        self.model = build_model(config, plan.seed)
        self.n_texts, self.n_captions = plan.texts, plan.captions
        self.classes = class_texts()
        tokenizer = SimpleTokenizer(context_length=config["text_cfg"]["context_length"])
        self.vocabulary = CompactVocabulary(self.model, tokenizer, [*self.classes, *other_words()])
        self.prototypes = nn.Parameter(F.normalize(torch.randn(len(self.classes), config["embed_dim"]), dim=-1))
        self.patch_scale = nn.Parameter(torch.tensor(_FIRST_SCALE))
        with torch.no_grad():
            self.model.logit_scale.fill_(_FIRST_SCALE)
        mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        self.mean, self.std = (torch.tensor(v).view(1, 3, 1, 1) * 255.0 for v in (mean, std))

    def forward(self, batch: SceneBatch, draws: torch.Generator) -> dict[str, Tensor]:
        """The four by name, and how often the best prototype of a scene (hit) and of a patch (patch_hit) is right."""
        images = (batch.images.float() - self.mean) / self.std
        scene, patches = encode_window(self.model, images, batch.window)
        prototypes = F.normalize(self.prototypes, dim=-1)
        some = torch.randperm(len(self.classes), generator=draws)[: self.n_texts]
        texts = self.vocabulary.encode(self.model, [self.classes[i] for i in some])
        asked = slice(0, self.n_captions)
        captions = self.vocabulary.encode(self.model, batch.captions[asked])
        scale = self.model.logit_scale.exp()
        logits = scale * scene @ prototypes.T
        known = batch.targets.sum(1) > 0
        scene_loss = -(batch.targets * logits.log_softmax(-1)).sum(1)[known].mean()
        # Background patches are the many and the easy: as many of them as of the others are enough.
        label = batch.patches.flatten()
        n_sprites = len(self.classes) - len(BACKGROUNDS)
        on_sprite = (label >= 0) & (label < n_sprites)
        on_background = (label >= n_sprites).nonzero()[:, 0]
        on_background = on_background[torch.randperm(len(on_background), generator=draws)[: int(on_sprite.sum()) // 2]]
        chosen = torch.cat([on_sprite.nonzero()[:, 0], on_background])
        patch_logits = self.patch_scale.exp() * patches.flatten(0, 1)[chosen] @ prototypes.T
        similarity = scale * scene[asked] @ captions.T
        with torch.no_grad():
            top = logits[:, :n_sprites].argmax(1)
            hit = (batch.targets[torch.arange(len(top)), top] > 0).float().mean()
            patch_hit = (patch_logits.argmax(1) == label[chosen])[: int(on_sprite.sum())].float().mean()
        return {
            "scene": scene_loss,
            "patch": F.cross_entropy(patch_logits, label[chosen]),
            "text": F.cross_entropy(scale * texts @ prototypes.T, some),
            "caption": _caption_loss(similarity, batch.fits[asked, asked]),
            "hit": hit,
            "patch_hit": patch_hit,
        }

    def clamp_scales(self) -> None:
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=_LARGEST_SCALE)
            self.patch_scale.clamp_(max=_LARGEST_SCALE)


def _caption_loss(similarity: Tensor, fits: Tensor) -> Tensor:
    """InfoNCE in both directions; an off-diagonal pair that fits is neither positive nor negative."""
    ignored = fits & ~torch.eye(len(fits), dtype=torch.bool)
    similarity = similarity.masked_fill(ignored, -torch.inf)
    target = torch.arange(len(similarity))
    return 0.5 * (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target))
