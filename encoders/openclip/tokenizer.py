"""open_clip's tokenizers, built from local files.

CLIP's byte-pair vocabulary ships with open_clip. Other tokenizers are those of transformers, with files in the
checkpoint's folder or in the repository that its configuration names. Longer texts are truncated to the context
length and keep their end token, as upstream does.
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
from multimodal.encoders.openclip.checkpoint import EXTRA, OpenClipCheckpoint

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
CONTEXT = 77  # default context length
TEXT_KEYS = (
    "hf_tokenizer_name",
    "tokenizer_kwargs",
    "tokenizer_mode",
    "hf_model_name",
    "hf_model_pretrained",
)


def text_settings(checkpoint: OpenClipCheckpoint) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The configuration of a text encoder as JSON values, and the files of its tokenizer.

    Raises:
        DownloadError: If a file cannot be downloaded.
        CheckpointError: If a file that the checkpoint names is missing or unreadable.
        MissingExtra: If transformers is needed and not installed.
    """
    text = checkpoint.model["text_cfg"]
    tokenizer = {
        "context_length": text.get("context_length", CONTEXT),
        "mode": text.get("tokenizer_mode"),
        # Without the random token reduction of training, which would change vectors between calls
        "options": {k: v for k, v in (text.get("tokenizer_kwargs") or {}).items() if k != "reduction_mask"},
        "from_files": bool(text.get("hf_tokenizer_name")),
    }
    config: dict[str, Any] = {
        "tower": {key: value for key, value in text.items() if key not in TEXT_KEYS},
        "tokenizer": tokenizer,
    }
    if text.get("hf_model_name"):
        config["transformer"] = _transformer(checkpoint, text["hf_model_name"])
    files = _files(checkpoint, text["hf_tokenizer_name"]) if tokenizer["from_files"] else {}
    return config, files


def _files(checkpoint: OpenClipCheckpoint, name: str) -> dict[str, bytes]:
    _require_transformers(f"the tokenizer of {checkpoint.title}")
    folder = checkpoint.folder or _as_folder(name)
    if folder is None:
        folder = hub.snapshot(name, patterns=FILES, offline=checkpoint.offline, extra=EXTRA)
    files = {name: (folder / name).read_bytes() for name in FILES if (folder / name).is_file()}
    if not set(files) - {"config.json"}:
        raise CheckpointError(
            f"{checkpoint.title} needs the tokenizer of {name!r}, and {folder} has none of its files; copy them there "
            f"(tokenizer.json, or any of {', '.join(FILES[5:])})"
        )
    return files


def _transformer(checkpoint: OpenClipCheckpoint, name: str) -> dict[str, Any]:
    """The config.json of a text tower of transformers."""
    _require_transformers(f"the text tower of {checkpoint.title}")
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
    """The folder that a configuration names in place of a repository: absolute, or relative to the checkpoint."""
    path = Path(name) if beside is None else beside.absolute() / name
    return path if path.is_absolute() and path.is_dir() else None


def _require_transformers(feature: str) -> None:
    if importlib.util.find_spec("transformers") is None:
        raise MissingExtra(feature, package="transformers", extra="hf")


class Tokenizer:
    """Texts -> tokens (n, context_length) int64. `config` is the "tokenizer" entry of `text_settings`."""

    def __init__(self, config: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

        context, options = config["context_length"], config["options"]
        if not config["from_files"]:
            self.apply = SimpleTokenizer(context_length=context, **options)
            return
        _require_transformers("this tokenizer")
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
        # The first call sets truncation and padding in the tokenizer; later calls change no state, so are thread-safe
        self.apply(["a"])

    def __call__(self, texts: Sequence[str]) -> Tensor:
        tokens: Tensor = self.apply(list(texts))
        return tokens
