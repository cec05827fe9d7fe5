"""The encoders of the `openclip` family: open_clip's tokenizer, transform and towers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from multimodal.core.backends.runtime import Runtime
from multimodal.core.encoder import Encoder
from multimodal.core.errors import CheckpointError
from multimodal.core.items import Image, Item
from multimodal.core.media.pillow import load_pil
from multimodal.core.modality import Modality
from multimodal.encoders.openclip import networks
from multimodal.encoders.openclip.preprocessing import shortest_edge, transform
from multimodal.encoders.openclip.tokenizer import Tokenizer

Batch = dict[str, Tensor]

CPU_FLOAT32 = Runtime()
CHARACTERS_PER_TOKEN = 4  # of English text, approximately


class _OpenClipEncoder(Encoder):
    """One tower of a model on its device."""

    engines = ("torch", "openvino")
    net: Any  # a tower of open_clip, see `networks`

    def __init__(self, config: Mapping[str, Any], runtime: Runtime) -> None:
        self._config = dict(config)
        self.dim = config["embed_dim"]
        self.runtime, self.cast = runtime, runtime.cast

    def config(self) -> dict[str, Any]:
        return dict(self._config)

    def state_dict(self) -> Mapping[str, Tensor]:
        return self.net.state_dict()


class OpenClipText(_OpenClipEncoder):
    """Tokens -> text tower. Longer texts are truncated to the context length and keep their end token.

    Args:
        config: What `tokenizer.text_settings` returned, with "embed_dim" and "quick_gelu".
        tensors: The tower's weights by their names within it. The dict is emptied.
        files: The tokenizer's files.
        runtime: Device, precision and engine.
        title: Name of the checkpoint in error messages.
    """

    modality = Modality.TEXT

    def __init__(
        self,
        config: Mapping[str, Any],
        tensors: dict[str, Tensor],
        files: Mapping[str, bytes],
        runtime: Runtime = CPU_FLOAT32,
        title: str = "a saved space",
    ) -> None:
        super().__init__(config, runtime)
        self.title = title
        self._files = dict(files)
        # Without the start and end tokens
        self.max_input = CHARACTERS_PER_TOKEN * (config["tokenizer"]["context_length"] - 2)
        self.tokenizer = Tokenizer(config["tokenizer"], self._files)
        self.net = networks.load_weights(networks.text_tower(config, title), tensors, runtime, "text.", title)

    def files(self) -> Mapping[str, bytes]:
        return self._files

    def prepare(self, items: Sequence[Item]) -> Batch:
        """Tokenises texts.

        Returns:
            tokens (n, context) int64, and lengths (n,) int64, the number of positions that affect the vector.

        Raises:
            CheckpointError: If a token is outside the tower's vocabulary.
        """
        tokens = self.tokenizer([str(item.load()) for item in items])
        if 0 < int(self.net.vocab_size) <= (highest := int(tokens.max())):
            raise CheckpointError(
                f"the tokenizer of {self.title} returned the token {highest}, but its text tower has a vocabulary of "
                f"{self.net.vocab_size}: it is not the tokenizer this model was trained with"
            )
        return {"tokens": tokens, "lengths": networks.effective_lengths(self.net, tokens)}

    def forward(self, batch: Batch) -> Tensor:
        if self.runtime.engine == "torch" and networks.can_run_rows(self.net):
            return networks.encode_rows(self.net, batch["tokens"], batch["lengths"]).float()

        def run(tokens: Tensor) -> Tensor:
            return self.run_backend(networks.encode_text, {"tokens": tokens.to(self.runtime.torch_device)})

        return networks.run_by_length(run, batch["tokens"], batch["lengths"]).float()


class OpenClipImage(_OpenClipEncoder):
    """open_clip's transform for inference -> image tower.

    Args:
        config: "embed_dim", "quick_gelu", "tower" (open_clip's vision_cfg) and "preprocess".
        tensors: The tower's weights by their names within it. The dict is emptied.
        runtime: Device, precision, decoding and engine.
        title: Name of the checkpoint in error messages.
    """

    modality = Modality.IMAGE

    def __init__(
        self,
        config: Mapping[str, Any],
        tensors: dict[str, Tensor],
        runtime: Runtime = CPU_FLOAT32,
        title: str = "a saved space",
    ) -> None:
        super().__init__(config, runtime)
        self.net = networks.load_weights(
            networks.image_tower(config, title), tensors, runtime, "visual.", title
        )
        self.size = networks.image_size(self.net)
        self.transform = transform(config["preprocess"], self.size)
        self.shortest_edge = shortest_edge(config["preprocess"], self.size)

    def prepare(self, items: Sequence[Item]) -> Batch:
        """Decodes and preprocesses images.

        Returns:
            pixels (n, 3, h, w) float32, normalised.
        """
        # Reduced-size decoding never goes below the size that the transform resizes to
        side = max(self.size) if self.runtime.decode == "fast" else None
        pixels = [
            self.transform(load_pil(item, side, shortest_edge=self.shortest_edge))
            for item in items
            if isinstance(item, Image)
        ]
        return {"pixels": torch.stack(pixels)}

    def forward(self, batch: Batch) -> Tensor:
        pixels = batch["pixels"].to(self.runtime.torch_device, self.cast)
        return self.run_backend(networks.encode_image, {"pixels": pixels}).float()
