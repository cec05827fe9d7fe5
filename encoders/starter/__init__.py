"""`load("starter")`: the bundled model for English phrases, emoji-like images and speech (256 dimensions).

Trained from scratch on synthetic data by `recipes/starter`. Capabilities, limits and measured figures are in
`assets/starter/README.md`. Weights are stored in float16 and run in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from multimodal.core.backends.runtime import Decode, Precision
from multimodal.core.card import Card
from multimodal.core.errors import UnknownModel
from multimodal.core.modality import Modality
from multimodal.core.paths import assets
from multimodal.core.space import Space

if TYPE_CHECKING:
    from multimodal.core.backends.runtime import Runtime
    from multimodal.core.encoder import Encoder, EncoderState

__all__ = ["CARDS", "from_config", "load"]

CARDS = (
    Card(
        name="starter",
        modalities=(Modality.TEXT, Modality.IMAGE, Modality.AUDIO),
        dim=256,
        licence="Apache-2.0",
        source="ships inside; recipes/starter",
        size_mb=11.9,
        description="English phrases, emoji-like images and speech; 5.9 M parameters, for trying things offline",
        teacher="sentence-transformers/all-MiniLM-L6-v2",
    ),
)


def load(
    rest: str = "", *, device: str = "auto", precision: Precision = "float32", decode: Decode = "exact"
) -> Space:
    """Loads the starter space: text, image and audio.

    Args:
        rest: Must be empty; there is only one starter.
        device: "auto", "cpu", "cuda", … See `core.backends.runtime.Runtime`, also for the next two.
        precision: "float32", "bfloat16" or "auto".
        decode: "exact", or "fast" for reduced-size JPEG decoding.

    Returns:
        A space of 256 dimensions.

    Raises:
        UnknownModel: If `rest` is not empty.
    """
    if rest:
        raise UnknownModel(f"got 'starter/{rest}', but there is only one starter: use load('starter')")
    space = Space.from_pretrained(assets() / "starter", device=device, precision=precision, decode=decode)
    space.address = "starter"  # the same on every machine, unlike the folder
    return space


def from_config(saved: EncoderState, runtime: Runtime) -> Encoder:
    """Rebuilds an encoder from its saved configuration and tensors."""
    from multimodal.encoders.starter.encoders import StarterAudio, StarterImage, StarterText

    if saved.modality == Modality.TEXT:
        return StarterText(saved.config["vocabulary"], saved.tensors, runtime)
    encoder_class = StarterImage if saved.modality == Modality.IMAGE else StarterAudio
    return encoder_class(saved.tensors, runtime)
