"""The decoder of a space as something that `multimodal.adapt.align` can train; see `CaptionPolicy` there."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from multimodal.core.errors import InvalidInput
from multimodal.core.items import as_item
from multimodal.core.media.inputs import vector_array
from multimodal.core.vectors import unit_rows
from multimodal.pipelines.captioning.backends.networks import END, LONGEST
from multimodal.pipelines.captioning.backends.space_files import write_decoder
from multimodal.pipelines.captioning.options import CaptioningOptions

if TYPE_CHECKING:
    from multimodal.pipelines.captioning.backends.space import SpaceCaptioningBackend

BATCH = 256


class SpaceCaptionPolicy:
    """Log-probabilities and captions of any weights of the decoder, on the CPU in float32."""

    def __init__(self, backend: SpaceCaptioningBackend) -> None:
        self.backend, self.name, self.space = backend, backend.name, backend.space
        self.net: nn.Module = copy.deepcopy(backend.net).float().cpu()
        self.places = {word: number for number, word in enumerate(backend.words)}

    def vectors(self, inputs: Sequence[Any]) -> Tensor:
        """Items or vectors (dim,) -> unit vectors (n, dim)."""
        values = [vector_array(value) for value in inputs]
        return self.backend.vectors(
            [
                unit_rows(value, self.space.dim)[0]
                if isinstance(value, np.ndarray) and value.ndim == 1
                else as_item(value)
                for value in values
            ]
        )

    def tokens(self, captions: Sequence[str]) -> Tensor:
        """int64 (n, t), ended by and padded with END."""
        rows = []
        for caption in captions:
            words = caption.split()
            unknown = [word for word in words if word not in self.places]
            if unknown:
                raise InvalidInput(
                    f"the captioner of {self.name!r} writes {len(self.places):,} words, and {unknown[0]!r} in "
                    f"{caption!r:.80} is none of them; use its words (lower case, without punctuation)"
                )
            if len(words) >= LONGEST:
                raise InvalidInput(
                    f"the caption {caption!r:.80} has {len(words)} words, at most {LONGEST - 1} fit"
                )
            rows.append([self.places[word] for word in words])
        width = max((len(row) for row in rows), default=0) + 1
        return torch.tensor([row + [END] * (width - len(row)) for row in rows])

    def log_probs(self, net: nn.Module, vectors: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(log-probabilities (n, t), which of them count (n, t))."""
        logits = net(vectors, tokens[:, :-1])
        log_probs = torch.log_softmax(logits.float(), dim=-1).gather(2, tokens[..., None])[..., 0]
        counted = nn.functional.pad(tokens[:, :-1] != END, (1, 0), value=True)  # all words, and the first END
        return log_probs, counted

    def write(
        self, net: nn.Module, vectors: Tensor, *, temperature: float = 0.0, seed: int | None = None
    ) -> list[str]:
        """One caption per vector."""
        backend = self._with(net)
        was_training = net.training
        options = CaptioningOptions(
            temperature=temperature, top_p=1.0 if temperature > 0 else None, seed=seed
        )
        outputs = [out for part in vectors.split(BATCH) for out in backend.caption_vectors(part, options)]
        net.train(was_training)
        return [out.text for out in outputs]

    def replaced(self, net: nn.Module) -> SpaceCaptioningBackend:
        """The backend with a copy of these weights, where and how the given one runs."""
        backend = self._with(copy.deepcopy(net))
        dtype = next(self.backend.net.parameters()).dtype
        backend.net.eval().requires_grad_(False).to(self.backend.device, dtype)
        backend._device = self.backend.device
        return backend

    def save(self, net: nn.Module, folder: str | os.PathLike[str]) -> None:
        """Writes caption.safetensors and caption.json."""
        write_decoder(net.state_dict(), self.backend.words, self.space, folder)

    def _with(self, net: nn.Module) -> SpaceCaptioningBackend:
        backend = copy.copy(self.backend)
        backend.net = net  # type: ignore[assignment]  # a CaptionNet, or a copy of one
        backend._device = torch.device("cpu")
        return backend
