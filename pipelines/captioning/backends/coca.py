"""CoCa of open_clip (Yu et al. 2022): an image tower and a decoder over its tokens.

open_clip's `generate` needs a class that transformers 5 no longer has, so tokens are decoded by
`core.backends.decoding`, on the same logits. A prompt is the beginning of the caption.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from multimodal.core.backends import decoding
from multimodal.core.backends.runtime import Runtime
from multimodal.core.errors import CheckpointError, MissingExtra
from multimodal.core.hub.api import load_tensors
from multimodal.core.media.pillow import load_pil
from multimodal.core.modality import Modality
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
CACHES = ("attn_mask", "text.attn_mask")  # buffers in older files that are not weights


def load_backend(
    rest: str, runtime: Runtime, *, offline: bool, revision: str | None
) -> CocaCaptioningBackend:
    """Loads `openclip/<rest>`. Raises CheckpointError for a model that is not a CoCa, and what `load` raises."""
    if importlib.util.find_spec("open_clip") is None:
        raise MissingExtra(f"captioning with 'openclip/{rest}'", package="open_clip_torch", extra="openclip")
    from multimodal.encoders.openclip.checkpoint import Overrides, resolve
    from multimodal.encoders.openclip.names import parse

    checkpoint = resolve(parse(rest), Overrides(), revision=revision, offline=offline)
    name = f"openclip/{rest}"
    if "multimodal_cfg" not in checkpoint.model:
        raise CheckpointError(
            f"{name!r} encodes text and images and writes no captions; of open_clip's models CoCa does: "
            "'openclip/coca_ViT-L-14:mscoco_finetuned_laion2b_s13b_b90k'"
        )
    if checkpoint.model["text_cfg"].get("hf_model_name"):
        raise CheckpointError(
            f"{name!r} reads texts with {checkpoint.model['text_cfg']['hf_model_name']!r}, which is not "
            "causal and so cannot write token by token; take 'openclip/coca_ViT-B-32:…' or 'openclip/coca_ViT-L-14:…'"
        )
    return CocaCaptioningBackend(name, checkpoint, runtime)


class CocaCaptioningBackend(CaptioningBackend):
    """A CoCa with its image preprocessing and the tokenizer of CLIP."""

    modalities = (Modality.IMAGE,)

    def __init__(self, name: str, checkpoint: OpenClipCheckpoint, runtime: Runtime) -> None:
        from open_clip.tokenizer import SimpleTokenizer

        from multimodal.encoders.openclip.networks import image_size
        from multimodal.encoders.openclip.preprocessing import shortest_edge, transform

        self.name = name
        self.net = _load_network(name, checkpoint).to(runtime.torch_device, runtime.dtype)
        size = image_size(self.net.visual)
        self.transform = transform(checkpoint.preprocess, size)
        self.shortest_edge = shortest_edge(checkpoint.preprocess, size)
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

    def generate(self, inputs: Sequence[Any], options: CaptioningOptions) -> list[CaptioningOutput]:
        import torch

        prefix = [self.start, *(self.tokenizer.encode(options.prompt) if options.prompt else ())]
        max_length = token_budget(
            self.name, options.max_tokens, DEFAULT_TOKENS, context=self.context, n_input=len(prefix)
        )
        images = [load_pil(item, shortest_edge=self.shortest_edge) for item in inputs]
        pixels = torch.stack([self.transform(image) for image in images])
        with torch.inference_mode():
            latents, embeddings = self.net._encode_image(pixels.to(self.device, self.net.logit_scale.dtype))

            def next_log_probs(owners: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
                first = torch.tensor([prefix]).expand(len(tokens), -1)
                text, rows = torch.cat([first, tokens], dim=1).to(self.device), owners.to(self.device)
                logits = self.net(
                    None, text, image_latent=latents[rows], image_embs=embeddings[rows], output_labels=False
                )["logits"][:, -1]
                return torch.log_softmax(logits.float(), dim=-1)

            sequences = decoding.decode(
                next_log_probs, len(inputs), beams=options.beams or DEFAULT_BEAMS, max_length=max_length, end=self.end,
                temperature=options.temperature, top_p=options.top_p or 1.0, generator=seeded_generator(options.seed),
            )  # fmt: skip
        return [
            CaptioningOutput(
                self.tokenizer.decode(sequence.tokens).strip(),
                tuple(sequence.tokens),
                sequence.mean_log_prob,
                sequence.ended,
            )
            for sequence in sequences
        ]


def _load_network(name: str, checkpoint: OpenClipCheckpoint) -> Any:
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
