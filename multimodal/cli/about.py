"""`multimodal models` and `multimodal info`: what there is, and what it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from multimodal import __version__
from multimodal.cli import console
from multimodal.core.types import Modality

if TYPE_CHECKING:
    from multimodal.core.space import Space

PACKAGES = ("torch", "torchaudio", "numpy", "pillow", "soundfile", "lancedb", "tokenizers", "safetensors")
EXTRAS = {
    "openclip": "open_clip_torch",
    "hf": "transformers",
    "diffusion": "diffusers",
    "heic": "pillow-heif",
    "av": "av",
}


def models(
    modality: Annotated[
        list[Modality] | None, typer.Option(help="Only models that take this; repeat it to ask for several.")
    ] = None,
    json: console.AsJson = False,
) -> None:
    """List the models that can be loaded by name.

    \b
    Examples:
      [cyan]multimodal models[/]
      [cyan]multimodal models --modality audio[/]
      [cyan]multimodal models --json | jq -r '.models[].name'[/]
    """
    from multimodal.core.catalog import cards

    wanted = set(modality or ())
    found = [card for card in cards() if wanted <= set(card.modalities)]
    if json:
        console.print_json({"models": [card.to_dict() for card in found]})
        return
    table = console.make_table("name", "takes", "dim", "size", "licence", "what it is", right=("dim", "size"))
    for card in found:
        size = f"{card.size_mb:,.3g} MB"
        about = (", ".join(card.modalities), str(card.dim), size, card.licence, card.description)
        table.add_row(f"[bold]{console.verbatim(card.name)}[/]", *map(console.verbatim, about))
    if found:
        console.stdout().print(table)
    else:
        console.note(f"no model takes {', '.join(sorted(wanted))}; multimodal models lists all of them")


def info(
    what: Annotated[
        str | None, typer.Argument(metavar="[NAME|PATH]", help="A model's name, a saved space, or an index.")
    ] = None,
    json: console.AsJson = False,
) -> None:
    """Tell about this installation, a model, or an index.

    \b
    Examples:
      [cyan]multimodal info[/]                    versions, device, extras
      [cyan]multimodal info starter[/]            what a space takes, and its fingerprint
      [cyan]multimodal info memories.lance[/]     what an index holds, and with which space
    """
    if what is None:
        facts = installation()
    elif _is_index(Path(what)):
        facts = index_facts(Path(what))
    else:
        from multimodal.core.catalog import load

        with console.working(f"loading {what}", quiet=json):
            facts = space_facts(load(what))
    if json:
        console.print_json(facts)
        return
    table = console.make_table("", "")
    table.show_header = False
    for key, value in facts.items():
        table.add_row(f"[bold]{key}[/]", _show(value))
    console.stdout().print(table)


def installation() -> dict[str, Any]:
    """Versions of this package and what it stands on, the device, and which extras are there."""
    import platform

    import torch

    from multimodal.core.catalog import families
    from multimodal.core.paths import assets

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {"multimodal": __version__} | {name: _version(name) for name in PACKAGES},
        "extras": {extra: _version(package) for extra, package in EXTRAS.items()},
        "device": str(accelerator or "cpu"),
        "threads": torch.get_num_threads(),
        "families": families(),
        "assets": str(assets()),
    }


def space_facts(space: Space) -> dict[str, Any]:
    """What a space takes and how its scores become probabilities."""
    heads = {"all" if pair is None else "-".join(pair): head.to_dict() for pair, head in space.heads.items()}
    return {
        "name": space.name,
        "modalities": list(space.modalities),
        "dim": space.dim,
        "fingerprint": space.fingerprint,
        "encoders": {str(modality): _encoder_facts(encoder) for modality, encoder in space.encoders.items()},
        "heads": heads,
        "card": space.card.to_dict() if space.card else None,
    }


def _encoder_facts(encoder: Any) -> dict[str, Any]:
    tensors = encoder.state_dict().values()
    return {"kind": type(encoder).__name__, "parameters": sum(tensor.numel() for tensor in tensors)}


def index_facts(path: Path) -> dict[str, Any]:
    """What an index holds and with which space, read from it alone: no model is loaded."""
    from multimodal.index.filters import is_in
    from multimodal.index.store import Store

    store = Store.open(path.expanduser().absolute())
    counts = {name: store.count(is_in("modality", [name], "modality")) for name in store.about.modalities}
    return {
        "index": str(store.path),
        "space": store.about.space,
        "address": store.about.address,
        "fingerprint": store.about.fingerprint,
        "dim": store.about.dim,
        "items": store.count(),
        "counts": counts,
        "bytes": sum(file.stat().st_size for file in store.path.rglob("*") if file.is_file()),
    }


def _is_index(path: Path) -> bool:
    from multimodal.index import Index

    return Index.exists(path)


def _version(package: str) -> str | None:
    from importlib import metadata  # 20 ms, which --help need not wait for

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_show_inline(one)}" for key, one in value.items())
    return _show_inline(value)


def _show_inline(value: Any) -> str:
    if value is None:
        return "[dim]–[/]"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_show_inline(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_show_inline(one) for one in value)
    return f"{value:,}" if isinstance(value, int) else console.verbatim(str(value))
