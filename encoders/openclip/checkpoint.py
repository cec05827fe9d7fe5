"""Resolves a checkpoint: its architecture, preprocessing and tokenizer, and the location of its weights.

Nothing is guessed. open_clip's tags define preprocessing and activation. A repository or folder defines them in its
open_clip_config.json: mean and std are required; interpolation and resize mode default to bicubic and shortest edge,
the only ones open_clip had when it wrote files without them. A weights file defines nothing, so the caller must;
upstream silently assumes OpenAI's preprocessing and the architecture's activation.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from multimodal.core.errors import CheckpointError, InvalidInput, UnknownModel
from multimodal.core.hub import api as hub
from multimodal.encoders.openclip import names
from multimodal.encoders.openclip.names import Address, Folder, PretrainedTag, Repository, WeightsFile
from multimodal.encoders.openclip.preprocessing import KEYS, NEEDED, validate, with_defaults

CONFIG = "open_clip_config.json"
EXTRA = "openclip"
WEIGHTS = (  # in open_clip's order of preference
    *("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin"),
    *(
        "open_clip_pytorch_model.pth",
        "model.safetensors",
        "pytorch_model.bin",
        "pytorch_model.pth",
        "model.pth",
    ),
)


@dataclass(frozen=True)
class OpenClipCheckpoint:
    """A resolved checkpoint.

    Attributes:
        title: Its name in error messages.
        model: open_clip's "model_cfg", with the activation resolved.
        preprocess: Image preprocessing, without the image size, which the architecture defines.
        weights: The weights file.
        home: The space it was trained into, if known.
        folder: The checkpoint's folder, if it is a local one.
        offline: Whether downloads are disabled.
    """

    title: str
    model: dict[str, Any]
    preprocess: dict[str, Any]
    weights: Path
    home: str | None
    folder: Path | None = None
    offline: bool = False


@dataclass(frozen=True)
class Overrides:
    """Options of `load` for a checkpoint that does not define its preprocessing or activation."""

    preprocess: Mapping[str, Any] | None = None
    like: str | None = None
    quick_gelu: bool | None = None


def resolve(
    address: Address, overrides: Overrides, *, revision: str | None, offline: bool
) -> OpenClipCheckpoint:
    """Locates a checkpoint, downloads it if necessary, and reads its configuration.

    Raises:
        UnknownModel: If a folder or tag does not exist.
        DownloadError: If a file cannot be downloaded.
        CheckpointError: If the checkpoint is incomplete or does not define its preprocessing.
        InvalidInput: If an option contradicts the checkpoint.
    """
    if overrides.preprocess is not None:
        validate(overrides.preprocess, "preprocess=", InvalidInput)
    if isinstance(address, PretrainedTag):
        return _from_tag(address, overrides, revision, offline)
    if isinstance(address, WeightsFile):
        return _from_file(address, overrides, offline)
    if overrides.like is not None:
        raise InvalidInput(
            f"like={overrides.like!r} names a tag of an architecture, for a weights file such as "
            "'openclip/ViT-B-32:/path/to/weights.pt'; for a folder or repository pass preprocess="
        )
    if isinstance(address, Repository):
        return _from_repository(address, overrides, revision, offline)
    return _from_folder(address, overrides, offline)


def _from_tag(
    address: PretrainedTag, overrides: Overrides, revision: str | None, offline: bool
) -> OpenClipCheckpoint:
    names.refuse_options(address, vars(overrides))
    published, model = address.published, _architecture(address.model)
    # The architecture may be given without "-quickgelu"; the tag defines the activation
    model["quick_gelu"] = model.get("quick_gelu", False) or published.get("quick_gelu", False)
    weights = _fetch(published, revision, offline)
    title = f"{address.model}:{address.tag}"
    return OpenClipCheckpoint(
        title, model, with_defaults(published), weights, names.canonical(address), offline=offline
    )


def _from_file(address: WeightsFile, overrides: Overrides, offline: bool) -> OpenClipCheckpoint:
    published = {} if overrides.like is None else names.tag_of(address.model, overrides.like)
    if overrides.like is not None and not published:
        raise UnknownModel(f"like={overrides.like!r}: {names.unknown_tag(address.model, overrides.like)}")
    model = _architecture(address.model)
    model["quick_gelu"] = _activation(address, overrides, published, model.get("quick_gelu", False))
    given = {key: value for key, value in published.items() if key in NEEDED} | dict(
        overrides.preprocess or {}
    )
    if missing := [key for key in NEEDED if key not in given]:
        raise CheckpointError(
            f"{address.path} has weights only, without settings of image preprocessing "
            f"({', '.join(missing)}): pass preprocess={{'mean': …, 'std': …, 'interpolation': …, 'resize_mode': …}} as "
            f"in training, or like= the tag it is a copy of ({_choice(address.model)})"
        )
    title = f"{address.model}:{address.path}"
    return OpenClipCheckpoint(title, model, with_defaults(given), address.path, None, offline=offline)


def _activation(
    address: WeightsFile, overrides: Overrides, published: Mapping[str, Any], built_in: bool
) -> bool:
    stated = built_in or published.get("quick_gelu", False)
    if overrides.quick_gelu is None:
        if not stated and not published and names.is_activation_ambiguous(address.model):
            raise CheckpointError(
                f"{address.path} may have been trained with QuickGELU (as OpenAI's weights) or without (as LAION's), "
                f"and {address.model} exists with both: pass quick_gelu=True or quick_gelu=False, or like= the "
                f"tag it is a copy of ({_choice(address.model)})"
            )
        return stated
    if overrides.quick_gelu != stated and (stated or published):
        by = f"like={overrides.like!r}" if published else f"the architecture {address.model}"
        raise InvalidInput(
            f"quick_gelu={overrides.quick_gelu}, but {by} says {stated}; leave one of them out"
        )
    return overrides.quick_gelu


def _choice(model: str) -> str:
    return ", ".join(names.tags_of(model)) or "this architecture has none"


def _from_repository(
    address: Repository, overrides: Overrides, revision: str | None, offline: bool
) -> OpenClipCheckpoint:
    repo = address.repo
    present = hub.listing(repo, revision=revision, offline=offline, extra=EXTRA)
    if CONFIG not in present:
        raise CheckpointError(f"{repo} has no {CONFIG}, so it is not a checkpoint of open_clip; it has "
                              f"{', '.join(present)}")  # fmt: skip
    config_path = hub.file(repo, CONFIG, revision=revision, offline=offline, extra=EXTRA)
    model, preprocess = _read_config(config_path, overrides, f"{CONFIG} of {repo}")
    weights = _first_present(repo, WEIGHTS, present, revision, offline)
    home = names.canonical_repository(repo)
    return OpenClipCheckpoint(f"{names.HUB}{repo}", model, preprocess, weights, home, offline=offline)


def _from_folder(address: Folder, overrides: Overrides, offline: bool) -> OpenClipCheckpoint:
    folder = address.path
    if not folder.is_dir():
        raise UnknownModel(f"there is no folder {folder}")
    if not (folder / CONFIG).is_file():
        raise CheckpointError(
            f"{folder} has no {CONFIG}, which describes its weights; weights of an architecture of open_clip are "
            "written 'openclip/ViT-B-32:/path/to/weights.safetensors'"
        )
    model, preprocess = _read_config(folder / CONFIG, overrides, str(folder / CONFIG))
    present = sorted(file.name for file in folder.iterdir() if file.suffix in names.SUFFIXES)
    chosen = [name for name in WEIGHTS if name in present][:1] or present
    if len(chosen) != 1:
        candidates = f"{len(chosen)} files that could be" if chosen else "no"
        listed = f": {', '.join(chosen)}" if chosen else ""
        raise CheckpointError(f"{folder} has {candidates} weights{listed}; name them {WEIGHTS[0]}")
    title = f"{names.FOLDER}{folder}"
    return OpenClipCheckpoint(title, model, preprocess, folder / chosen[0], None, folder, offline)


def _read_config(path: Path, overrides: Overrides, title: str) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{title} is not valid JSON ({error}); download or copy it again") from error
    model = config.get("model_cfg") if isinstance(config, dict) else None
    if not isinstance(model, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= set(model):
        raise CheckpointError(
            f"{title} does not describe a model: expected 'model_cfg' with embed_dim, vision_cfg and text_cfg"
        )
    if overrides.quick_gelu is not None:
        model["quick_gelu"] = overrides.quick_gelu
    given = (config.get("preprocess_cfg") or {}) | dict(overrides.preprocess or {})
    if missing := [key for key in ("mean", "std") if key not in given]:
        raise CheckpointError(
            f"{title} does not define image preprocessing ({', '.join(missing)}): pass "
            "preprocess={'mean': …, 'std': …, 'interpolation': …, 'resize_mode': …} as in training"
        )
    validate({key: given[key] for key in KEYS if key in given}, title, CheckpointError)
    return model, with_defaults(given)


def _architecture(model: str) -> dict[str, Any]:
    import open_clip

    return copy.deepcopy(open_clip.get_model_config(model))  # type: ignore[no-any-return]


def _fetch(published: Mapping[str, Any], revision: str | None, offline: bool) -> Path:
    """The weights of a tag. open_clip stores 'owner/name/file', or 'owner/name/' for a file with the default name."""
    address = PurePosixPath(published.get("hf_hub", ""))
    if published.get("hf_hub"):
        repo = str(PurePosixPath(*address.parts[:2]))
        file_name = address.parts[2:]
        preferred = (
            WEIGHTS
            if not file_name
            else (str(PurePosixPath(file_name[0]).with_suffix(".safetensors")), file_name[0])
        )
        present = hub.listing(repo, revision=revision, offline=offline, extra=EXTRA)
        return _first_present(repo, preferred, present, revision, offline)
    url: str = published["url"]
    sha256 = None
    if "openaipublic" in url:
        sha256 = url.split("/")[-2]
    elif "mlfoundations" in url:
        sha256 = PurePosixPath(url).stem.rpartition("-")[2]
    return hub.url(url, sha256=sha256, offline=offline)


def _first_present(
    repo: str, preferred: tuple[str, ...], present: list[str], revision: str | None, offline: bool
) -> Path:
    for name in preferred:
        if name in present:
            return hub.file(repo, name, revision=revision, offline=offline, extra=EXTRA)
    raise CheckpointError(
        f"{repo} has none of {', '.join(preferred)}; it has {', '.join(present) or 'no files'}"
    )
