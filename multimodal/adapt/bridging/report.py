"""What a bridge is when it is done: the joined space, and how good it is on texts it never saw."""

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
TRUSTED = 0.5  # of the held-out, found among the first ten, beyond what guessing finds


class PoorBridge(UserWarning):
    """A bridge was made that finds too few of the held-out texts to be trusted."""


@dataclass(frozen=True)
class BridgeReport:
    """How a bridge was made and what it is worth.

    recall: the share (0 to 1) of `n_held_out` texts, none of which was learned from, whose vector of the first space,
    projected, has its own vector of the second space among the nearest 1, 5 and 10 of theirs: {"R@1": …, "R@5": …,
    "R@10": …}. known: the same for as many that were learned from, each vector first disturbed to a cosine of 0.8, as
    far as a sound may lie from its text: what comes over of the things that the corpus names. before: the same as
    recall through a projector that has learned nothing. chance: what guessing finds.
    n_texts: different texts used, the held-out ones among them (items, where the bridge is over another modality).
    modalities: what was brought over. media: how many unpaired items of each modality took part.
    trusted: whether R@10 lies at least half-way from chance to perfect. It judges the modality that was bridged over;
    how well the others follow depends on how close they lie to it in their own space.
    scale: of the head given to what was brought over, the best for the held-out. warnings: what else should be known.
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
        """Plain values, ready for JSON; `BridgeReport.from_dict` takes them back."""
        return asdict(self) | {"modalities": list(self.modalities), "warnings": list(self.warnings)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BridgeReport:
        """The report whose `to_dict` gave `values`."""
        lists = {key: tuple(values[key]) for key in ("modalities", "warnings")}
        return cls(**{**values, **lists})

    def __str__(self) -> str:
        shown = ", ".join(f"{name} {share:.1%}" for name, share in self.recall.items())
        verdict = "trusted" if self.trusted else "not to be trusted"
        return (
            f"{' and '.join(self.modalities)} brought over by {self.over} ({self.method}): {shown} of "
            f"{self.n_held_out:,} held-out (before: R@10 {self.before['R@10']:.1%}); {verdict}"
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
        notes = "".join(f"<li>{html.escape(one)}</li>" for one in self.warnings)
        return f"<p>{html.escape(str(self))}</p><table>{head}{rows}</table><ul>{notes}</ul>"


@dataclass(frozen=True)
class Bridge:
    """The joined space and its report. The second space's encoders are in it as they were, untouched."""

    space: Space
    report: BridgeReport

    def _repr_html_(self) -> str:
        return self.space._repr_html_() + self.report._repr_html_()


def recall(queries: NDArray[np.float32], gallery: NDArray[np.float32]) -> dict[str, float]:
    """Unit rows (n, dim) against unit rows (n, dim), row k belonging to row k -> share found at 1, 5, 10.

    A row that is as near as the right one counts as nearer: a map that sends all to one point finds nothing.
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
    """What guessing finds among n."""
    return {f"R@{k}": round(min(1.0, k / n), 4) for k in RANKS}


def is_trusted(found: Mapping[str, float], n: int) -> bool:
    """See BridgeReport.trusted."""
    guessed = min(1.0, 10 / n)
    return guessed < 1 and (found["R@10"] - guessed) / (1 - guessed) >= TRUSTED
