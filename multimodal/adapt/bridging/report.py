"""The result of a bridge: the joined space and its quality on held-out items."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from multimodal.core.space import Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RANKS = (1, 5, 10)
TRUSTED = 0.5  # recall@10 on held-out items, rescaled so that chance is 0


class PoorBridge(UserWarning):
    """Warns that recall on the held-out items is low, so that the bridge should not be relied on."""


@dataclass(frozen=True)
class BridgeReport:
    """How a bridge was built, and its quality.

    Attributes:
        method: "kernel", "ridge", "procrustes" or "mlp".
        over: The modality that both spaces encode.
        modalities: The modalities that were added.
        n_texts: Distinct corpus items that were used, including held-out ones.
        n_held_out: Corpus items held out for evaluation.
        media: Number of unpaired items of each modality.
        recall: Recall (0 to 1) at 1, 5 and 10 on the held-out items, {"R@1": …, "R@5": …, "R@10": …}: the share whose
            projected vector has its own target vector among the nearest.
        known: The same on as many training items, each first perturbed to a cosine of 0.8, about as far as audio is
            from its text. It measures how well content that the corpus names is mapped.
        before: Recall of a random projection on the held-out items.
        chance: Expected recall of guessing.
        trusted: Whether R@10 is at least half-way from chance to perfect. It measures the shared modality; the quality
            of the others depends on how close they are to it in their own space.
        scale: Logit scale between the added modalities and those of the target space, fitted on the held-out items.
        seconds: Duration of the job.
        seed: Seed of all random choices.
        warnings: Further notes.
    """

    method: str
    over: str
    modalities: tuple[str, ...]
    n_texts: int
    n_held_out: int
    media: Mapping[str, int]
    recall: Mapping[str, float]
    known: Mapping[str, float]
    before: Mapping[str, float]
    chance: Mapping[str, float]
    trusted: bool
    scale: float
    seconds: float
    seed: int
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Converts the report to plain values, from which `BridgeReport.from_dict` restores it.

        Returns:
            JSON values.
        """
        return asdict(self) | {"modalities": list(self.modalities), "warnings": list(self.warnings)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BridgeReport:
        """Restores a report.

        Args:
            values: What `to_dict` returned.

        Returns:
            The report.
        """
        lists = {key: tuple(values[key]) for key in ("modalities", "warnings")}
        return cls(**{**values, **lists})

    def __str__(self) -> str:
        shown = ", ".join(f"{name} {share:.1%}" for name, share in self.recall.items())
        verdict = "trusted" if self.trusted else "not trusted"
        return (
            f"{' and '.join(self.modalities)} aligned through {self.over} ({self.method}): {shown} on "
            f"{self.n_held_out:,} held-out items (before: R@10 {self.before['R@10']:.1%}); {verdict}"
        )

    def _repr_html_(self) -> str:
        head = "<tr><th></th>" + "".join(f"<th>R@{k}</th>" for k in RANKS) + "</tr>"
        rows = "".join(
            f"<tr><td>{name}</td>" + "".join(f"<td>{share:.1%}</td>" for share in shares.values()) + "</tr>"
            for name, shares in (
                ("after", self.recall),
                ("known", self.known),
                ("before", self.before),
                ("chance", self.chance),
            )
        )
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.warnings)
        return f"<p>{html.escape(str(self))}</p><table>{head}{rows}</table><ul>{notes}</ul>"


@dataclass(frozen=True)
class Bridge:
    """The result of `bridge`.

    Attributes:
        space: The joined space, with the unchanged encoders of the target space.
        report: Its quality.
    """

    space: Space
    report: BridgeReport

    def _repr_html_(self) -> str:
        return self.space._repr_html_() + self.report._repr_html_()


def recall(queries: NDArray[np.float32], gallery: NDArray[np.float32]) -> dict[str, float]:
    """Recall at 1, 5 and 10 of unit rows (n, dim) against unit rows (n, dim) that match by position.

    Ties count as misses, so that a map to a single point has a recall of 0.
    """
    import numpy as np

    ranks = []
    for start in range(0, len(queries), 1024):
        cosines = queries[start : start + 1024] @ gallery.T
        rows = np.arange(len(cosines))
        own = cosines[rows, start + rows]
        cosines[rows, start + rows] = -np.inf
        ranks.append((cosines >= own[:, None]).sum(axis=1))
    rank = np.concatenate(ranks)
    return {f"R@{k}": round(float((rank < k).mean()), 4) for k in RANKS}


def chance(n: int) -> dict[str, float]:
    """Expected recall of guessing among n."""
    return {f"R@{k}": round(min(1.0, k / n), 4) for k in RANKS}


def is_trusted(measured: Mapping[str, float], n: int) -> bool:
    """See BridgeReport.trusted."""
    expected = min(1.0, 10 / n)
    return expected < 1 and (measured["R@10"] - expected) / (1 - expected) >= TRUSTED
