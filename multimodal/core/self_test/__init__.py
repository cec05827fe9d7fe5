"""`space.self_test()`: checks for defects that load without an error and still give wrong vectors.

Eight synthetic items of each modality (`synthetic`) are encoded three times: twice in one batch, then one by one.
The checks, with what is measured and what is allowed:

    vectors    finite, of length one                              largest | |v| - 1 |
    repeat     the same batch twice gives the same vectors        largest difference; 0 on a CPU
    batch      a vector does not depend on the rest of its batch  largest difference
    distinct   different items have different vectors             median cosine of all pairs

and for each logit scale:

    scale      in the range of models in use                      the scale
    bias       not so large that every probability vanishes       |bias| / scale

A check that depends on a failed one is skipped: batch invariance is undefined for vectors that are not repeatable.
Quality is not tested here; the tests of each family and the benchmarks do that.
"""

from __future__ import annotations

import html
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from multimodal.core.encoder import Encoder
from multimodal.core.errors import MultimodalError
from multimodal.core.logit_scale import LogitScale
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.core.space import Space

    Vectors = NDArray[np.float32]

# Largest difference of one number in vectors of length one. Measured on a CPU, with the starter, a ViT-B-32 and tiny
# checkpoints of 19 architectures of transformers: 4e-7 in float32, 6e-3 in bfloat16.
FLOAT32_LIMIT, BFLOAT16_LIMIT = 1e-5, 1e-2
UNIT_LIMIT = 1e-5
# Half of all pairs closer than this: the tower has collapsed, or its input is not what it was trained on.
DISTINCT_LIMIT = 0.99
SCALES = (5.0, 1_000.0)  # of models in use: 14 to 120. Their logarithms: 2.6 to 4.8
BIAS_LIMIT = 1.0

ABOUT = {
    "vectors": "finite, of length one",
    "repeat": "deterministic: the same batch twice",
    "batch": "batch-invariant: alone or among eight",
    "distinct": "different items, different vectors",
    "scale": "the scale of cosines for probabilities",
    "bias": "the bias relative to the scale",
}
CURES = {
    "vectors": "the family's forward must return finite rows (n, dim)",
    "repeat": "something in prepare or forward is random or keeps state: set the net to eval(), and avoid random crops",
    "batch": "the rest of a batch changes a vector: mask the padding, or keep the length of each item",
    "distinct": "its weights did not load, or its tokenizer or preprocessing is another model's: load it again with "
    "the files it came with",
    "scale": "it may be a logarithm (take its exp), a temperature (take its inverse), or untrained",
    "bias": "every probability would be 0 or 1: compare scale and bias with those of the checkpoint",
}


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: The modality or pair, and the check: "text repeat".
        ok: Whether it passed.
        measured: The measured value; None if encoding raised.
        limit: The smallest and the largest value allowed.
        cure: What to look for if it failed, else "".
    """

    name: str
    ok: bool
    measured: float | None
    limit: tuple[float, float]
    cure: str = ""

    @property
    def about(self) -> str:
        """What is checked, in a few words."""
        return ABOUT[self.name.rpartition(" ")[2]]

    @property
    def allowed(self) -> str:
        """The limit in words."""
        low, high = self.limit
        if low == high:
            return f"exactly {shown(high)}"
        return f"{shown(low)} to {shown(high)}" if low > 0 else f"at most {shown(high)}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self) | {"limit": list(self.limit), "about": self.about}


@dataclass(frozen=True)
class SelfTestReport:
    """The result of `Space.self_test`.

    Attributes:
        space: The name of the space.
        checks: The result of each check.
        seconds: Time per item of each modality, in a warm batch of eight.
    """

    space: str
    checks: tuple[Check, ...]
    seconds: Mapping[str, float]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that did not pass, in order."""
        return tuple(check for check in self.checks if not check.ok)

    def to_dict(self) -> dict[str, Any]:
        """Converts the report to plain values.

        Returns:
            JSON values.
        """
        checks = [check.to_dict() for check in self.checks]
        return {"space": self.space, "ok": self.ok, "checks": checks, "seconds": dict(self.seconds)}

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{'✓' if check.ok else '✗'}</td><td>{html.escape(check.name)}</td>"
            f"<td>{html.escape(check.about)}</td>"
            f"<td>{shown(check.measured)}</td><td>{check.allowed}</td><td>{html.escape(check.cure)}</td></tr>"
            for check in self.checks
        )
        times = ", ".join(f"{modality} {1000 * seconds:.1f} ms" for modality, seconds in self.seconds.items())
        head = "<tr><th></th><th>check</th><th></th><th>measured</th><th>allowed</th><th>cure</th></tr>"
        return f"<b>{html.escape(self.space)}</b><table>{head}{rows}</table><p>an item: {times}</p>"


def shown(value: float | None) -> str:
    """A number for a table, with three significant figures."""
    return "–" if value is None else f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def run_self_test(space: Space) -> SelfTestReport:
    """See Space.self_test."""
    checks: list[Check] = []
    seconds: dict[str, float] = {}
    for modality, encoder in space.encoders.items():
        checks += _Encoding(modality, encoder).checks(seconds)
    for pair, head in space.logit_scales.items():
        checks += _logit_scale_checks("all" if pair is None else "-".join(pair), head)
    return SelfTestReport(space.name, tuple(checks), seconds)


class _Encoding:
    """One encoder under test."""

    def __init__(self, modality: Modality, encoder: Encoder) -> None:
        self.modality, self.encoder = modality, encoder
        runtime = encoder.runtime
        on_cpu = runtime.torch_device.type == "cpu"
        decision = encoder.precision_decision
        rounded = runtime.cast.itemsize == 2 or (decision is not None and decision.bfloat16)
        self.loose = BFLOAT16_LIMIT if rounded else FLOAT32_LIMIT
        self.repeat_limit = 0.0 if on_cpu else self.loose

    def checks(self, seconds: dict[str, float]) -> Iterator[Check]:
        import numpy as np

        from multimodal.core.self_test import synthetic

        items = synthetic.items(self.modality)
        try:
            together = self.encoder.encode(items, batch_size=len(items))
            began = time.perf_counter()
            again = self.encoder.encode(items, batch_size=len(items))
            seconds[str(self.modality)] = (time.perf_counter() - began) / len(items)
            alone = self.encoder.encode(items, batch_size=1)
        except Exception as error:  # any error of the model is a result of the test
            yield self._check("vectors", None, UNIT_LIMIT, _reason(error))
            return
        lengths = [np.linalg.norm(rows, axis=1) for rows in (together, again, alone)]
        yield self._check("vectors", float(np.abs(np.concatenate(lengths) - 1).max()), UNIT_LIMIT)
        repeat = self._check("repeat", _apart(together, again), self.repeat_limit)
        yield repeat
        if repeat.ok:
            yield self._check("batch", _apart(together, alone), self.loose)
        pairs = np.triu_indices(len(items), k=1)
        yield self._check(
            "distinct", float(np.median((together @ together.T)[pairs])), DISTINCT_LIMIT, least=-1.0
        )

    def _check(
        self, name: str, measured: float | None, most: float, cure: str | None = None, least: float = 0.0
    ) -> Check:
        return _judged(f"{self.modality} {name}", measured, (least, most), cure or CURES[name])


def _logit_scale_checks(pair: str, head: LogitScale) -> Iterator[Check]:
    yield _judged(f"{pair} scale", head.scale, SCALES, CURES["scale"])
    if head.activation == "sigmoid":
        yield _judged(f"{pair} bias", abs(head.bias) / head.scale, (0.0, BIAS_LIMIT), CURES["bias"])


def _judged(name: str, measured: float | None, limit: tuple[float, float], cure: str) -> Check:
    rounding = 1e-6  # cosines of -1 and 1
    ok = measured is not None and limit[0] - rounding <= measured <= limit[1]
    return Check(name, ok, measured, limit, "" if ok else cure)


def _apart(a: Vectors, b: Vectors) -> float:
    import numpy as np

    return float(np.abs(a - b).max())


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, MultimodalError) else f"{type(error).__name__}: {error}"
