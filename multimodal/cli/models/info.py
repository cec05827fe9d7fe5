"""`multimodal models` and `multimodal info`: available models, and facts about one, an index or the installation."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated, Any

import typer

from multimodal import __version__
from multimodal.cli import console, options
from multimodal.cli.models import environment
from multimodal.core.modality import Modality
from multimodal.core.paths import URL
from multimodal.core.remote.files import list_files
from multimodal.core.remote.path import AnyPath, RemotePath, is_remote

if TYPE_CHECKING:
    from rich.table import Table

    from multimodal.core.card import Card
    from multimodal.core.space import Space

DESCRIPTION_WIDTH = 40  # of a model, in characters, at least


def models(
    modality: Annotated[
        list[Modality] | None,
        typer.Option(help="Only models that encode this modality; repeat it for several."),
    ] = None,
    json: console.AsJson = False,
) -> None:
    """List the models that can be loaded by name.

    \b
    Examples:
      [cyan]multimodal models[/]
      [cyan]multimodal models --modality audio[/]
      [cyan]multimodal models --json | jq -r '.models[] | select(.commercial).name'[/]

    Licences that exclude commercial use are marked. The figure is the published zero-shot accuracy in percent. In JSON,
    "pinned" is true if the name loads one fixed commit ("revision") instead of the latest.
    """
    from multimodal.core.catalog import cards

    required = set(modality or ())
    selected = sorted((card for card in cards() if required <= set(card.modalities)), key=_family)
    if json:
        rows = [card.to_dict() | {"pinned": card.revision != ""} for card in selected]
        console.print_json({"models": rows})
        return
    if selected:
        console.print_table(_models_table(selected))
    else:
        console.note(f"no model encodes {', '.join(sorted(required))}; multimodal models lists all of them")


def _models_table(cards: Sequence[Card]) -> Table:
    """Grouped by family. The description is below the name, which is never broken, so that it can be copied."""
    table = console.make_table(
        "name", "input", "dim", "size", "licence", "figure", right=("dim", "size"), unbroken=("name",)
    )
    table.padding, table.show_edge = (0, 1, 0, 0), False
    for column, width in zip(table.columns[-2:], (16, 12), strict=True):
        column.max_width, column.overflow = width, "fold"
    for card, after in zip_longest(cards, cards[1:]):
        licence = console.verbatim(card.licence)
        description = textwrap.fill(card.description, max(len(card.name), DESCRIPTION_WIDTH))
        table.add_row(
            f"[bold]{console.verbatim(card.name)}[/]\n[dim]{console.verbatim(description)}[/]",
            "\n".join(card.modalities),
            str(card.dim),
            _size(card.size_mb),
            licence if card.commercial else f"[yellow]{licence} (non-commercial)[/]",
            console.verbatim(card.figure),
            end_section=after is None or _family(after) != _family(card),
        )
    return table


def _family(card: Card) -> str:
    return card.name.partition("/")[0]


def _size(megabytes: float) -> str:
    if megabytes >= 999.5:
        return f"{megabytes / 1000:.1f} GB"
    return f"{megabytes:.0f} MB" if megabytes >= 10 else f"{megabytes:.2g} MB"


@options.with_runtime()
def info(
    what: Annotated[
        str | None, typer.Argument(metavar="[NAME|PATH]", help="A model's name, a saved space, or an index.")
    ] = None,
    *,
    load_options: dict[str, Any],
    json: console.AsJson = False,
) -> None:
    """Facts about this installation, a model or an index.

    \b
    Examples:
      [cyan]multimodal info[/]                    versions, device, extras
      [cyan]multimodal info starter[/]            modalities, dimensions and fingerprint of a space
      [cyan]multimodal info memories.lance[/]     counts, size and space of an index
    """
    if what is None:
        facts = installation()
    elif (place := _index_place(what)) is not None:
        facts = index_facts(place)
    else:
        from multimodal.core.catalog import load

        with console.working(f"loading {what}", quiet=json):
            facts = space_facts(load(what, **load_options))
    if json:
        console.print_json(facts)
        return
    table = console.make_table("", "")
    table.show_header = False
    for key, value in facts.items():
        table.add_row(f"[bold]{key}[/]", _show(value))
    console.print_table(table)


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
        "versions": {"multimodal": __version__}
        | {name: environment.version(name) for name in environment.PACKAGES},
        "extras": {extra: environment.version(package) for extra, package in environment.EXTRAS.items()},
        "device": str(accelerator or "cpu"),
        "threads": torch.get_num_threads(),
        "families": families(),
        "assets": str(assets()),
    }


def space_facts(space: Space) -> dict[str, Any]:
    """Modalities, encoders and logit scales of a space."""
    heads = {
        "all" if pair is None else "-".join(pair): head.to_dict() for pair, head in space.logit_scales.items()
    }
    return {
        "name": space.name,
        "modalities": list(space.modalities),
        "dim": space.dim,
        "fingerprint": space.fingerprint,
        "encoders": {str(modality): _encoder_facts(encoder) for modality, encoder in space.encoders.items()},
        "runtime_info": space.runtime_info,
        "revisions": space.revisions,
        "heads": heads,
        "card": space.card.to_dict() if space.card else None,
    }


def _encoder_facts(encoder: Any) -> dict[str, Any]:
    tensors = encoder.state_dict().values()
    return {"kind": type(encoder).__name__, "parameters": sum(tensor.numel() for tensor in tensors)}


def index_facts(path: AnyPath) -> dict[str, Any]:
    """What an index holds and with which space, read from it alone: no model is loaded."""
    from multimodal.index.opening import index_folder
    from multimodal.index.statistics import statistics
    from multimodal.index.storage.table import ItemTable

    store = ItemTable.open(index_folder(path))
    stats = statistics(store)
    options = store.index_metadata.options
    adapter = {"adapter": options["adapter"]} if "adapter" in options else {}
    compressed = {} if stats.recall is None else {"recall@10": stats.recall, "recall_rows": stats.recall_rows}
    return {
        "index": str(store.path),
        "space": store.index_metadata.space,
        "address": store.index_metadata.address,
        "fingerprint": store.index_metadata.fingerprint,
        **adapter,
        "dim": store.index_metadata.dim,
        "items": stats.n_items,
        "counts": stats.counts,
        "vectors": stats.vectors,
        "vector_bytes": stats.stored_bytes,
        **compressed,
        "bytes": _n_bytes(store.path),
    }


def _n_bytes(path: AnyPath) -> int:
    if isinstance(path, RemotePath):
        return sum(file.size for file in list_files(path))
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _index_place(what: str) -> AnyPath | None:
    """Where an index is; None for the name of a model."""
    from multimodal.index import Index
    from multimodal.index.opening import index_folder

    if URL.match(what) and not is_remote(what):
        return None
    place = index_folder(what)
    return place if isinstance(place, RemotePath) or Index.exists(place) else None


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_show_inline(item)}" for key, item in value.items())
    return _show_inline(value)


def _show_inline(value: Any) -> str:
    if value is None:
        return "[dim]–[/]"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_show_inline(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_show_inline(item) for item in value)
    return f"{value:,}" if isinstance(value, int) else console.verbatim(str(value))
