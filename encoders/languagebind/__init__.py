"""`load("languagebind/audio-ft")`: sound in the space of a CLIP, by LanguageBind's audio tower.

Zhu et al. 2023 (arXiv 2310.01852) trained it toward the frozen text tower of open_clip's ViT-L-14 on DataComp-XL, so
it can be joined with that model: `load("openclip/ViT-L-14:datacomp_xl_s13b_b90k") | load("languagebind/audio-ft")`, or
in one word `load("clip-audio-l14")`. This is a port: it takes upstream's weights and none of its code. A folder with
a checkpoint of one's own is `load("languagebind/./folder")` or `load("languagebind//absolute/folder")`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.backends.runtime import Decode, Precision, Runtime
from multimodal.core.card import Card
from multimodal.core.catalog import FOLDER_PREFIXES, close_matches
from multimodal.core.encoder import Encoder, EncoderState
from multimodal.core.errors import UnknownModel
from multimodal.core.items import Audio, Item
from multimodal.core.modality import Modality
from multimodal.core.space import LogitScale, Pair, Space
from multimodal.encoders.languagebind.checkpoint import CONFIG, PICKLE, SAFE, Sizes, check_fit, read
from multimodal.encoders.languagebind.preprocessing import Sound, pictures

if TYPE_CHECKING:
    import torch
    from torch import Tensor

HOME = "openclip/ViT-L-14:datacomp_xl_s13b_b90k"
EXACT = Runtime()
WINDOWS_AT_ONCE = 16  # a long recording has hundreds; the tower's memory should not grow with them
CARDS = (
    Card(
        name="languagebind/audio-ft",
        modalities=(Modality.AUDIO,),
        dim=768,
        licence="MIT",
        source="LanguageBind/LanguageBind_Audio_FT",
        size_mb=1_712,
        description="sounds, in the space of openclip's ViT-L-14 on DataComp-XL; fully fine-tuned. Its training data, "
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
        description="sounds, in the space of openclip's ViT-L-14 on DataComp-XL; tuned with LoRA. Its training data, "
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
    """A space of one modality, audio.

    rest: the name of a card ("audio-ft"), or a folder that holds upstream's config.json and weights.
    device, precision: see `core.runtime.Runtime`; decode is about pictures and changes nothing here.
    space_id: the space it may be joined with; by default what is known of a named model, and none for a folder.
    revision: a commit of the source instead of the card's. offline: only what is in the cache already.
    Raises UnknownModel with close matches, CheckpointError, DownloadError, MissingExtra.
    """
    runtime = Runtime(device, precision, decode)
    name = f"languagebind/{rest}"
    if rest.startswith(FOLDER_PREFIXES) or rest in (".", ".."):
        folder, card = Path(rest).expanduser(), None
        if not folder.is_dir():
            raise UnknownModel(f"{name!r} names the folder {rest!r}, and there is none")
    else:
        card = _card(name)
        folder = _fetched(card, revision, offline)
        space_id = space_id or HOME
    found = read(folder)
    encoder = LanguageBindAudio(found.sizes, found.sound, found.tensors, runtime)
    encoder.space_id = space_id
    # For this pair only: joined with pictures, these keep the head of their own model.
    heads: dict[Pair | None, LogitScale] = {}
    if found.scale is not None:
        heads[Modality.AUDIO, Modality.TEXT] = LogitScale(found.scale)
    return Space([encoder], heads, name=name, card=card)


def from_config(saved: EncoderState, runtime: Runtime) -> Encoder:
    """Rebuild the encoder from what it saved."""
    sizes, sound = Sizes.from_dict(saved.config["tower"]), Sound.from_dict(saved.config["sound"])
    check_fit(saved.tensors, sizes, "the saved space")
    return LanguageBindAudio(sizes, sound, saved.tensors, runtime)


def _card(name: str) -> Card:
    for card in CARDS:
        if card.name == name:
            return card
    known = [card.name for card in CARDS]
    raise UnknownModel(
        f"no model is called {name!r}; {close_matches(name, known)}known are {', '.join(known)}, and folders as "
        "'languagebind/./folder'"
    )


def _fetched(card: Card, revision: str | None, offline: bool) -> Path:
    from multimodal.core.hub import api as hub

    revision = revision or card.revision
    names = hub.listing(card.source, revision=revision, offline=offline)
    weights = SAFE if SAFE in names else PICKLE
    return hub.snapshot(card.source, patterns=[CONFIG, weights], revision=revision, offline=offline)


class LanguageBindAudio(Encoder):
    """Log-mels in windows of about 10 s -> a CLIP vision transformer -> vectors.

    The vector of a clip is the mean of the unit vectors of its windows (`_languagebind_sound.windows`), so every part
    of a long recording counts alike and two calls give the same.
    """

    modality = Modality.AUDIO

    def __init__(
        self, sizes: Sizes, sound: Sound, tensors: Mapping[str, Tensor], runtime: Runtime = EXACT
    ) -> None:
        import torch

        from multimodal.encoders.languagebind.networks import AudioTower

        self.sizes, self.sound, self.dim = sizes, sound, sizes.dim
        with torch.device("meta"):  # so that nothing is drawn at random only to be replaced
            net = AudioTower(sizes)
        # Copied: tensors that lie in a mapped file may be badly aligned, which changes the last bits of a product
        net.load_state_dict(
            {name: one.to(torch.float32, copy=True) for name, one in tensors.items()}, assign=True
        )
        self.runtime, self.device, self.dtype = runtime, runtime.torch_device, runtime.cast
        self.net = net.eval().requires_grad_(False).to(self.device, self.dtype)
        self.max_input = sound.seconds

    def config(self) -> dict[str, Any]:
        return {
            "tower": self.sizes.to_dict(),
            "sound": self.sound.to_dict(),
            "windows": "equal, covering; short clips tiled; mean of unit vectors",
        }

    def state_dict(self) -> Mapping[str, Tensor]:
        return self.net.state_dict()

    def prepare(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        """mels (windows, mels, frames) float32, owners (windows,) int64: the item each window is of."""
        import torch

        cut = []
        for owner, item in enumerate(items):
            if isinstance(item, Audio):
                waveform = item.load(rate_hz=self.sound.rate_hz)
                cut += [(owner, one) for one in pictures(waveform.samples, self.sound)]
        return {
            "mels": torch.stack([one for _, one in cut]),
            "owners": torch.tensor([owner for owner, _ in cut]),
        }

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        import torch

        parts = []
        for mels in batch["mels"].split(WINDOWS_AT_ONCE):
            grey = mels.to(self.device, self.dtype)[:, None].expand(-1, 3, -1, -1)
            parts.append(torch.nn.functional.normalize(self.net(grey).float(), dim=1).cpu())
        owners = batch["owners"]
        rows = torch.zeros(int(owners.max()) + 1, self.dim)  # on the CPU, where sums have one order
        return rows.index_add_(0, owners, torch.cat(parts))
