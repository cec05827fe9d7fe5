"""What a pipeline's backend offers so that its decoder can be fine-tuned, and how an adapter is put on it."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from multimodal.core.adapters import merge_into, read_metadata, require_peft
from multimodal.core.encoder import fingerprint_of
from multimodal.core.errors import InvalidInput, SpaceMismatch
from multimodal.core.items import Item

if TYPE_CHECKING:
    import torch
    from torch import nn

    from multimodal.core.pipeline import Pipeline


@runtime_checkable
class TrainableBackend(Protocol):
    """A backend whose decoder can be fine-tuned."""

    name: str

    @property
    def decoder_network(self) -> nn.Module:
        """The network that trains."""
        ...

    def with_network(self, net: Any) -> Any:
        """This backend with another network of the same architecture."""
        ...

    def pair_losses(self, pairs: Sequence[tuple[Item, Item]], seed: int) -> torch.Tensor:
        """The loss of each pair of an input and what it should become.

        Args:
            pairs: (audio, transcript), (image, caption), or (image, prompt) of a generator.
            seed: Of whatever the loss draws at random, such as noise.

        Returns:
            (n,) with gradients.
        """
        ...


def trainable_backend(pipeline: Pipeline) -> TrainableBackend:
    """The backend of a pipeline.

    Raises:
        InvalidInput: If it has no decoder that can be trained.
    """
    backend = vars(pipeline).get("backend")
    if not isinstance(backend, TrainableBackend):
        raise InvalidInput(
            f"the decoder of this {type(pipeline).__name__} cannot be trained: that of Whisper, of captioning models "
            "and of diffusers' Stable Diffusion and Flux can; for a pipeline on a space fine-tune the space"
        )
    return backend


def with_backend(pipeline: Pipeline, backend: Any) -> Pipeline:
    """A copy of a pipeline with another backend. It cannot be pickled, because its weights have no address."""
    other = copy.copy(pipeline)
    vars(other)["backend"] = backend
    other._opened_from = None
    return other


def decoder_fingerprint(net: nn.Module) -> str:
    """sha256 (hex) over the weights of a decoder, as bfloat16."""
    tensors = {
        name: value.bfloat16() if value.is_floating_point() else value
        for name, value in net.state_dict().items()
    }
    return fingerprint_of({}, tensors)


def with_adapters(pipeline: Pipeline, folders: Sequence[str | os.PathLike[str]]) -> Pipeline:
    """A copy of a pipeline with adapters merged into its decoder.

    Args:
        pipeline: The pipeline, which is not changed.
        folders: Where `adapt.finetune` wrote the adapters, or PEFT. Their changes add up.

    Raises:
        UnknownModel: If a folder holds no adapter.
        SpaceMismatch: If an adapter was trained on another decoder.
        InvalidInput: If the pipeline's decoder takes none.
    """
    require_peft("loading an adapter")
    backend = trainable_backend(pipeline)
    original = backend.decoder_network
    own = decoder_fingerprint(original)
    for folder in folders:
        path, metadata = Path(folder).expanduser(), read_metadata(folder)
        net, current = backend.decoder_network, decoder_fingerprint(backend.decoder_network)
        if metadata is not None and metadata.base not in (own, current):
            raise SpaceMismatch(
                f"the adapter in {str(path)!r} was trained on the decoder {metadata.base[:12]} of "
                f"{metadata.base_name!r}, and this one is {current[:12]}: load the model that it was trained on, or "
                "train it again"
            )
        is_of_original = metadata is not None and metadata.base == own != current
        merged = merge_into(original, path, onto=net) if is_of_original else merge_into(net, path)
        backend = backend.with_network(merged)
    return with_backend(pipeline, backend)
