"""What the words after `openclip/` name, and which space they were trained into.

ViT-B-32:laion2b_s34b_b79k          one of open_clip's architectures and one of its pretrained tags
ViT-B-32:/path/to/weights.pt        one of open_clip's architectures and a file of weights
hf-hub:owner/name                   a repository of the model hub with an open_clip_config.json
local-dir:/path/to/folder           such a folder; "openclip/./folder" means the same
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
class Named:
    """A pretrained tag of an architecture. published: what open_clip knows of it (where it is, its preprocessing)."""

    model: str
    tag: str
    published: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights for an architecture."""

    model: str
    path: Path


@dataclass(frozen=True)
class Folder:
    path: Path


@dataclass(frozen=True)
class Repository:
    repo: str


Address = Named | WeightsFile | Folder | Repository


def parse(rest: str) -> Address:
    """Raises UnknownModel, with what is near or what there is to choose from."""
    if rest.startswith(HUB):
        return Repository(_something(rest.removeprefix(HUB), "a repository, 'openclip/hf-hub:owner/name'"))
    if rest.startswith(FOLDER):
        named = _something(rest.removeprefix(FOLDER), "a folder, 'openclip/local-dir:/path/to/folder'")
        return Folder(Path(named).expanduser())
    if rest.startswith(FOLDER_PREFIXES):
        return Folder(Path(rest).expanduser())
    written, _, pretrained = rest.partition(":")
    model = _known_model(written, rest)
    if not pretrained:
        raise UnknownModel(f"'openclip/{rest}' names no weights; {_offer(model)}")
    if published := tag_of(model, pretrained):
        return Named(model, _clean(pretrained), published)
    if pretrained.startswith(FOLDER_PREFIXES) or pretrained.endswith(SUFFIXES) or "/" in pretrained:
        return WeightsFile(model, _existing(Path(pretrained).expanduser(), model))
    raise UnknownModel(unknown_tag(model, pretrained))


def named(address: Address) -> str | None:
    """The name of a tag, as a card has it; None for everything else."""
    return canonical(address) if isinstance(address, Named) else None


def anywhere(address: Address) -> str | None:
    """What `load` takes for something of one's own, from any working directory; None for what has a name."""
    if isinstance(address, Folder):
        return f"openclip/{FOLDER}{address.path.absolute()}"
    if isinstance(address, WeightsFile):
        return f"openclip/{address.model}:{address.path.absolute()}"
    return None


def tag_of(model: str, tag: str) -> dict[str, Any]:
    """What open_clip knows of a pretrained tag; {} if it has no such tag."""
    import open_clip

    return dict(open_clip.get_pretrained_cfg(model, tag))


def tags_of(model: str) -> list[str]:
    import open_clip

    return list(open_clip.list_pretrained_tags_by_model(model))


def canonical(named: Named) -> str:
    """One name for one set of weights: that of the plain architecture where `…-quickgelu` is the same model again."""
    plain = named.model.removesuffix(QUICK)
    return f"openclip/{plain if tag_of(plain, named.tag) else named.model}:{named.tag}"


def canonical_repository(repo: str) -> str:
    """The name of the tag whose weights a repository holds, if it is one of open_clip's own."""
    import open_clip

    for model, tag in open_clip.list_pretrained():
        published = tag_of(model, tag)
        if published.get("hf_hub", "") == f"{repo}/":
            return canonical(Named(model, tag, published))
    return f"openclip/{HUB}{repo}"


def may_be_quick(model: str) -> bool:
    """Whether weights of this architecture exist with QuickGELU and others without, so that a file must say."""
    import open_clip

    if open_clip.get_model_config(model).get("quick_gelu", False):
        return False
    return model + QUICK in open_clip.list_models() or any(
        tag_of(model, tag).get("quick_gelu", False) for tag in tags_of(model)
    )


def unknown_tag(model: str, tag: str) -> str:
    plain = model.removesuffix(QUICK)
    hint = close_matches(tag, tags_of(model))
    if not hint and plain != model and tag_of(plain, tag):
        hint = f"those weights were trained without QuickGELU: write 'openclip/{plain}:{tag}'; "
    return f"{model} has no pretrained tag {tag!r}; {hint}{_offer(model)}"


def _clean(tag: str) -> str:
    return tag.lower().replace("-", "_")  # as open_clip compares them


def _something(named: str, what: str) -> str:
    if not named:
        raise UnknownModel(f"nothing is named: write {what}")
    return named


def _known_model(written: str, rest: str) -> str:
    import open_clip

    if not written:
        raise UnknownModel(f"'openclip/{rest}' names no architecture: write for example {EXAMPLE}")
    model, known = written.replace("/", "-"), open_clip.list_models()  # "ViT-B/32" is how OpenAI wrote them
    if model in known:
        return model
    hint = close_matches(model, known)
    if not hint and written == rest and "/" in rest:
        hint = f"a repository of the model hub is written 'openclip/{HUB}{rest}'; "
    raise UnknownModel(
        f"open_clip knows no architecture {written!r}; {hint}write for example {EXAMPLE}, "
        f"'openclip/{HUB}owner/name' or 'openclip/{FOLDER}/path/to/folder'; "
        "open_clip.list_models() has all architectures"
    )


def _offer(model: str) -> str:
    tags = tags_of(model)
    if not tags:
        return (
            f"open_clip has no weights for it: give a file, 'openclip/{model}:/path/to/weights.safetensors'"
        )
    return (
        f"its tags: {', '.join(tags)}; write for example 'openclip/{model}:{tags[0]}', or a file of weights"
    )


def _existing(path: Path, model: str) -> Path:
    if path.is_dir():
        raise UnknownModel(
            f"'openclip/{model}:{path}' names a folder where a file of weights is expected: a folder with an "
            f"open_clip_config.json is written 'openclip/{FOLDER}{path}'"
        )
    if not path.is_file():
        raise UnknownModel(f"there is no file of weights at {path}")
    return path


def refuse_options(address: Named, options: dict[str, Any]) -> None:
    """A tag knows its own preprocessing and activation. Raises InvalidInput if told another."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise InvalidInput(
            f"{', '.join(given)} given for {address.model}:{address.tag}, but a tag brings its own: leave it out, or "
            "load a file of weights"
        )
