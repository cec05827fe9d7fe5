"""Preferences: (input, chosen, rejected), given by the caller or made by a judge from a model's own samples."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import InvalidInput, MediaNotFound
from multimodal.core.space import Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Judge = Callable[[Sequence[Any], Sequence[str]], Sequence[float]]
"""(inputs, outputs) -> how good each output is for its input; only the order of one input's scores matters."""

INPUT_KEYS = ("input", "prompt", "question")
EXPECTED = "(input, chosen, rejected), or mappings with these keys, or a .csv or .jsonl file of such rows"


@dataclass(frozen=True)
class Preference:
    """What to write for one input, and what not.

    Attributes:
        input: An item or vector for a captioner, a prompt for a language model.
        chosen: The better output; None where a judge will choose.
        rejected: The worse one; None where only the better is known.
    """

    input: Any
    chosen: str | None = None
    rejected: str | None = None


def read_preferences(source: Any, *, needs: Sequence[str]) -> list[Preference]:
    """The preferences, each with what `needs` names ("chosen", "rejected"). Raises InvalidInput, MediaNotFound."""
    if isinstance(source, str | os.PathLike):
        source = _read_file(Path(source).expanduser())
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        raise InvalidInput(f"preferences must be a list of {EXPECTED}; got {type(source).__name__}")
    preferences = [_preference(number, value) for number, value in enumerate(source)]
    if not preferences:
        raise InvalidInput(f"there are no preferences; give a list of {EXPECTED}")
    for number, preference in enumerate(preferences):
        missing = [name for name in needs if getattr(preference, name) is None]
        if missing:
            raise InvalidInput(
                f"preference {number} has no {' and no '.join(missing)}; give {EXPECTED}, or judge= to choose among "
                "samples of the model"
            )
        if preference.chosen is not None and preference.chosen == preference.rejected:
            raise InvalidInput(
                f"preference {number} prefers {preference.chosen!r:.80} to itself; leave it out"
            )
    return preferences


def _preference(number: int, value: Any) -> Preference:
    if isinstance(value, Mapping):
        key = next((name for name in INPUT_KEYS if name in value), None)
        if key is None:
            raise InvalidInput(
                f"preference {number} has the keys {', '.join(map(str, value))}; it needs 'input'"
            )
        given, chosen, rejected = value[key], value.get("chosen"), value.get("rejected")
    elif isinstance(value, tuple | list) and 2 <= len(value) <= 3:
        given, chosen, rejected = value if len(value) == 3 else (*value, None)
    else:
        given, chosen, rejected = value, None, None
    for name, text in (("chosen", chosen), ("rejected", rejected)):
        if text is not None and (not isinstance(text, str) or not text.strip()):
            raise InvalidInput(f"preference {number} has the {name} output {text!r:.80}; it must be a text")
    return Preference(given, chosen, rejected)


def _read_file(file: Path) -> list[Any]:
    if not file.exists():
        raise MediaNotFound(f"{file}: no such file; preferences are a list of {EXPECTED}")
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix.lower() == ".csv":
            return [
                {k: v or None for k, v in row.items() if k is not None}
                for row in csv.DictReader(text.splitlines())
            ]
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, csv.Error) as error:
        raise InvalidInput(f"{file} is neither CSV nor JSON lines in UTF-8 ({error})") from error


def as_judge(judge: Any) -> Judge:
    """A function of inputs and outputs: a judge as it is, or the cosine in a space (that of a pipeline, too)."""
    space = judge if isinstance(judge, Space) else getattr(judge, "space", None)
    if isinstance(space, Space):
        return _space_judge(space)
    if callable(judge):
        return judge  # type: ignore[no-any-return]
    raise InvalidInput(
        f"judge must be a space, a pipeline on a space, or a function (inputs, outputs) -> scores; got {judge!r:.80}"
    )


def _space_judge(space: Space) -> Judge:
    def cosine(inputs: Sequence[Any], outputs: Sequence[str]) -> Sequence[float]:
        import numpy as np

        from multimodal.core.items import Text

        texts = list(dict.fromkeys(outputs))
        place = {text: number for number, text in enumerate(texts)}
        vectors = space.encode([Text(text) if text.strip() else Text("nothing") for text in texts])
        rows: NDArray[np.float32] = np.stack([_vector(space, value) for value in inputs])
        return [float(v) for v in (rows * vectors[[place[text] for text in outputs]]).sum(axis=1)]

    return cosine


def _vector(space: Space, value: Any) -> NDArray[np.float32]:
    import numpy as np

    if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim == 1:
        return value.astype(np.float32)
    return space.encode([value])[0]


def scored(judge: Judge, inputs: Sequence[Any], outputs: Sequence[str]) -> NDArray[np.float64]:
    """(n,) the judge's scores. Raises InvalidInput unless there is a finite one for each output."""
    import numpy as np

    scores = np.asarray(list(judge(inputs, outputs)), np.float64)
    if scores.shape != (len(outputs),) or not np.isfinite(scores).all():
        raise InvalidInput(
            f"the judge returned scores of shape {scores.shape} for {len(outputs)} outputs; it must return one finite "
            "number for each"
        )
    return scores


def best_and_worst(inputs: Sequence[Any], samples: Sequence[Sequence[str]], judge: Judge) -> list[Preference]:
    """Of each input's samples the best against the worst; inputs whose samples are all the same are left out.

    Args:
        inputs: n inputs.
        samples: Of each, some outputs.
        judge: Scores them.
    """
    flat = [(value, text) for value, texts in zip(inputs, samples, strict=True) for text in texts]
    scores = scored(judge, [value for value, _ in flat], [text for _, text in flat])
    preferences, start = [], 0
    for value, texts in zip(inputs, samples, strict=True):
        own = scores[start : start + len(texts)]
        start += len(texts)
        best, worst = texts[int(own.argmax())], texts[int(own.argmin())]
        if best != worst:
            preferences.append(Preference(value, best, worst))
    return preferences
