"""The source of a checkpoint: a local folder, or a repository of the hub whose files are downloaded when needed.

Weights are safetensors if there are any, else the pickled `pytorch_model.bin`, which `hub.tensors.load_tensors` reads
without executing code. Other formats of the same weights, which many repositories hold, are not downloaded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.card import Card
from multimodal.core.catalog import close_matches, parse_model_name
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
    """A checkpoint of transformers.

    Attributes:
        name: as given to `load`, for messages.
        folder: a local folder, or None for a repository.
        repo, revision, offline: of a repository, see `api.snapshot`.
        with_code: download its Python files too.
        cards: the known models, for close matches in messages.
    """

    name: str
    folder: Path | None
    repo: str = ""
    revision: str | None = None
    offline: bool = False
    with_code: bool = False
    cards: Sequence[Card] = ()

    def settings(self) -> Path:
        """The folder with config.json and the files of processors and tokenizer.

        Raises:
            UnknownModel: it does not exist or has no config.json.
            DownloadError: a file cannot be downloaded.
        """
        if self.folder is None:
            folder = self._fetch_settings()
        elif self.folder.is_dir():
            folder = self.folder
        else:
            raise UnknownModel(
                f"{self.name!r} names the folder {str(self.folder)!r}, which does not exist; check the path"
            )
        if not (folder / CONFIG).is_file():
            raise UnknownModel(
                f"{self.name!r} has no {CONFIG}, so it is not a checkpoint of transformers; give a folder that "
                "save_pretrained() of transformers wrote, or the id of a model"
            )
        return folder

    def config(self) -> dict[str, Any]:
        """The content of config.json. Raises CheckpointError if it is not that of a model of transformers."""
        path = self.settings() / CONFIG
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CheckpointError(f"{path} is not JSON ({error}); fetch or copy it again") from error
        if isinstance(config, dict) and "format" in config and "encoders" in config:
            raise CheckpointError(
                f"{self.name!r} is a saved space, not a checkpoint of transformers: load it as a folder, without 'hf/'"
            )
        if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
            raise CheckpointError(
                f"{path} has no model_type, so it is not of a model of transformers; a checkpoint of open_clip is "
                "'openclip/…', one of sentence-transformers 'st/…'"
            )
        return config

    def files(self, names: Sequence[str]) -> dict[str, bytes]:
        """The content of those named files that exist, by name."""
        folder = self.settings()
        return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}

    def tensors(self) -> dict[str, Tensor]:
        """The weights by name. Raises CheckpointError if there are none or they are damaged, DownloadError."""
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
                f"{self.name!r} has no weights: neither {WEIGHTS[0][0]} nor {WEIGHTS[1][0]}, whole or in parts; save "
                "them with save_pretrained()"
            )
        return hub.load_tensors(folder / chosen[0])

    def _fetch_settings(self) -> Path:
        patterns = (CONFIG, *PROCESSORS, *TOKENIZERS, *(("*.py",) if self.with_code else ()))
        try:
            return hub.snapshot(self.repo, patterns=patterns, revision=self.revision, offline=self.offline)
        except (UnknownModel, DownloadError) as error:
            names = [card.name for card in self.cards if card.name != self.name]
            hint = close_matches(self.name, names) if isinstance(error, UnknownModel) else ""
            if Path(self.repo).is_dir():
                hint += f"there is a folder of that name: write 'hf/./{self.repo}'. "
            if not hint:
                raise
            raise type(error)(f"{error}; {hint.strip()}") from error


def source_of(
    rest: str, *, revision: str | None, offline: bool, with_code: bool, cards: Sequence[Card]
) -> Source:
    """The source of `load("hf/<rest>")`.

    Args:
        rest: the id of a model, or a folder.
        revision: a branch, tag or commit; by default the one pinned by its card.
        offline: make no network requests.
        with_code: download Python files too.
        cards: the known models.

    Raises:
        UnknownModel: `rest` is empty.
    """
    name = f"hf/{rest}"
    if not rest:
        known = ", ".join(repr(card.name) for card in cards[:3])
        raise UnknownModel(
            f"'hf' needs the id of a model or a folder: {known}, …, 'hf/./folder' (multimodal.cards() lists them)"
        )
    if (folder := parse_model_name(name).folder) is not None:
        return Source(name, folder, with_code=with_code, cards=cards)
    pinned = next((card.revision for card in cards if card.name == name), "")
    return Source(name, None, rest, revision or pinned or None, offline, with_code, cards)


def weight_files(names: Sequence[str]) -> list[str]:
    """The files among `names` that hold the weights, the one to open first; [] without any.

    An index is followed by its parts, in the same folder.
    """
    for whole, parts in WEIGHTS:
        if whole in names:
            return [whole]
        index = f"{whole}.index.json"
        if index in names:
            return [index, *sorted(name for name in names if Path(name).match(parts) and "/" not in name)]
    return []
