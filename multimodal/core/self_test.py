"""`space.self_test()`: a self-test at load. Catches what loads without an error and gives wrong vectors all the same.

For each modality eight drawn things (`_check_items`) are encoded: together, together once more, and one by one. The
checks, each with what was measured and what is allowed:

    vectors    they come out, finite, of length one               | |v| - 1 |, the largest
    repeat     the same things again give the same vectors        largest difference; none at all on a CPU
    batch      alone or among eight, a thing has one vector       largest difference
    distinct   different things have different vectors            cosine, the median of all pairs

and for each head:

    scale      cosines become probabilities at a sane scale       the head's scale
    bias       and do not vanish under its bias                   |bias| / scale

A check that rests on another that failed is left out: of vectors that are random, nothing is said about batches.
Knows no model, and not what a good vector is: that is for the tests of its family and for benchmarks.
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
    "repeat": "the same things twice, the same vectors",
    "batch": "alone or among eight, one vector",
    "distinct": "different things, different vectors",
    "scale": "of cosines, for probabilities",
    "bias": "of probabilities, against their scale",
}
CURES = {
    "vectors": "the family's forward gives what it must not",
    "repeat": "something in prepare or forward is random or remembers: set the net to eval(), and take no random crop",
    "batch": "what else is in a batch changes a vector: mask the padding, or keep each item's own length",
    "distinct": "its weights did not load, or its tokenizer or preprocessing is another model's: load it again with "
    "the files it came with",
    "scale": "it may be a logarithm still (take its exp), a temperature (take its inverse), or untrained",
    "bias": "every probability would be 0 or 1: compare scale and bias with those of the checkpoint",
}


@dataclass(frozen=True)
class Check:
    """One thing that must hold. limit: the least and the most that is allowed. cure: what to look for if it does not
    hold, else "". measured is None where there was nothing to measure, because encoding raised."""

    name: str
    ok: bool
    measured: float | None
    limit: tuple[float, float]
    cure: str = ""

    @property
    def about(self) -> str:
        """What is claimed, in a few words."""
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
    """What a self-test found. seconds: for one item of each modality, in a batch of eight, once warm."""

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
        """Plain values, ready for JSON."""
        checks = [check.to_dict() for check in self.checks]
        return {"space": self.space, "ok": self.ok, "checks": checks, "seconds": dict(self.seconds)}

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{'✓' if one.ok else '✗'}</td><td>{html.escape(one.name)}</td><td>{html.escape(one.about)}</td>"
            f"<td>{shown(one.measured)}</td><td>{one.allowed}</td><td>{html.escape(one.cure)}</td></tr>"
            for one in self.checks
        )
        times = ", ".join(f"{modality} {1000 * one:.1f} ms" for modality, one in self.seconds.items())
        head = "<tr><th></th><th>check</th><th></th><th>measured</th><th>allowed</th><th>cure</th></tr>"
        return f"<b>{html.escape(self.space)}</b><table>{head}{rows}</table><p>an item: {times}</p>"


def shown(value: float | None) -> str:
    """A number in a table: three figures, and an exponent where it is small."""
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

        from multimodal.core import self_test_items

        items = self_test_items.items(self.modality)
        try:
            together = self.encoder.encode(items, batch_size=len(items))
            began = time.perf_counter()
            again = self.encoder.encode(items, batch_size=len(items))
            seconds[str(self.modality)] = (time.perf_counter() - began) / len(items)
            alone = self.encoder.encode(items, batch_size=1)
        except Exception as error:  # whatever a model raises is what the test found
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
