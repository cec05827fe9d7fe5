"""Where a checkpoint is: a folder of one's own, or a repository of the hub whose files are fetched when needed.

Weights are safetensors where there are any, else the pickled `pytorch_model.bin`, which `core.hub.load_tensors` reads
without running anything in it. Other formats of the same weights, as lie in many repositories, are never fetched.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.card import Card
from multimodal.core.catalog import FOLDER_PREFIXES, close_matches
from multimodal.core.errors import CheckpointError, DownloadError, UnknownModel
from multimodal.core.hub import api as hub

if TYPE_CHECKING:
    from torch import Tensor

CONFIG = "config.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
VOCABULARIES = (
    "tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model",
)  # fmt: skip
TOKENIZERS = (
    *VOCABULARIES, "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
WEIGHTS = (("model.safetensors", "model-*.safetensors"), ("pytorch_model.bin", "pytorch_model-*.bin"))


@dataclass(frozen=True)
class Source:
    """name: as it was given to `load`, for messages. folder: one's own, or None for a repository of the hub."""

    name: str
    folder: Path | None
    repo: str = ""
    revision: str | None = None
    offline: bool = False
    with_code: bool = False
    cards: Sequence[Card] = ()

    def settings(self) -> Path:
        """A folder with config.json and what the processors and the tokenizer are made of.

        Raises UnknownModel if it does not exist or has no config.json, DownloadError.
        """
        if self.folder is None:
            found = self._fetched()
        elif self.folder.is_dir():
            found = self.folder
        else:
            raise UnknownModel(f"{self.name!r} names the folder {str(self.folder)!r}, and there is none")
        if not (found / CONFIG).is_file():
            raise UnknownModel(
                f"{self.name!r} has no {CONFIG}, so it is no checkpoint of transformers; give a folder that "
                "save_pretrained() of transformers wrote, or the id of a model"
            )
        return found

    def config(self) -> dict[str, Any]:
        """What config.json says. Raises CheckpointError if it describes no model of transformers."""
        path = self.settings() / CONFIG
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CheckpointError(f"{path} is not JSON ({error}); fetch or copy it again") from error
        if isinstance(found, dict) and "format" in found and "encoders" in found:
            raise CheckpointError(
                f"{self.name!r} is a saved space, not a checkpoint of transformers: load it as a folder, without 'hf/'"
            )
        if not isinstance(found, dict) or not isinstance(found.get("model_type"), str):
            raise CheckpointError(
                f"{path} says no model_type, so it describes no model of transformers; a checkpoint of open_clip is "
                "'openclip/…', one of sentence-transformers 'st/…'"
            )
        return found

    def files(self, names: Sequence[str]) -> dict[str, bytes]:
        """Those of the named files that are there, by name."""
        folder = self.settings()
        return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}

    def tensors(self) -> dict[str, Tensor]:
        """The weights. Raises CheckpointError if there are none, or they are damaged."""
        folder = self.settings()
        if self.folder is not None:
            chosen = weight_files([path.name for path in folder.iterdir()])
        else:
            at: dict[str, Any] = {"revision": folder.name, "offline": self.offline}
            chosen = weight_files(hub.listing(self.repo, **at))
            if chosen:
                hub.snapshot(self.repo, patterns=chosen, **at)
        if not chosen:
            raise CheckpointError(
                f"{self.name!r} has no weights that can be read: neither {WEIGHTS[0][0]} nor {WEIGHTS[1][0]}, whole or "
                "in parts"
            )
        return hub.load_tensors(folder / chosen[0])

    def _fetched(self) -> Path:
        patterns = (CONFIG, *PROCESSORS, *TOKENIZERS, *(("*.py",) if self.with_code else ()))
        try:
            return hub.snapshot(self.repo, patterns=patterns, revision=self.revision, offline=self.offline)
        except (UnknownModel, DownloadError) as error:
            hint = close_matches(self.name, [card.name for card in self.cards if card.name != self.name])
            if Path(self.repo).is_dir():
                hint += f"a folder of that name is here: write 'hf/./{self.repo}'. "
            if not hint:
                raise
            raise type(error)(f"{error}; {hint.strip()}") from error


def source_of(
    rest: str, *, revision: str | None, offline: bool, with_code: bool, cards: Sequence[Card]
) -> Source:
    """The source that `load("hf/<rest>")` means; `cards` say which revision of it is pinned. Raises
    UnknownModel if it is no name and no folder."""
    name = f"hf/{rest}"
    if not rest:
        known = ", ".join(repr(card.name) for card in cards[:3])
        raise UnknownModel(
            f"'hf' needs the id of a model or a folder: {known}, …, 'hf/./folder' (multimodal.cards() lists them)"
        )
    if rest.startswith(FOLDER_PREFIXES) or rest in (".", ".."):
        return Source(name, Path(rest).expanduser(), with_code=with_code, cards=cards)
    pinned = next((card.revision for card in cards if card.name == name), "")
    return Source(name, None, rest, revision or pinned or None, offline, with_code, cards)


def weight_files(names: Sequence[str]) -> list[str]:
    """Of a folder's files, those that hold the weights, the one to open first; [] if there are none.

    An index names the parts it is kept in; only parts beside it are taken.
    """
    for whole, parts in WEIGHTS:
        if whole in names:
            return [whole]
        index = f"{whole}.index.json"
        if index in names:
            return [index, *sorted(name for name in names if Path(name).match(parts) and "/" not in name)]
    return []
