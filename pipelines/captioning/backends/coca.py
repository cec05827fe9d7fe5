"""CoCa of open_clip (Yu et al. 2022): an image tower and a decoder over its tokens.

open_clip's own `generate` asks transformers for a class that version 5 no longer has; the words are searched for here,
by `_captioning_search`, on the same logits. A prompt is the beginning of the caption.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from multimodal.core.backends.runtime import Runtime
from multimodal.core.errors import CheckpointError, MissingExtra
from multimodal.core.hub.api import load_tensors
from multimodal.core.modality import Modality
from multimodal.pipelines.captioning import decoding
from multimodal.pipelines.captioning.options import (
    CaptioningBackend,
    CaptioningOptions,
    CaptioningOutput,
    seeded_generator,
    token_budget,
)

if TYPE_CHECKING:
    import torch

    from multimodal.encoders.openclip.checkpoint import OpenClipCheckpoint

DEFAULT_TOKENS, DEFAULT_BEAMS = 30, 4
CACHES = ("attn_mask", "text.attn_mask")  # what old files keep that is no weight


def load_backend(
    rest: str, runtime: Runtime, *, offline: bool, revision: str | None
) -> CocaCaptioningBackend:
    """The captioner `openclip/<rest>`. Raises CheckpointError for a model that is no CoCa, and what `load` raises."""
    if importlib.util.find_spec("open_clip") is None:
        raise MissingExtra(f"captioning with 'openclip/{rest}'", package="open_clip_torch", extra="openclip")
    from multimodal.encoders.openclip.checkpoint import Overrides, resolve
    from multimodal.encoders.openclip.names import parse

    checkpoint = resolve(parse(rest), Overrides(), revision=revision, offline=offline)
    name = f"openclip/{rest}"
    if "multimodal_cfg" not in checkpoint.model:
        raise CheckpointError(
            f"{name!r} gives vectors of texts and pictures and writes no captions; of open_clip's models CoCa does: "
            "'openclip/coca_ViT-L-14:mscoco_finetuned_laion2b_s13b_b90k'"
        )
    if checkpoint.model["text_cfg"].get("hf_model_name"):
        raise CheckpointError(
            f"{name!r} reads texts with {checkpoint.model['text_cfg']['hf_model_name']!r}, which looks ahead and so "
            "cannot write word by word; take 'openclip/coca_ViT-B-32:…' or 'openclip/coca_ViT-L-14:…'"
        )
    return CocaCaptioningBackend(name, checkpoint, runtime)


class CocaCaptioningBackend(CaptioningBackend):
    """A CoCa with its preprocessing and CLIP's own tokenizer."""

    modalities = (Modality.IMAGE,)

    def __init__(self, name: str, checkpoint: OpenClipCheckpoint, runtime: Runtime) -> None:
        from open_clip.tokenizer import SimpleTokenizer

        from multimodal.encoders.openclip.networks import image_size
        from multimodal.encoders.openclip.preprocessing import transform

        self.name = name
        self.net = _filled(name, checkpoint).to(runtime.torch_device, runtime.dtype)
        self.transform = transform(checkpoint.preprocess, image_size(self.net.visual))
        self.tokenizer = SimpleTokenizer(
            context_length=checkpoint.model["text_cfg"].get("context_length", 77)
        )
        self.start, self.end = self.tokenizer.sot_token_id, self.tokenizer.eot_token_id
        self.context = int(self.net.context_length)

    @property
    def device(self) -> torch.device:
        return self.net.logit_scale.device  # type: ignore[no-any-return]

    def to(self, device: torch.device) -> None:
        self.net.to(device)

    def generate(self, items: Sequence[Any], asked: CaptioningOptions) -> list[CaptioningOutput]:
        import torch

        begun = [self.start, *(self.tokenizer.encode(asked.prompt) if asked.prompt else ())]
        most = token_budget(
            self.name, asked.max_tokens, DEFAULT_TOKENS, context=self.context, n_read=len(begun)
        )
        pixels = torch.stack([self.transform(item.load()) for item in items])
        with torch.inference_mode():
            latents, seen = self.net._encode_image(pixels.to(self.device, self.net.logit_scale.dtype))

            def next_log_probs(owners: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
                first = torch.tensor([begun]).expand(len(words), -1)
                text, rows = torch.cat([first, words], dim=1).to(self.device), owners.to(self.device)
                logits = self.net(
                    None, text, image_latent=latents[rows], image_embs=seen[rows], output_labels=False
                )["logits"][:, -1]
                return torch.log_softmax(logits.float(), dim=-1)

            found = decoding.decode(
                next_log_probs, len(items), beams=asked.beams or DEFAULT_BEAMS, max_length=most, end=self.end,
                temperature=asked.temperature, top_p=asked.top_p or 1.0, generator=seeded_generator(asked.seed),
            )  # fmt: skip
        return [
            CaptioningOutput(
                self.tokenizer.decode(one.words).strip(), tuple(one.words), one.mean_log_prob, one.ended
            )
            for one in found
        ]


def _filled(name: str, checkpoint: OpenClipCheckpoint) -> Any:
    from open_clip.coca_model import CoCa

    from multimodal.encoders.openclip.tensors import check_fit

    model = checkpoint.model
    vision = dict(model["vision_cfg"]) | ({"timm_model_pretrained": False} if _is_timm(model) else {})
    net = CoCa(
        model["embed_dim"], model["multimodal_cfg"], model["text_cfg"], vision,
        quick_gelu=model.get("quick_gelu", False),
    )  # fmt: skip
    content = load_tensors(checkpoint.weights)
    tensors = {
        str(key).removeprefix("module."): tensor
        for key, tensor in content.get("state_dict", content).items()
        if str(key).removeprefix("module.") not in CACHES
    }
    check_fit(net.state_dict(), tensors, "", name)
    net.load_state_dict(tensors)
    return net.float().eval().requires_grad_(False)


def _is_timm(model: dict[str, Any]) -> bool:
    return "timm_model_name" in model["vision_cfg"]
