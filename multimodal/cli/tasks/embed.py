"""`multimodal embed`: unit vectors of files and texts in one embedding space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from multimodal.cli import console, options, remote
from multimodal.cli.tasks import inputs
from multimodal.core.items import Item

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VALUES_SHOWN = 4


@options.with_runtime()
def embed(
    files: inputs.Files = None,
    text: inputs.Texts = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.npy", help="Save float32 (n, dim) for numpy.load."),
    ] = None,
    space: console.SpaceName = "starter",
    *,
    load_options: dict[str, Any],
    json: console.AsJson = False,
) -> None:
    """Encode images, audio, video and text as unit vectors of one embedding space.

    \b
    Examples:
      [cyan]multimodal embed photo.jpg talk.wav --text "a red apple" -o vectors.npy[/]
      [cyan]multimodal embed --text "a red apple" --json | jq '.results[0].vector | length'[/]

    Rows are in order: files, then texts. With [cyan]-o[/] the JSON does not contain the vectors.
    """
    from multimodal.core.catalog import load

    given = inputs.read_inputs(files, text)
    console.check_output(output, "--output")
    with console.working(f"loading {space}", quiet=json):
        connected = remote.client(load_options)
        loaded: Any = load(space, **load_options) if connected is None else remote.space_of(connected, space)
    with console.progress("encoding", len(given), quiet=json) as done:
        good, failures = inputs.run_batches(
            given,
            lambda items: list(loaded.encode(list(items))),
            done,  # of BATCH items
        )
    if output is not None and good:
        _save(output, [vector for _, _, vector in good])
    if json:
        rows = [
            {"input": name, "modality": str(item.modality)} | ({} if output else {"vector": vector.tolist()})
            for name, item, vector in good
        ]
        header = {"space": loaded.name, "fingerprint": loaded.fingerprint, "dim": loaded.dim}
        saved = {"output": str(output) if output and good else None}
        console.print_json(header | saved | {"results": rows, "failed": inputs.failed_rows(failures)})
    else:
        _show_vectors(good, loaded.dim, output)
    inputs.finish(len(good), failures)


def _show_vectors(good: Sequence[tuple[str, Item, Any]], dim: int, output: Path | None) -> None:
    if output is not None and good:
        path = console.verbatim(str(output))
        console.stdout().print(
            f"{path}: {console.counted(len(good), 'vector')} of {dim}, float32", soft_wrap=True
        )
        return
    table = console.make_table("input", "modality", f"vector of {dim}", unbroken=("input",))
    for name, item, vector in good:
        values = "  ".join(f"{value:+.3f}" for value in vector[:VALUES_SHOWN])
        table.add_row(console.verbatim(name), str(item.modality), f"{values}  …")
    if good:
        console.print_table(table)
        console.note("to keep the vectors, add -o vectors.npy or --json")


def _save(output: Path, vectors: Sequence[NDArray[np.float32]]) -> None:
    import numpy as np

    with output.open("wb") as file:  # an open file, or numpy would add .npy to another name
        np.save(file, np.stack(vectors))
