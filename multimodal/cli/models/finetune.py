"""`multimodal finetune`: trains a space on pairs; a table of what was gained and what was forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from multimodal.cli import console
from multimodal.cli.options import with_runtime

ADAPTERS = ("lora", "dora")  # methods that write an adapter

if TYPE_CHECKING:
    from multimodal.adapt import FinetuneReport
    from multimodal.adapt.finetuning.judge import Figure


@with_runtime("device", "offline", "adapter")
def finetune(
    space: Annotated[
        str,
        typer.Argument(metavar="SPACE", help="The space to train: a name or ./folder.", show_default=False),
    ],
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Pairs: a .csv, .tsv, .jsonl or .parquet table, a folder per class, or a WebDataset .tar.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="DIR", help="New folder for the adapter or the space.", show_default=False
        ),
    ],
    load_options: dict[str, Any],
    method: Annotated[str, typer.Option(help="lora, dora, last, full or probe.")] = "lora",
    modality: Annotated[
        list[str] | None,
        typer.Option(
            help="Modality to train; may be repeated. \\[default: all but text]", show_default=False
        ),
    ] = None,
    replay: Annotated[
        str, typer.Option(metavar="PATH", help="Pairs the space knows, trained along; auto or none.")
    ] = "auto",
    reference: Annotated[
        str, typer.Option(metavar="PATH", help="Pairs that measure forgetting; auto or none.")
    ] = "auto",
    held_out: Annotated[
        str, typer.Option(metavar="SHARE|PATH", help="Share of the pairs to hold out, or such pairs.")
    ] = "0.2",
    interpolate: Annotated[
        str, typer.Option(metavar="WEIGHT", help="auto, or the weight of the trained weights, 0 to 1.")
    ] = "auto",
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Optimiser steps. \\[default: ten epochs, 20 to 200]", show_default=False),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=2, help="Pairs of a step.")] = 96,
    chunk_size: Annotated[
        int, typer.Option(min=1, help="Items embedded at a time; fewer need less memory.")
    ] = 96,
    learning_rate: Annotated[
        float | None, typer.Option(help="Of AdamW. \\[default: by method]", show_default=False)
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="Rank of the adapters.")] = 8,
    mixed_precision: Annotated[
        bool, typer.Option("--mixed-precision", help="Train in bfloat16 where possible.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the interrupted run in DIR.")] = False,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    json: console.AsJson = False,
) -> None:
    """Train a space on your own pairs, with the forgetting measured.

    \b
    Examples:
      [cyan]multimodal finetune starter pairs.csv -o mine --modality image[/]
      [cyan]multimodal finetune openclip/ViT-B-32:laion2b_s34b_b79k photos/ -o birds --reference old.csv[/]

    A part of the pairs is held out and judges the result; a reference set shows what was forgotten. An adapter is
    loaded with load("starter", adapter="./mine"), a space by its folder. DIR/report.html has the curves.
    """
    from multimodal.adapt import finetune as train
    from multimodal.core.catalog import load

    with console.working(f"loading {space}", quiet=json):
        base = load(space, **load_options)
    with console.stages(quiet=json) as progress:
        adapted, report = train(
            base,
            data,
            method=method,
            modality=modality or None,
            replay=_pairs(replay),
            reference=_pairs(reference),
            held_out=_number(held_out, "--held-out"),
            interpolate="auto" if interpolate == "auto" else _number(interpolate, "--interpolate"),
            steps=steps,
            batch_size=batch_size,
            chunk_size=chunk_size,
            learning_rate=learning_rate,
            rank=rank,
            mixed_precision=mixed_precision,
            out=out,
            resume=resume,
            seed=seed,
            progress=progress,
        )
    if json:
        about = {"name": adapted.name, "fingerprint": adapted.fingerprint}
        console.print_json({"out": str(out), "space": about, "report": report.to_dict()})
    else:
        _show(report, out, space, load_options.get("adapter", []))
    for note in report.notes:
        console.note(note)


def _pairs(given: str) -> object:
    return {"auto": "auto", "none": None}.get(given, Path(given))


def _number(given: str, option: str) -> Any:
    """A number, or a path for --held-out."""
    try:
        return float(given)
    except ValueError:
        if option == "--held-out":
            return Path(given)
        raise typer.BadParameter(f"{given!r} is neither auto nor a number", param_hint=option) from None


def _show(report: FinetuneReport, out: Path, name: str, adapters: str | list[str]) -> None:
    headers = ("pairs", "before", "after", "change")
    table = console.make_table("", *headers, right=headers)
    rows: list[tuple[str, Figure | None, Figure | None, Figure | None]] = [
        ("held-out", report.before, report.after, report.gain),
        ("reference", report.reference_before, report.reference_after, report.forgetting),
    ]
    for row, before, after, change in rows:
        if before is not None and after is not None and change is not None:
            interval = f"{100 * change.value:+.1f} ({100 * change.low:+.1f} to {100 * change.high:+.1f})"
            table.add_row(row, f"{before.n:,}", f"{before.value:.1%}", f"{after.value:.1%}", interval)
    console.print_table(table)
    trained = f"{' and '.join(report.modalities)} trained by {report.method} ({report.seconds:.0f} s)"
    place = console.verbatim(str(out))
    place = place if out.is_absolute() else f"./{place}"
    folders = [*([adapters] if isinstance(adapters, str) else adapters), place]
    adapter = f'"{place}"' if len(folders) == 1 else f"[{', '.join(map(repr, folders))}]"
    how = f'load("{name}", adapter={adapter})' if report.method in ADAPTERS else f'load("{place}")'
    if report.method in ADAPTERS:
        how += f", or {' '.join(f'--adapter {folder}' for folder in folders)}"
    console.stdout().print(f"{trained}, interpolation {report.weight:g}; use it by {how}", soft_wrap=True)
