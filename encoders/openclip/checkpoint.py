"""What a checkpoint says of itself: its architecture, preprocessing and tokenizer, and where its weights are.

Nothing is guessed. open_clip's tags bring their preprocessing and activation. A hub repository or a folder brings
them in its open_clip_config.json: mean and std must be there, and without a word on the rest it is bicubic, shortest
edge, for such files were written before open_clip knew another way. A file of weights brings nothing, so whoever
loads it says what it is; upstream takes OpenAI's preprocessing and the architecture's activation for it, silently.
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
from multimodal.encoders.openclip import names as names
from multimodal.encoders.openclip.names import Address, Folder, Named, Repository, WeightsFile
from multimodal.encoders.openclip.preprocessing import KEYS, NEEDED, check, settled

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
class Checkpoint:
    """title: its name in messages. model: open_clip's "model_cfg", the activation settled. preprocess: how pictures
    are made, all but their size, which the architecture knows. home: the space it was trained into, if it is known."""

    title: str
    model: dict[str, Any]
    preprocess: dict[str, Any]
    weights: Path
    home: str | None
    folder: Path | None = None
    offline: bool = False


@dataclass(frozen=True)
class Said:
    """What the caller of `load` says about a checkpoint that cannot say it itself."""

    preprocess: Mapping[str, Any] | None = None
    like: str | None = None
    quick_gelu: bool | None = None


def resolve(address: Address, said: Said, *, revision: str | None, offline: bool) -> Checkpoint:
    """Finds a checkpoint, fetches it if need be, and settles what it says.

    Raises UnknownModel, DownloadError, CheckpointError, and InvalidInput for an option that contradicts it.
    """
    if said.preprocess is not None:
        check(said.preprocess, "preprocess=", InvalidInput)
    if isinstance(address, Named):
        return _from_tag(address, said, revision, offline)
    if isinstance(address, WeightsFile):
        return _from_file(address, said, offline)
    if said.like is not None:
        raise InvalidInput(
            f"like={said.like!r} names a tag of an architecture, for a file of weights such as "
            "'openclip/ViT-B-32:/path/to/weights.pt'; for a folder or repository pass preprocess="
        )
    if isinstance(address, Repository):
        return _from_repository(address, said, revision, offline)
    return _from_folder(address, said, offline)


def _from_tag(address: Named, said: Said, revision: str | None, offline: bool) -> Checkpoint:
    names.refuse_options(address, vars(said))
    published, model = address.published, _architecture(address.model)
    # The architecture may be written without "-quickgelu"; the tag knows how it was trained
    model["quick_gelu"] = model.get("quick_gelu", False) or published.get("quick_gelu", False)
    weights = _fetch(published, revision, offline)
    title = f"{address.model}:{address.tag}"
    return Checkpoint(title, model, settled(published), weights, names.canonical(address), offline=offline)


def _from_file(address: WeightsFile, said: Said, offline: bool) -> Checkpoint:
    known = {} if said.like is None else names.tag_of(address.model, said.like)
    if said.like is not None and not known:
        raise UnknownModel(f"like={said.like!r}: {names.unknown_tag(address.model, said.like)}")
    model = _architecture(address.model)
    model["quick_gelu"] = _activation(address, said, known, model.get("quick_gelu", False))
    given = {key: value for key, value in known.items() if key in NEEDED} | dict(said.preprocess or {})
    if missing := [key for key in NEEDED if key not in given]:
        raise CheckpointError(
            f"{address.path} holds weights alone, and nothing says how its pictures were prepared "
            f"({', '.join(missing)}): pass preprocess={{'mean': …, 'std': …, 'interpolation': …, 'resize_mode': …}} as "
            f"it was trained, or like= the tag it is a copy of ({_choice(address.model)})"
        )
    title = f"{address.model}:{address.path}"
    return Checkpoint(title, model, settled(given), address.path, None, offline=offline)


def _activation(address: WeightsFile, said: Said, known: Mapping[str, Any], built_in: bool) -> bool:
    stated = built_in or known.get("quick_gelu", False)
    if said.quick_gelu is None:
        if not stated and not known and names.may_be_quick(address.model):
            raise CheckpointError(
                f"{address.path} may have been trained with QuickGELU (as OpenAI's weights) or without (as LAION's), "
                f"and {address.model} is loaded with either: pass quick_gelu=True or quick_gelu=False, or like= the "
                f"tag it is a copy of ({_choice(address.model)})"
            )
        return stated
    if said.quick_gelu != stated and (stated or known):
        by = f"like={said.like!r}" if known else f"the architecture {address.model}"
        raise InvalidInput(f"quick_gelu={said.quick_gelu}, but {by} says {stated}; leave one of them out")
    return said.quick_gelu


def _choice(model: str) -> str:
    return ", ".join(names.tags_of(model)) or "this architecture has none"


def _from_repository(address: Repository, said: Said, revision: str | None, offline: bool) -> Checkpoint:
    repo = address.repo
    present = hub.listing(repo, revision=revision, offline=offline, extra=EXTRA)
    if CONFIG not in present:
        raise CheckpointError(f"{repo} has no {CONFIG}, so it is no checkpoint of open_clip's; it has "
                              f"{', '.join(present)}")  # fmt: skip
    at = hub.file(repo, CONFIG, revision=revision, offline=offline, extra=EXTRA)
    model, preprocess = _read_config(at, said, f"{CONFIG} of {repo}")
    weights = _fetch_one(repo, WEIGHTS, present, revision, offline)
    home = names.canonical_repository(repo)
    return Checkpoint(f"{names.HUB}{repo}", model, preprocess, weights, home, offline=offline)


def _from_folder(address: Folder, said: Said, offline: bool) -> Checkpoint:
    folder = address.path
    if not folder.is_dir():
        raise UnknownModel(f"there is no folder {folder}")
    if not (folder / CONFIG).is_file():
        raise CheckpointError(
            f"{folder} has no {CONFIG}, which says what its weights are; weights of an architecture that open_clip "
            "knows are written 'openclip/ViT-B-32:/path/to/weights.safetensors'"
        )
    model, preprocess = _read_config(folder / CONFIG, said, str(folder / CONFIG))
    present = sorted(file.name for file in folder.iterdir() if file.suffix in names.SUFFIXES)
    chosen = [name for name in WEIGHTS if name in present][:1] or present
    if len(chosen) != 1:
        found = f"{len(chosen)} files that could be" if chosen else "no"
        raise CheckpointError(
            f"{folder} has {found} weights{': ' + ', '.join(chosen) if chosen else ''}; name them {WEIGHTS[0]}"
        )
    title = f"{names.FOLDER}{folder}"
    return Checkpoint(title, model, preprocess, folder / chosen[0], None, folder, offline)


def _read_config(path: Path, said: Said, title: str) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{title} is not valid JSON ({error}); fetch or copy it again") from error
    model = config.get("model_cfg") if isinstance(config, dict) else None
    if not isinstance(model, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= set(model):
        raise CheckpointError(
            f"{title} describes no model: expected 'model_cfg' with embed_dim, vision_cfg and text_cfg"
        )
    if said.quick_gelu is not None:
        model["quick_gelu"] = said.quick_gelu
    given = (config.get("preprocess_cfg") or {}) | dict(said.preprocess or {})
    if missing := [key for key in ("mean", "std") if key not in given]:
        raise CheckpointError(
            f"{title} does not say how pictures are prepared ({', '.join(missing)}): pass "
            "preprocess={'mean': …, 'std': …, 'interpolation': …, 'resize_mode': …} as it was trained"
        )
    check({key: given[key] for key in KEYS if key in given}, title, CheckpointError)
    return model, settled(given)


def _architecture(model: str) -> dict[str, Any]:
    import open_clip

    return copy.deepcopy(open_clip.get_model_config(model))  # type: ignore[no-any-return]


def _fetch(published: Mapping[str, Any], revision: str | None, offline: bool) -> Path:
    """The weights of a tag. open_clip writes 'owner/name/file', or 'owner/name/' for a file of its usual name."""
    address = PurePosixPath(published.get("hf_hub", ""))
    if published.get("hf_hub"):
        repo = str(PurePosixPath(*address.parts[:2]))
        wanted = address.parts[2:]
        preferred = (
            WEIGHTS if not wanted else (str(PurePosixPath(wanted[0]).with_suffix(".safetensors")), wanted[0])
        )
        present = hub.listing(repo, revision=revision, offline=offline, extra=EXTRA)
        return _fetch_one(repo, preferred, present, revision, offline)
    url: str = published["url"]
    sha256 = None
    if "openaipublic" in url:
        sha256 = url.split("/")[-2]
    elif "mlfoundations" in url:
        sha256 = PurePosixPath(url).stem.rpartition("-")[2]
    return hub.url(url, sha256=sha256, offline=offline)


def _fetch_one(
    repo: str, preferred: tuple[str, ...], present: list[str], revision: str | None, offline: bool
) -> Path:
    for name in preferred:
        if name in present:
            return hub.file(repo, name, revision=revision, offline=offline, extra=EXTRA)
    raise CheckpointError(
        f"{repo} has none of {', '.join(preferred)}; it has {', '.join(present) or 'no files'}"
    )
