"""`load("hf/openai/clip-vit-base-patch32")`: dual and many-tower encoders of transformers, from the hub or a folder.

Which models: whatever class offers vectors of texts and of pictures, sounds or videos in one space (`_hf_towers`,
`_hf_special`): CLIP, SigLIP, SigLIP 2 (NaFlex too), MetaCLIP 2, AltCLIP, Chinese-CLIP, AIMv2, ALIGN, CLAP, PE-AV,
X-CLIP and their like. In float32 with exact decoding their vectors are upstream's own, scaled to length one.

    hf/owner/name       a model of the hub, its files fetched when they are needed and kept in the hub's cache
    hf/./folder         a folder, also as hf//absolute/folder and hf/~/folder

Every checkpoint brings its own tokenizer, image processor or feature extractor. Scale, bias and whether it was
trained with a softmax or a sigmoid stand in the space's head. Nothing is padded with what would change a vector, and
nothing random happens: see `_hf_encoders` for what that means for texts and for long sounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multimodal.core.backends.runtime import Decode, Engine, Precision, Runtime
from multimodal.core.encoder import Encoder, Saved
from multimodal.core.hub.source import CONFIG, PROCESSORS, TOKENIZERS, source_of
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.encoders.hf.cards import CARDS, SAME_SPACE
from multimodal.encoders.hf.checkpoint import class_named, read, rebuild, require_transformers
from multimodal.encoders.hf.encoders import HFAudio, HFEncoder, HFImage, HFJoint, HFText, HFVideo
from multimodal.encoders.hf.settings import files_of, settings_of
from multimodal.encoders.hf.special import towers
from multimodal.encoders.hf.towers import Tower, heads

if TYPE_CHECKING:
    from torch import nn

ENCODERS: dict[Modality, type[HFEncoder]] = {
    Modality.TEXT: HFText, Modality.IMAGE: HFImage, Modality.AUDIO: HFAudio, Modality.VIDEO: HFVideo,
}  # fmt: skip
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
    trained_into: str | None = None,
    trust_remote_code: bool = False,
    text_head: str | None = None,
) -> Space:
    """The space of a checkpoint, with an encoder for each modality its class offers.

    rest: the id of a model of the hub, or a folder. device, precision, decode, engine: see
    `core.runtime.Runtime`.
    offline: nothing is fetched. revision: a branch, tag or commit of the hub instead of the card's or the newest.
    trained_into: the space this one can be joined with; by default that of the id, and for a folder none.
    trust_remote_code: run code that the repository brings; only for one whose code you have read.
    text_head: of PE-AV, what texts will be compared with: "audio", "video" or "audio_video" (upstream's default).
    Raises UnknownModel with close matches, CheckpointError for what cannot be used or does not fit, DownloadError,
    MissingExtra, InvalidInput.
    """
    runtime = Runtime(device, precision, decode, engine)
    require_transformers()
    source = source_of(rest, revision=revision, offline=offline, with_code=trust_remote_code, cards=CARDS)
    model, found = read(source, text_head)
    encoders: list[Encoder] = []
    shared: dict[str, Any] = {} if text_head is None else {"text_head": text_head}
    for modality, tower in found.items():  # texts first: they show how long vectors are
        files = files_of(modality, tower, source.files((CONFIG, *PROCESSORS, *TOKENIZERS)))
        settings = shared | settings_of(modality, model, tower, files)
        shared["dim"] = settings["dim"]
        encoders.append(_encoder(modality, model, tower, settings, files, runtime))
    if source.folder is None and trained_into is None:
        trained_into = SAME_SPACE.get(source.name, source.name)
    for encoder in encoders:
        encoder.trained_into = trained_into
    card = next((card for card in CARDS if card.name == source.name), None)
    return Space(encoders, heads(model), name=source.name, card=card)


def from_config(saved: Saved, runtime: Runtime) -> Encoder:
    """Rebuild an encoder from what it saved."""
    require_transformers()
    settings = dict(saved.config)
    class_name = settings.pop("class")
    tower = towers(class_named(class_name), settings.get("text_head"))[saved.modality]
    model = rebuild(class_name, saved.files[CONFIG], tower, saved.tensors)
    return _encoder(saved.modality, model, tower, settings, saved.files, runtime)


def _encoder(modality: Modality, model: nn.Module, tower: Tower, *rest: Any) -> HFEncoder:
    if tower.joint and modality is not Modality.TEXT:
        return HFJoint(modality, model, tower, *rest)
    return ENCODERS[modality](model, tower, *rest)
