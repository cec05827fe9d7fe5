"""README.md of an exported folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from multimodal.core.card import Card
from multimodal.core.space import Space
from multimodal.exporting.report import COLUMNS, Export
from multimodal.exporting.towers import TowerSpec


def card_of(space: Space) -> Card | None:
    """The card of what is exported: of a truncated space, with its own length and the shorter ones."""
    if space.card is None:
        return None
    shorter = tuple(dims for dims in space.card.matryoshka if dims < space.dim)
    return replace(space.card, dim=space.dim, matryoshka=shorter)


def text(space: Space, report: Export, specs: Sequence[TowerSpec]) -> str:
    """What the folder holds, how it was checked, and how to use it."""
    rows = [COLUMNS, tuple("---" for _ in COLUMNS), *(tower.cells() for tower in report.towers)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    licence = "not stated by the model's card" if space.card is None else space.card.licence
    inputs = "\n".join(
        f"- `{tower.model}`: {', '.join(f'`{name}` {_shape(spec, name)}' for name in spec.inputs)} → "
        f"`vectors` (rows, {space.dim}) float32{' of length one' * spec.is_unit}"
        for tower, spec in zip(report.towers, specs, strict=True)
    )
    of_openvino = any(tower.model.endswith(".xml") for tower in report.towers)
    runtime, package = ("OpenVINO", "openvino") if of_openvino else ("ONNX Runtime", "onnxruntime")
    notices = "".join(f"\n{notice}\n" for spec in specs for notice in spec.licences)
    return f"""# {space.name}, exported for {runtime}

Source: `{space.address or space.name}`, fingerprint `{report.fingerprint}`. Licence of the weights: {licence}.

```python
import multimodal

space = multimodal.load("onnx/./{report.folder.rpartition("/")[2]}")  # needs {package}, not torch
```

Cosines are of preprocessing and model together, against the source's own vectors of the same items.
R@1 is the share of items whose nearest vector of the source is their own. "With batch" is the largest change of a
number of a vector when its item is encoded in a batch.

{table}

Inputs and outputs:

{inputs}
{_about_truncation(space)}

`export.json` holds the numbers of the preprocessing.
{notices}"""


def _about_truncation(space: Space) -> str:
    if space.card is None or space.dim >= space.card.dim:
        return ""
    is_trained = space.dim in space.card.matryoshka
    known = "was trained for" if is_trained else "was not trained for, as far as its card says"
    return (
        f"\nThe vectors are the first {space.dim} of {space.card.dim} numbers, a length that the model {known}.\n"
        "Where rows are not of length one, the rows of an item are added, and the sum is made length one.\n"
    )


def _shape(spec: TowerSpec, name: str) -> str:
    tensor = spec.inputs[name]
    free = (0, *spec.dynamic.get(name, ()))
    sizes = (
        "rows" if axis == 0 else "n" if axis in free else str(size) for axis, size in enumerate(tensor.shape)
    )
    return f"({', '.join(sizes)}) {str(tensor.dtype).removeprefix('torch.')}"
