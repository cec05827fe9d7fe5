"""What checks share: the model under audit, retrieval of damaged items, intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from multimodal.auditing.generators.audio import RATE_HZ
from multimodal.auditing.material import Material
from multimodal.core.items import Audio, Image, Item, Text
from multimodal.core.modality import Modality
from multimodal.core.space import Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.float32]
    Pixels = NDArray[np.uint8]

BATCH = 64
MARGIN = 0.10  # above chance that a probe must reach


class NotTested(Exception):
    """A check that cannot be made on this model or material; the message says why."""


@dataclass
class Subject:
    """The model under audit, with what it is tested on and vectors that several checks need.

    Attributes:
        space: The model.
        material: Images and clips.
        severities: Of damage.
        permutations: Of permutation tests.
        seed: Of everything random.
        is_full: The full grade.
        report: Called with the number of items encoded.
    """

    space: Space
    material: Material
    severities: tuple[int, ...] = (1, 3, 5)
    permutations: int = 2000
    seed: int = 0
    is_full: bool = False
    report: Callable[[int], None] = field(default=lambda count: None)
    _cache: dict[str, Any] = field(default_factory=dict)

    def needs(self, *modalities: Modality) -> None:
        """Raises NotTested unless the space encodes these modalities."""
        for modality in modalities:
            if modality not in self.space.modalities:
                raise NotTested(f"the space encodes no {modality}")

    def encode(self, items: Sequence[Item]) -> Rows:
        """Unit rows (n, dim)."""
        return self.space.encode(list(items), batch_size=BATCH, progress=self.report)

    def images(self, stack: Sequence[Pixels]) -> Rows:
        """Unit rows of RGB arrays."""
        return self.encode([Image(pixels) for pixels in stack])

    def texts(self, texts: Sequence[str]) -> Rows:
        """Unit rows of texts, as queries."""
        return self.space.query_space.encode(
            [Text(text) for text in texts], batch_size=BATCH, progress=self.report
        )

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        """What `make` returned the first time."""
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def clean_images(self) -> Rows:
        """The vectors of the images as they are."""
        return self.once("images", lambda: self.images(self.material.images))  # type: ignore[no-any-return]

    def clean_clips(self) -> Rows:
        """The vectors of the clips as they are."""
        return self.once("clips", lambda: self.encode(list(map(clip_item, self.material.clips))))  # type: ignore[no-any-return]


def clip_item(samples: Any) -> Audio:
    """A clip as an item."""
    return Audio({"array": samples, "sampling_rate": RATE_HZ})


def interval(values: Any, seed: int = 0) -> tuple[float, float, float]:
    """The mean of values of each item, with its 95 % bootstrap interval; Wilson's where all agree."""
    import numpy as np

    from multimodal.evaluation.figure import Resampling, mean

    own = np.asarray(values, dtype=np.float64)
    resampling = Resampling(len(own), seed=seed)
    is_share = bool(np.isin(own, (0.0, 1.0)).all())
    figure = resampling.share(own) if is_share else resampling.figure(mean(own))
    low = figure.value if figure.low is None else figure.low
    high = figure.value if figure.high is None else figure.high
    return figure.value, low, high


def nearest(queries: Rows, gallery: Rows) -> NDArray[np.int64]:
    """The place of the nearest gallery row of each query, (n,)."""
    import numpy as np

    return np.asarray((queries @ gallery.T).argmax(1))


def distinct_names(names: Sequence[str | None]) -> tuple[list[int], list[str]]:
    """The places of the items that have a name of their own, and those names."""
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        if name:
            places.setdefault(name, place)
    return list(places.values()), list(places)
