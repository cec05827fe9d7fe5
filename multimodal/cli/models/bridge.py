"""`multimodal bridge`: align two embedding spaces through a shared modality."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from multimodal.cli import console
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    from multimodal.adapt import BridgeReport
    from multimodal.adapt.bridging.api import Method


def bridge(
    first: Annotated[
        str,
        typer.Argument(metavar="A", help="The space that is mapped: a name or ./folder.", show_default=False),
    ],
    second: Annotated[
        str,
        typer.Argument(metavar="B", help="The space it is mapped into; unchanged.", show_default=False),
    ],
    corpus: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="Texts, one per line: at least 200, better thousands.", show_default=False
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the joined space.", show_default=False)
    ],
    over: Annotated[Modality, typer.Option(help="The modality both spaces encode.")] = Modality.TEXT,
    media: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Unpaired audio or images to learn from; may be repeated.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[str, typer.Option(help="kernel, mlp, ridge or procrustes.")] = "kernel",
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    json: console.AsJson = False,
) -> None:
    """Align two embedding spaces through a shared modality; no paired data.

    \b
    Examples:
      [cyan]multimodal bridge hf/laion/clap-htsat-unfused openclip/ViT-B-32:laion2b_s34b_b79k \\
          --corpus captions.txt --out clip-hears[/]
      [cyan]multimodal index photos --index photos.lance --space ./clip-hears[/]
      [cyan]multimodal search photos.lance --audio bell.wav[/]

    Both spaces encode the texts, and a small map from A to B is learned; A's other modalities follow it. A tenth of the
    texts is held out to evaluate the result. An interrupted command resumes when it is repeated.
    """
    from multimodal.adapt import PoorBridge
    from multimodal.adapt import bridge as build
    from multimodal.core.catalog import load

    with console.working(f"loading {first} and {second}", quiet=json):
        a, b = load(first), load(second)
    with warnings.catch_warnings(record=True) as caught, console.stages(quiet=json) as progress:
        warnings.simplefilter("always", PoorBridge)
        made = build(
            a,
            b,
            over,
            corpus=corpus,
            media=media,
            method=cast("Method", method),
            out=out,
            seed=seed,
            progress=progress,
        )
    if json:
        space = {"name": made.space.name, "fingerprint": made.space.fingerprint}
        console.print_json({"out": str(out), "space": space, "report": made.report.to_dict()})
    else:
        _show(made.report, out)
    for warning in made.report.warnings:
        console.note(warning)
    for issued in caught:
        console.note(str(issued.message))


def _show(report: BridgeReport, out: Path) -> None:
    table = console.make_table("held-out", *report.recall, right=tuple(report.recall))
    for name, shares in (("before", report.before), ("chance", report.chance), ("after", report.recall),
                         ("training items", report.known)):  # fmt: skip
        table.add_row(name, *(f"{share:.1%}" for share in shares.values()))
    console.print_table(table)
    what = f"{' and '.join(report.modalities)} aligned through {report.over} ({report.method}, {report.seconds:.0f} s)"
    place = console.verbatim(str(out))
    console.stdout().print(
        f"{what}; load it as ./{place}" if not out.is_absolute() else f"{what}; in {place}"
    )
