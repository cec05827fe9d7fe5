"""The folder of an exported space: export.json, and one model with its files for each tower."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from multimodal.core.backends.runtime import Runtime
from multimodal.core.card import Card
from multimodal.core.errors import CheckpointError, InvalidInput, UnknownModel
from multimodal.core.logit_scale import LogitScale
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.encoders.onnx.encoders import build

MANIFEST = "export.json"
FORMAT = 1


def open_folder(name: str, device: str, threads: int | None) -> Space:
    """See `load` of the family."""
    if device not in ("cpu", "auto"):
        raise InvalidInput(f"the 'onnx' family runs on the CPU, got device={device!r}; write 'cpu'")
    folder = Path(name).expanduser()
    manifest = read_manifest(folder)
    try:
        encoders = []
        for tower in manifest["towers"]:
            files = {file: (folder / file).read_bytes() for file in tower["files"]}
            encoders.append(build(tower, files, runtime=Runtime("cpu"), threads=threads))
        scales = {
            None if entry["pair"] is None else (Modality(entry["pair"][0]), Modality(entry["pair"][1])): (
                LogitScale(**entry["logit_scale"])
            )
            for entry in manifest["logit_scales"]
        }
        card = None if manifest["card"] is None else Card.from_dict(manifest["card"])
    except OSError as error:
        raise CheckpointError(
            f"{folder} lacks {error.filename or 'a file'} that its {MANIFEST} names; export the space again"
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder / MANIFEST} is not as multimodal.export writes it: {error!r}; export the space again"
        ) from error
    if card is not None:
        card = dataclasses.replace(card, name=f"onnx/{name}")
    return Space(encoders, scales, name=manifest["name"], card=card)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The content of export.json. Raises UnknownModel, CheckpointError."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        reason = "the folder does not exist" if not folder.is_dir() else f"it has no {MANIFEST}"
        raise UnknownModel(
            f"no exported space in {str(folder)!r}: {reason}; multimodal.export(space, folder) writes one"
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder / MANIFEST} cannot be read ({error}); export the space again"
        ) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise CheckpointError(
            f"{folder / MANIFEST} has format {found!r}, this version reads {FORMAT}: export the space again"
        )
    return manifest
