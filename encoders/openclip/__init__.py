"""`load("openclip/ViT-B-32:laion2b_s34b_b79k")`: the CLIP models that open_clip knows, pictures and texts.

Any architecture of `open_clip.list_models()`, with a pretrained tag or a file of weights; any repository of the model
hub that has an open_clip_config.json, "openclip/hf-hub:owner/name"; any folder like it, "openclip/local-dir:…" or
"openclip/./folder". In float32 and decode="exact" the vectors are open_clip's own, to 1e-5. Weights are kept by
huggingface_hub's cache; HF_HOME says where that is.

One thing differs on purpose: a tag is loaded with the activation it was trained with, so "ViT-B-32:openai" is what
upstream calls "ViT-B-32-quickgelu:openai" (the other it loads with a warning, and gives wrong vectors).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from multimodal.core.backends.runtime import Decode, Engine, Precision, Runtime
from multimodal.core.encoder import Encoder, EncoderState
from multimodal.core.errors import CheckpointError, MissingExtra
from multimodal.core.items import Image, Item
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.encoders.openclip.cards import CARDS as CARDS

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from multimodal.core.encoder import Batch
    from multimodal.encoders.openclip.checkpoint import Checkpoint

EXACT = Runtime()
CHARACTERS_PER_TOKEN = 4  # about, in English; the first and last token are no text


def load(
    rest: str = "",
    *,
    device: str = "auto",
    precision: Precision = "float32",
    decode: Decode = "exact",
    engine: Engine = "torch",
    offline: bool = False,
    revision: str | None = None,
    preprocess: Mapping[str, Any] | None = None,
    like: str | None = None,
    quick_gelu: bool | None = None,
    space_id: str | None = None,
) -> Space:
    """A space of text and pictures.

    rest: see `_openclip_names`. device, precision, decode, engine: see `core.runtime.Runtime`.
    offline: only what is in the cache already. revision: a branch, tag or commit of the weights' repository, in place
    of the card's or the newest.
    preprocess, like, quick_gelu: what a checkpoint that is no tag does not say itself. preprocess is {"mean", "std",
    "interpolation", "resize_mode"}; like is a tag of the same architecture that was prepared the same way.
    space_id: the space it can be joined with; by default its own name, and none for a file or folder.
    Raises UnknownModel with close matches, CheckpointError, DownloadError, InvalidInput, MissingExtra.
    """
    runtime = Runtime(device, precision, decode, engine)
    _need_open_clip(f"'openclip/{rest}'")
    from multimodal.encoders.openclip import names as names
    from multimodal.encoders.openclip.checkpoint import Said, resolve

    said = Said(preprocess, like, quick_gelu)
    found = names.parse(rest)
    pinned = next((card.revision for card in CARDS if card.name == names.named(found)), "")
    checkpoint = resolve(found, said, revision=revision or pinned or None, offline=offline)
    space = _space(checkpoint, runtime, space_id or checkpoint.home)
    space.address = names.anywhere(found)
    space.name = checkpoint.home or f"openclip/{rest}"
    space.card = next((card for card in CARDS if card.name == space.name), None)
    return space


def _space(checkpoint: Checkpoint, runtime: Runtime, home: str | None) -> Space:
    from multimodal.encoders.openclip import tokenizer as tokens
    from multimodal.encoders.openclip.networks import image_tower
    from multimodal.encoders.openclip.tensors import parts

    model, title = checkpoint.model, checkpoint.title
    shared = {"embed_dim": model["embed_dim"], "quick_gelu": model.get("quick_gelu", False)}
    seen = shared | {"tower": model["vision_cfg"], "preprocess": checkpoint.preprocess}
    read, files = tokens.describe(checkpoint)  # before the weights, which take longer to come
    found = parts(
        checkpoint.weights, title, lambda: image_tower(seen, title), captions="multimodal_cfg" in model
    )
    encoders: list[Encoder] = [
        OpenClipText(shared | read, found.text, files, runtime, title),
        OpenClipImage(seen, found.image, runtime, title),
    ]
    for encoder in encoders:
        encoder.space_id = home
    return Space(encoders, found.head)


def from_config(saved: EncoderState, runtime: Runtime) -> Encoder:
    """Rebuild an encoder from what it saved. Raises MissingExtra, CheckpointError."""
    _need_open_clip("this saved space")
    if saved.modality == Modality.TEXT:
        return OpenClipText(saved.config, dict(saved.tensors), saved.files, runtime)
    return OpenClipImage(saved.config, dict(saved.tensors), runtime)


def _need_open_clip(what: str) -> None:
    if importlib.util.find_spec("open_clip") is None:
        raise MissingExtra(what, package="open_clip_torch", extra="openclip")


class _OpenClip(Encoder):
    """One tower of a model, and where it runs."""

    engines = ("torch", "openvino")
    net: Any  # one of open_clip's towers, see _openclip_nets

    def __init__(self, config: Mapping[str, Any], runtime: Runtime) -> None:
        self._config = dict(config)
        self.dim = config["embed_dim"]
        self.runtime, self.cast = runtime, runtime.cast

    def config(self) -> dict[str, Any]:
        return dict(self._config)

    def state_dict(self) -> Mapping[str, Tensor]:
        return self.net.state_dict()


class OpenClipText(_OpenClip):
    """Texts -> tokens -> a text tower. What is longer than the context is cut there, and keeps its end token."""

    modality = Modality.TEXT

    def __init__(
        self,
        config: Mapping[str, Any],
        tensors: dict[str, Tensor],
        files: Mapping[str, bytes],
        runtime: Runtime = EXACT,
        title: str = "a saved space",
    ) -> None:
        """tensors: by their names within the tower; it is emptied. files: of the tokenizer."""
        from multimodal.encoders.openclip import networks as nets
        from multimodal.encoders.openclip.tokenizer import Tokenizer

        super().__init__(config, runtime)
        self.title = title
        self._files = dict(files)
        self.max_input = CHARACTERS_PER_TOKEN * (config["tokenizer"]["context_length"] - 2)
        self.tokenizer = Tokenizer(config["tokenizer"], self._files)
        self.net = nets.fill(nets.text_tower(config, title), tensors, runtime, "text.", title)

    def files(self) -> Mapping[str, bytes]:
        return self._files

    def prepare(self, items: Sequence[Item]) -> Batch:
        """tokens (n, context) int64, lengths (n,) int64: how many of them matter."""
        from multimodal.encoders.openclip.networks import lengths

        tokens = self.tokenizer([str(item.load()) for item in items])
        if 0 < int(self.net.vocab_size) <= (highest := int(tokens.max())):
            raise CheckpointError(
                f"the tokenizer of {self.title} gave the token {highest}, and its text tower knows "
                f"{self.net.vocab_size}: it is not the tokenizer this model was trained with"
            )
        return {"tokens": tokens, "lengths": lengths(self.net, tokens)}

    def forward(self, batch: Batch) -> torch.Tensor:
        from multimodal.encoders.openclip.networks import encode_text, grouped

        def run(tokens: Tensor) -> Tensor:
            return self.run_backend(encode_text, {"tokens": tokens.to(self.runtime.torch_device)})

        return grouped(run, batch["tokens"], batch["lengths"]).float()


class OpenClipImage(_OpenClip):
    """Pictures -> open_clip's transform for inference -> an image tower."""

    modality = Modality.IMAGE

    def __init__(
        self,
        config: Mapping[str, Any],
        tensors: dict[str, Tensor],
        runtime: Runtime = EXACT,
        title: str = "a saved space",
    ) -> None:
        """tensors: by their names within the tower; it is emptied."""
        from multimodal.encoders.openclip import networks as nets
        from multimodal.encoders.openclip.preprocessing import transform

        super().__init__(config, runtime)
        self.net = nets.fill(nets.image_tower(config, title), tensors, runtime, "visual.", title)
        self.size = nets.size_of(self.net)
        self.transform = transform(config["preprocess"], self.size)

    def prepare(self, items: Sequence[Item]) -> Batch:
        """pixels (n, 3, h, w) float32, normalised."""
        import torch

        # Pictures are resized anyway, and never below this
        side = max(self.size) if self.runtime.decode == "fast" else None
        return {
            "pixels": torch.stack(
                [self.transform(item.load(side)) for item in items if isinstance(item, Image)]
            )
        }

    def forward(self, batch: Batch) -> torch.Tensor:
        pixels = batch["pixels"].to(self.runtime.torch_device, self.cast)
        return self.run_backend(_seen, {"pixels": pixels}).float()


def _seen(net: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    found: Tensor = net(inputs["pixels"])
    return found
