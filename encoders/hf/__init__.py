"""`load("hf/openai/clip-vit-base-patch32")`: multimodal dual encoders of transformers, from the Hub or a folder.

Supported is every class that embeds text and at least one of image, audio and video into one space (see `towers` and
`special`): CLIP, SigLIP, SigLIP 2 (also NaFlex), MetaCLIP 2, AltCLIP, Chinese-CLIP, AIMv2, ALIGN, CLAP, PE-AV, X-CLIP
and others. In float32 with exact decoding, vectors equal those of transformers, scaled to unit length.

    hf/owner/name       a repository of the Hub; files are downloaded when needed and kept in the Hub's cache
    hf/./folder         a local folder, also as hf//absolute/folder and hf/~/folder

Each checkpoint uses its own tokenizer, image processor or feature extractor. Scale, bias and activation (softmax or
sigmoid) are in the space's heads. Padding never changes a vector and preprocessing is deterministic; `encoders`
describes what this means for text and for long audio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multimodal.core.backends.runtime import Decode, Engine, Precision, Runtime
from multimodal.core.hub.source import CONFIG, PROCESSORS, TOKENIZERS, source_of
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.encoders.hf.cards import CARDS, SAME_SPACE

if TYPE_CHECKING:
    from torch import nn

    from multimodal.core.encoder import Encoder, EncoderState
    from multimodal.encoders.hf.encoders import HFEncoder
    from multimodal.encoders.hf.towers import Tower

__all__ = ["CARDS", "from_config", "load"]


def load(
    rest: str = "",
    *,
    device: str = "auto",
    precision: Precision = "float32",
    decode: Decode = "exact",
    engine: Engine = "torch",
    offline: bool = False,
    revision: str | None = None,
    space_id: str | None = None,
    trust_remote_code: bool = False,
    text_head: str | None = None,
) -> Space:
    """Loads a checkpoint as a space with one encoder per modality that its class supports.

    Args:
        rest: The id of a repository of the Hub, or a folder.
        device: "auto", "cpu", "cuda", … See `core.backends.runtime.Runtime`, also for the next three.
        precision: "float32", "bfloat16" or "auto".
        decode: "exact", or "fast" for reduced-size JPEG decoding.
        engine: "torch" or "openvino".
        offline: Use only files that are in the cache.
        revision: A branch, tag or commit; by default the revision of the card, or the newest.
        space_id: The space this one can be joined with; by default that of the id, none for a folder.
        trust_remote_code: Run code from the repository. Use it only after reading that code.
        text_head: PE-AV only: the modality that text is compared with, "audio", "video" or "audio_video" (upstream's
            default).

    Returns:
        A space with heads for the scales that the model was trained with.

    Raises:
        UnknownModel: If the name or folder does not exist; close matches are named.
        CheckpointError: If the checkpoint is damaged, incomplete or not a multimodal dual encoder.
        DownloadError: If a file cannot be downloaded.
        MissingExtra: If transformers or another required package is not installed.
        InvalidInput: If an option does not apply to this model.
    """
    from multimodal.encoders.hf.checkpoint import read, require_transformers
    from multimodal.encoders.hf.settings import files_of, settings_of
    from multimodal.encoders.hf.towers import heads

    runtime = Runtime(device, precision, decode, engine)
    require_transformers()
    source = source_of(rest, revision=revision, offline=offline, with_code=trust_remote_code, cards=CARDS)
    model, towers = read(source, text_head)
    encoders: list[Encoder] = []
    shared: dict[str, Any] = {} if text_head is None else {"text_head": text_head}
    for (
        modality,
        tower,
    ) in towers.items():  # text comes first: its settings hold "dim", which all modalities share
        files = files_of(modality, tower, source.files((CONFIG, *PROCESSORS, *TOKENIZERS)))
        settings = shared | settings_of(modality, model, tower, files)
        shared["dim"] = settings["dim"]
        encoders.append(_encoder(modality, model, tower, settings, files, runtime))
    if source.folder is None and space_id is None:
        space_id = SAME_SPACE.get(source.name, source.name)
    for encoder in encoders:
        encoder.space_id = space_id
    card = next((card for card in CARDS if card.name == source.name), None)
    return Space(encoders, heads(model), name=source.name, card=card)


def from_config(saved: EncoderState, runtime: Runtime) -> Encoder:
    """Rebuilds an encoder from its saved configuration, tensors and files."""
    from multimodal.encoders.hf.checkpoint import class_named, rebuild, require_transformers
    from multimodal.encoders.hf.special import towers

    require_transformers()
    settings = dict(saved.config)
    class_name = settings.pop("class")
    tower = towers(class_named(class_name), settings.get("text_head"))[saved.modality]
    model = rebuild(class_name, saved.files[CONFIG], tower, saved.tensors)
    return _encoder(saved.modality, model, tower, settings, saved.files, runtime)


def _encoder(modality: Modality, model: nn.Module, tower: Tower, *arguments: Any) -> HFEncoder:
    from multimodal.encoders.hf.encoders import ENCODERS, HFJoint

    if tower.joint and modality is not Modality.TEXT:
        return HFJoint(modality, model, tower, *arguments)
    return ENCODERS[modality](model, tower, *arguments)
