"""From texts to tokens: open_clip's own tokenizers, made of files that are at hand.

CLIP's byte-pair vocabulary ships with open_clip. Every other tokenizer is one of transformers', whose files lie in the
checkpoint's folder, or in the repository its configuration names. A text that is too long is cut at the context and
keeps its end token, as upstream does it.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import CheckpointError, MissingExtra
from multimodal.core.hub import api as hub
from multimodal.encoders.openclip.checkpoint import EXTRA, Checkpoint

if TYPE_CHECKING:
    from torch import Tensor

FILES = (
    *(
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "config.json",
    ),
    *("vocab.json", "vocab.txt", "merges.txt", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model"),
)
CONTEXT = 77  # of a configuration that does not say
OF_TEXT = ("hf_tokenizer_name", "tokenizer_kwargs", "tokenizer_mode", "hf_model_name", "hf_model_pretrained")


def describe(checkpoint: Checkpoint) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What a text encoder keeps: its configuration, and the files of its tokenizer.

    Raises DownloadError or CheckpointError if a file that the checkpoint names is not to be had, MissingExtra.
    """
    text = checkpoint.model["text_cfg"]
    tokenizer = {
        "context_length": text.get("context_length", CONTEXT),
        "mode": text.get("tokenizer_mode"),
        # What training drops at random from a long text would make its vector another one each time
        "options": {k: v for k, v in (text.get("tokenizer_kwargs") or {}).items() if k != "reduction_mask"},
        "from_files": bool(text.get("hf_tokenizer_name")),
    }
    config: dict[str, Any] = {
        "tower": {key: value for key, value in text.items() if key not in OF_TEXT},
        "tokenizer": tokenizer,
    }
    if text.get("hf_model_name"):
        config["transformer"] = _transformer(checkpoint, text["hf_model_name"])
    files = _files(checkpoint, text["hf_tokenizer_name"]) if tokenizer["from_files"] else {}
    return config, files


def _files(checkpoint: Checkpoint, name: str) -> dict[str, bytes]:
    _need_transformers(f"the tokenizer of {checkpoint.title}")
    folder = checkpoint.folder or _as_folder(name)
    if folder is None:
        folder = hub.snapshot(name, patterns=FILES, offline=checkpoint.offline, extra=EXTRA)
    found = {name: (folder / name).read_bytes() for name in FILES if (folder / name).is_file()}
    if not set(found) - {"config.json"}:
        raise CheckpointError(
            f"{checkpoint.title} needs the tokenizer of {name!r}, and {folder} has none of its files; copy them there "
            f"(tokenizer.json, or any of {', '.join(FILES[5:])})"
        )
    return found


def _transformer(checkpoint: Checkpoint, name: str) -> dict[str, Any]:
    """The config.json of a text tower that is one of transformers'."""
    _need_transformers(f"the text tower of {checkpoint.title}")
    folder = _as_folder(name, checkpoint.folder)
    if folder is None:
        path = hub.file(name, "config.json", offline=checkpoint.offline, extra=EXTRA)
    else:
        path = folder / "config.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"the text tower of {checkpoint.title} is {name!r}, whose configuration {path} cannot be read: {error}"
        ) from error


def _as_folder(name: str, beside: Path | None = None) -> Path | None:
    """The folder that a configuration names instead of a repository, if it does: from the root, or from its own."""
    path = Path(name) if beside is None else beside.absolute() / name
    return path if path.is_absolute() and path.is_dir() else None


def _need_transformers(what: str) -> None:
    if importlib.util.find_spec("transformers") is None:
        raise MissingExtra(what, package="transformers", extra="hf")


class Tokenizer:
    """Texts -> (n, context_length) int64. config: what `describe` calls "tokenizer"."""

    def __init__(self, config: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

        context, options = config["context_length"], config["options"]
        if not config["from_files"]:
            self.apply = SimpleTokenizer(context_length=context, **options)
            return
        _need_transformers("this tokenizer")
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                (Path(folder) / name).write_bytes(content)
            self.apply = HFTokenizer(
                folder,
                context_length=context,
                tokenizer_mode=config["mode"],
                local_files_only=True,
                **options,
            )
        # The first call sets truncation and padding in the tokenizer; the same again only reads, so threads may
        self.apply(["a"])

    def __call__(self, texts: Sequence[str]) -> Tensor:
        tokens: Tensor = self.apply(list(texts))
        return tokens
