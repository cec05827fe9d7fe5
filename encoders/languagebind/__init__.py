"""`load("languagebind/audio-ft")`: LanguageBind's audio encoder, in the space of a CLIP model.

Zhu et al. 2023 (arXiv 2310.01852) trained it to match the frozen text tower of open_clip's ViT-L-14 on DataComp-XL,
so it can be joined with that model: `load("openclip/ViT-L-14:datacomp_xl_s13b_b90k") | load("languagebind/audio-ft")`,
also available as `load("clip-audio-l14")`. This is a reimplementation that uses upstream's weights and none of its
code. A folder with another checkpoint is `load("languagebind/./folder")` or `load("languagebind//absolute/folder")`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from multimodal.core.backends.runtime import Decode, Precision, Runtime
from multimodal.core.card import Card
from multimodal.core.catalog import FOLDER_PREFIXES, close_matches
from multimodal.core.errors import UnknownModel
from multimodal.core.modality import Modality
from multimodal.core.space import LogitScale, Pair, Space

if TYPE_CHECKING:
    from multimodal.core.encoder import Encoder, EncoderState

__all__ = ["CARDS", "from_config", "load"]

HOME = "openclip/ViT-L-14:datacomp_xl_s13b_b90k"
CARDS = (
    Card(
        name="languagebind/audio-ft",
        modalities=(Modality.AUDIO,),
        dim=768,
        licence="MIT",
        source="LanguageBind/LanguageBind_Audio_FT",
        size_mb=1_712,
        description="audio, in the space of openclip's ViT-L-14 on DataComp-XL; fully fine-tuned. Its training data, "
        "VIDAL-10M, is CC-BY-NC-4.0",
        figure="ESC-50 94.0",
        revision="4820c496563c46acfb1ff9a486fae5319f16257e",
    ),
    Card(
        name="languagebind/audio",
        modalities=(Modality.AUDIO,),
        dim=768,
        licence="MIT",
        source="LanguageBind/LanguageBind_Audio",
        size_mb=1_725,
        description="audio, in the space of openclip's ViT-L-14 on DataComp-XL; tuned with LoRA. Its training data, "
        "VIDAL-10M, is CC-BY-NC-4.0",
        revision="7aea390d580191c618631b28f4fe4ec74649cbfe",
    ),
)


def load(
    rest: str = "",
    *,
    device: str = "auto",
    precision: Precision = "float32",
    decode: Decode = "exact",
    space_id: str | None = None,
    revision: str | None = None,
    offline: bool = False,
) -> Space:
    """Loads a space of one modality, audio.

    Args:
        rest: The name of a card ("audio-ft"), or a folder with upstream's config.json and weights.
        device: "auto", "cpu", "cuda", … See `core.backends.runtime.Runtime`, also for the next.
        precision: "float32", "bfloat16" or "auto".
        decode: Accepted for uniformity; it applies to images only.
        space_id: The space this one can be joined with; by default that of the card, none for a folder.
        revision: A branch, tag or commit; by default the revision of the card.
        offline: Use only files that are in the cache.

    Raises:
        UnknownModel: If the name or folder does not exist; close matches are named.
        CheckpointError: If the checkpoint is damaged, incomplete or of another model.
        DownloadError: If a file cannot be downloaded.
        MissingExtra: If a required package is not installed.
    """
    from multimodal.encoders.languagebind.checkpoint import read
    from multimodal.encoders.languagebind.encoders import LanguageBindAudio

    runtime = Runtime(device, precision, decode)
    name = f"languagebind/{rest}"
    if rest.startswith(FOLDER_PREFIXES) or rest in (".", ".."):
        folder, card = Path(rest).expanduser(), None
        if not folder.is_dir():
            raise UnknownModel(f"{name!r} names the folder {rest!r}, which does not exist")
    else:
        card = _card(name)
        folder = _download(card, revision, offline)
        space_id = space_id or HOME
    checkpoint = read(folder)
    encoder = LanguageBindAudio(checkpoint.sizes, checkpoint.mel_settings, checkpoint.tensors, runtime)
    encoder.space_id = space_id
    # The scale was trained for this pair only; with images, joined spaces use the head of their own model
    heads: dict[Pair | None, LogitScale] = {}
    if checkpoint.scale is not None:
        heads[Modality.AUDIO, Modality.TEXT] = LogitScale(checkpoint.scale)
    return Space([encoder], heads, name=name, card=card)


def from_config(saved: EncoderState, runtime: Runtime) -> Encoder:
    """Rebuilds the encoder from its saved configuration and tensors. Raises CheckpointError if they do not fit."""
    from multimodal.encoders.languagebind.checkpoint import TowerConfig, check_fit
    from multimodal.encoders.languagebind.encoders import LanguageBindAudio
    from multimodal.encoders.languagebind.preprocessing import MelSettings

    sizes = TowerConfig.from_dict(saved.config["tower"])
    check_fit(saved.tensors, sizes, "the saved space")
    return LanguageBindAudio(sizes, MelSettings.from_dict(saved.config["sound"]), saved.tensors, runtime)


def _card(name: str) -> Card:
    for card in CARDS:
        if card.name == name:
            return card
    names = [card.name for card in CARDS]
    raise UnknownModel(
        f"there is no model {name!r}; {close_matches(name, names)}available are {', '.join(names)}, and folders as "
        "'languagebind/./folder'"
    )


def _download(card: Card, revision: str | None, offline: bool) -> Path:
    from multimodal.core.hub import api as hub
    from multimodal.encoders.languagebind.checkpoint import CONFIG, PICKLE, SAFETENSORS

    revision = revision or card.revision
    names = hub.listing(card.source, revision=revision, offline=offline)
    weights = SAFETENSORS if SAFETENSORS in names else PICKLE
    return hub.snapshot(card.source, patterns=[CONFIG, weights], revision=revision, offline=offline)
