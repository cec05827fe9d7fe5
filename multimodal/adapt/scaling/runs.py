"""Tables of training runs: N parameters, D units of data, final loss."""

from __future__ import annotations

import csv
import difflib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multimodal.core.errors import InvalidInput

Values = NDArray[np.float64]

COLUMNS = ("N", "D", "loss")
MIN_RUNS = 8  # the law has five parameters
MIN_DISTINCT = 3  # sizes, and amounts of data


@dataclass(frozen=True)
class Runs:
    """Finished runs: n_parameters, data and loss, each (n,) float64."""

    n_parameters: Values
    data: Values
    loss: Values

    def __len__(self) -> int:
        return len(self.loss)

    def __getitem__(self, rows: Any) -> Runs:
        """A selection by index array or mask."""
        return Runs(self.n_parameters[rows], self.data[rows], self.loss[rows])


def read_runs(runs: object, columns: Sequence[str] = COLUMNS) -> Runs:
    """Reads runs from a file, a table or rows, and checks them.

    Args:
        runs: A .csv, .tsv, .jsonl or .parquet file; a mapping of columns (a data frame too); or rows, as mappings or
            as (N, D, loss).
        columns: Names of the three columns.

    Raises:
        InvalidInput: If the table cannot be read or cannot determine a law.
    """
    if len(columns) != 3:
        raise InvalidInput(f"columns are the names of N, D and loss, got {tuple(columns)}")
    table = _columns(runs, tuple(columns))
    values = [_numbers(table[name], name) for name in columns]
    if len({len(column) for column in values}) > 1:
        lengths = ", ".join(f"{name} {len(column)}" for name, column in zip(columns, values, strict=True))
        raise InvalidInput(f"columns of a table of runs have one length, got {lengths}")
    checked = Runs(*values)
    _check(checked, columns)
    return checked


def _columns(runs: object, columns: tuple[str, ...]) -> Mapping[str, Sequence[Any]]:
    if isinstance(runs, Runs):
        values = (runs.n_parameters, runs.data, runs.loss)
        return {name: column.tolist() for name, column in zip(columns, values, strict=True)}
    if isinstance(runs, str | os.PathLike):
        runs = _file(Path(runs).expanduser())
    if isinstance(runs, np.ndarray) or not (isinstance(runs, Mapping) or hasattr(runs, "columns")):
        return _from_rows(runs, columns)
    table: Any = runs
    _require(columns, [str(name) for name in getattr(table, "columns", table)])
    return {name: list(table[name]) for name in columns}


def _from_rows(runs: object, columns: tuple[str, ...]) -> Mapping[str, Sequence[Any]]:
    rows = list(runs) if isinstance(runs, Iterable) else []
    if not rows:
        raise InvalidInput(
            "runs are a .csv, .tsv, .jsonl or .parquet file, a table with the columns N, D and loss, or rows; got "
            + ("no rows" if isinstance(runs, Iterable) else type(runs).__name__)
        )
    if isinstance(rows[0], Mapping):
        _require(columns, [str(name) for name in rows[0]])
        return {name: [row.get(name) for row in rows] for name in columns}
    if not all(isinstance(row, Sequence | np.ndarray) and len(row) == 3 for row in rows):
        raise InvalidInput("rows of runs are mappings, or (N, D, loss)")
    return dict(zip(columns, zip(*rows, strict=True), strict=True))


def _require(columns: Sequence[str], names: Sequence[str]) -> None:
    for column in columns:
        if column not in names:
            close = difflib.get_close_matches(column, names, 1, 0.4)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise InvalidInput(
                f"no column {column!r} in the table of runs, which has {', '.join(names) or 'none'}{hint}; "
                'name yours: columns=("N", "D", "loss")'
            )


def _file(path: Path) -> object:
    """The rows of a file. Raises InvalidInput."""
    if not path.is_file():
        raise InvalidInput(f"no table of runs at {str(path)!r}; check the path")
    try:
        return _rows_of(path)
    except (ValueError, csv.Error) as error:  # of encodings and of JSON; pyarrow's errors are ValueErrors
        raise InvalidInput(f"{str(path)!r} cannot be read ({error}); save the table again") from error


def _rows_of(path: Path) -> object:
    if path.suffix in (".csv", ".tsv"):
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))
    if path.suffix == ".jsonl":
        text = path.read_text(encoding="utf-8-sig")
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    if path.suffix == ".parquet":
        import pyarrow.parquet as parquet

        rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
        return rows
    raise InvalidInput(f"a table of runs is .csv, .tsv, .jsonl or .parquet, got {path.name!r}")


def _numbers(column: Sequence[Any], name: str) -> Values:
    values = np.empty(len(column))
    for row, value in enumerate(column):
        try:
            values[row] = float(value)
        except (TypeError, ValueError):
            raise InvalidInput(f"run {row + 1}: {name} is {value!r}, which is not a number") from None
    return values


def _check(runs: Runs, columns: Sequence[str]) -> None:
    for name, values in zip(columns, (runs.n_parameters, runs.data, runs.loss), strict=True):
        bad = np.flatnonzero(~np.isfinite(values) | (values <= 0))
        if len(bad):
            raise InvalidInput(
                f"run {bad[0] + 1}: {name} is {values[bad[0]]:g}, but must be finite and above 0 (the fit takes "
                "logarithms): remove runs that diverged"
            )
    if len(runs) < MIN_RUNS:
        raise InvalidInput(
            f"got {len(runs)} runs, but a law of five parameters needs at least {MIN_RUNS}, and 30 or more for "
            "exponents one can rely on: train more"
        )
    for name, values in zip(columns[:2], (runs.n_parameters, runs.data), strict=True):
        n_distinct = len(np.unique(values))
        if n_distinct < MIN_DISTINCT:
            raise InvalidInput(
                f"got {n_distinct} different {name} in {len(runs)} runs, but at least {MIN_DISTINCT} are needed to "
                f"tell its exponent: vary {name}"
            )
