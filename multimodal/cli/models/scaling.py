"""`multimodal scaling fit`: a scaling law of training runs, with intervals, and the compute-optimal size."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from multimodal.cli import console

if TYPE_CHECKING:
    from multimodal.adapt.scaling import Extrapolation, ScalingLaw

scaling = typer.Typer(
    cls=console.Commands, no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False
)


@scaling.callback()
def group() -> None:
    """Fit scaling laws to training runs."""


@scaling.command()
def fit(
    runs: Annotated[
        Path,
        typer.Argument(
            metavar="RUNS",
            help="Finished runs: a .csv, .tsv, .jsonl or .parquet table with the columns N, D and loss.",
            show_default=False,
        ),
    ],
    columns: Annotated[
        str, typer.Option(metavar="N,D,LOSS", help="Names of the three columns in the table.")
    ] = "N,D,loss",
    compute: Annotated[
        list[float] | None,
        typer.Option(
            "--compute",
            "-C",
            metavar="FLOPS",
            help="Print the compute-optimal size and data for so much training; may be repeated.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="Write .html with figures, .json or .svg.", show_default=False
        ),
    ] = None,
    resamples: Annotated[int, typer.Option(min=0, help="Bootstrap samples for the intervals.")] = 200,
    seed: Annotated[int, typer.Option(help="Random seed of the bootstrap.")] = 0,
    json: console.AsJson = False,
) -> None:
    """Fit L(N, D) = E + A / N^alpha + B / D^beta to training runs.

    \b
    Examples:
      [cyan]multimodal scaling fit runs.csv[/]
      [cyan]multimodal scaling fit runs.csv --columns params,tokens,val_loss -C 1e21 -o law.html[/]

    N is the number of parameters, D the amount of data (tokens, say), C = 6 N D. Intervals are 80 %, by bootstrap over
    the runs. The largest runs are also predicted from the others, which shows how far the law can be trusted.
    """
    from multimodal.adapt.scaling import extrapolate
    from multimodal.adapt.scaling import fit as fit_runs
    from multimodal.core.errors import InvalidInput

    console.check_output(out, "--out", (".html", ".json", ".svg"))
    names = tuple(name.strip() for name in columns.split(","))
    law = fit_runs(runs, columns=names, resamples=resamples, seed=seed)
    optima = [law.compute_optimal(budget) for budget in compute or ()]
    try:
        predictions = extrapolate(runs, columns=names)
    except InvalidInput:
        predictions = ()  # too few runs remain
    if out is not None:
        law.save(out)
    if json:
        found: dict[str, Any] = law.to_dict()
        found["compute_optimal"] = [asdict(optimum) for optimum in optima]
        found["held_out"] = [asdict(prediction) for prediction in predictions]
        console.print_json(found)
    else:
        _show(law, predictions)
        for optimum in optima:
            outside = ", outside the runs" if optimum.is_extrapolated else ""
            console.stdout().print(
                f"C = {optimum.C:.3g}: N {optimum.N}, D {optimum.D}, loss {optimum.loss}{outside}"
            )
    for note in law.notes:
        console.note(note)


def _show(law: ScalingLaw, predictions: tuple[Extrapolation, ...]) -> None:
    console.stdout().print(str(law))
    table = console.make_table("", "value", "80 % interval", right=("value", "80 % interval"))
    for name in ("E", "A", "B", "alpha", "beta"):
        parameter = getattr(law, name)
        table.add_row(name, f"{parameter.value:.4g}", f"{parameter.low:.3g} to {parameter.high:.3g}")
    console.print_table(table)
    if predictions:
        headers = ("held out", "runs", "mean error", "worst", "constant")
        table = console.make_table(*headers, right=headers[1:])
        for prediction in predictions:
            shares = (prediction.error, prediction.worst, prediction.constant_error)
            table.add_row(prediction.held_out, str(prediction.n_runs), *(f"{share:.1%}" for share in shares))
        console.print_table(table)
