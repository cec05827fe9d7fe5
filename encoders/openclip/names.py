"""Parses the names after `openclip/`.

ViT-B-32:laion2b_s34b_b79k          an architecture of open_clip and one of its pretrained tags
ViT-B-32:/path/to/weights.pt        an architecture of open_clip and a weights file
hf-hub:owner/name                   a repository of the Hub with an open_clip_config.json
local-dir:/path/to/folder           a folder with such a file; "openclip/./folder" is the same
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multimodal.core.catalog import FOLDER_PREFIXES, close_matches
from multimodal.core.errors import InvalidInput, UnknownModel

HUB, FOLDER = "hf-hub:", "local-dir:"
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".npz")
QUICK = "-quickgelu"
EXAMPLE = "'openclip/ViT-B-32:laion2b_s34b_b79k'"


@dataclass(frozen=True)
class PretrainedTag:
    """A pretrained tag of an architecture. `published` is open_clip's entry: location and preprocessing."""

    model: str
    tag: str
    published: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class WeightsFile:
    """A weights file of an architecture."""

    model: str
    path: Path


@dataclass(frozen=True)
class Folder:
    """A folder with an open_clip_config.json."""

    path: Path


@dataclass(frozen=True)
class Repository:
    """A repository of the Hub with an open_clip_config.json."""

    repo: str


Address = PretrainedTag | WeightsFile | Folder | Repository


def parse(rest: str) -> Address:
    """Parses a name. Raises UnknownModel with close matches or the available choices."""
    if rest.startswith(HUB):
        return Repository(_not_empty(rest.removeprefix(HUB), "a repository, 'openclip/hf-hub:owner/name'"))
    if rest.startswith(FOLDER):
        path = _not_empty(rest.removeprefix(FOLDER), "a folder, 'openclip/local-dir:/path/to/folder'")
        return Folder(Path(path).expanduser())
    if rest.startswith(FOLDER_PREFIXES):
        return Folder(Path(rest).expanduser())
    written, _, pretrained = rest.partition(":")
    model = _known_model(written, rest)
    if not pretrained:
        raise UnknownModel(f"'openclip/{rest}' does not name weights; {_offer(model)}")
    if published := tag_of(model, pretrained):
        return PretrainedTag(model, _normalised(pretrained), published)
    if pretrained.startswith(FOLDER_PREFIXES) or pretrained.endswith(SUFFIXES) or "/" in pretrained:
        return WeightsFile(model, _existing(Path(pretrained).expanduser(), model))
    raise UnknownModel(unknown_tag(model, pretrained))


def card_name(address: Address) -> str | None:
    """The name that a card of a pretrained tag has; None for other addresses."""
    return canonical(address) if isinstance(address, PretrainedTag) else None


def absolute_address(address: Address) -> str | None:
    """What `load` takes for a local folder or file from any working directory; None for other addresses."""
    if isinstance(address, Folder):
        return f"openclip/{FOLDER}{address.path.absolute()}"
    if isinstance(address, WeightsFile):
        return f"openclip/{address.model}:{address.path.absolute()}"
    return None


def tag_of(model: str, tag: str) -> dict[str, Any]:
    """open_clip's entry of a pretrained tag; {} if there is none."""
    import open_clip

    return dict(open_clip.get_pretrained_cfg(model, tag))


def tags_of(model: str) -> list[str]:
    """The pretrained tags of an architecture."""
    import open_clip

    return list(open_clip.list_pretrained_tags_by_model(model))


def canonical(address: PretrainedTag) -> str:
    """A unique name per set of weights: without "-quickgelu" where both names mean the same model."""
    plain = address.model.removesuffix(QUICK)
    return f"openclip/{plain if tag_of(plain, address.tag) else address.model}:{address.tag}"


def canonical_repository(repo: str) -> str:
    """The name of the pretrained tag whose weights are in a repository, else the repository's own."""
    import open_clip

    for model, tag in open_clip.list_pretrained():
        published = tag_of(model, tag)
        if published.get("hf_hub", "") == f"{repo}/":
            return canonical(PretrainedTag(model, tag, published))
    return f"openclip/{HUB}{repo}"


def is_activation_ambiguous(model: str) -> bool:
    """Whether weights of this architecture exist both with and without QuickGELU, so that a file must specify it."""
    import open_clip

    if open_clip.get_model_config(model).get("quick_gelu", False):
        return False
    return model + QUICK in open_clip.list_models() or any(
        tag_of(model, tag).get("quick_gelu", False) for tag in tags_of(model)
    )


def unknown_tag(model: str, tag: str) -> str:
    """The error message for a tag that an architecture does not have."""
    plain = model.removesuffix(QUICK)
    hint = close_matches(tag, tags_of(model))
    if not hint and plain != model and tag_of(plain, tag):
        hint = f"those weights were trained without QuickGELU: write 'openclip/{plain}:{tag}'; "
    return f"{model} has no pretrained tag {tag!r}; {hint}{_offer(model)}"


def _normalised(tag: str) -> str:
    return tag.lower().replace("-", "_")  # open_clip compares tags this way


def _not_empty(name: str, expected: str) -> str:
    if not name:
        raise UnknownModel(f"the name is empty: write {expected}")
    return name


def _known_model(written: str, rest: str) -> str:
    import open_clip

    if not written:
        raise UnknownModel(f"'openclip/{rest}' does not name an architecture: write for example {EXAMPLE}")
    model, models = written.replace("/", "-"), open_clip.list_models()  # OpenAI writes "ViT-B/32"
    if model in models:
        return model
    hint = close_matches(model, models)
    if not hint and written == rest and "/" in rest:
        hint = f"a repository of the Hub is written 'openclip/{HUB}{rest}'; "
    raise UnknownModel(
        f"open_clip has no architecture {written!r}; {hint}write for example {EXAMPLE}, "
        f"'openclip/{HUB}owner/name' or 'openclip/{FOLDER}/path/to/folder'; "
        "open_clip.list_models() lists all architectures"
    )


def _offer(model: str) -> str:
    tags = tags_of(model)
    if not tags:
        return f"open_clip has no weights for it: give a weights file, 'openclip/{model}:/path/to/weights.safetensors'"
    return f"its tags: {', '.join(tags)}; write for example 'openclip/{model}:{tags[0]}', or a weights file"


def _existing(path: Path, model: str) -> Path:
    if path.is_dir():
        raise UnknownModel(
            f"'openclip/{model}:{path}' is a folder, expected a weights file: a folder with an "
            f"open_clip_config.json is written 'openclip/{FOLDER}{path}'"
        )
    if not path.is_file():
        raise UnknownModel(f"there is no weights file at {path}")
    return path


def refuse_options(address: PretrainedTag, options: dict[str, Any]) -> None:
    """Raises InvalidInput for any option: preprocessing and activation of a tag are known."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise InvalidInput(
            f"{', '.join(given)} given for {address.model}:{address.tag}, but a pretrained tag has its own: leave it "
            "out, or load a weights file"
        )
