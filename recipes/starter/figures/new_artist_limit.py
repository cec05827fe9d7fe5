"""What limits adapting the starter to an artist it never saw.

    python -m recipes.starter.figures.new_artist_limit WORK

A linear map of image vectors, kept near the identity, is fitted to OpenMoji's drawings of some of the things and judged
on the others; the strength is chosen by cross-validation over the trained things. The share of things trained is
varied. For comparison: how often a drawing on a background is nearest to the same drawing on white, which needs no
other thing to be known.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from recipes.starter.figures import evaluate, judges
from recipes.starter.figures.new_artist import judged_images, views

ASSETS = Path(__file__).parents[3] / "assets" / "starter"
SHARES = (0.3, 0.6, 0.9)  # of the things whose drawings are trained
STRENGTHS = (30.0, 100.0, 300.0, 1000.0, 3000.0)
FOLDS, SEEDS, VIEWS = 5, 5, 2

Rows = NDArray[np.float32]


def near_identity(inputs: Rows, targets: Rows, strength: float) -> Rows:
    """The map A (dim, dim) of least |inputs A - targets|² + strength |A - I|²."""
    unit = strength * np.eye(inputs.shape[1], dtype=np.float32)
    return np.asarray(np.linalg.solve(inputs.T @ inputs + unit, inputs.T @ targets + unit), np.float32)


class Drawings:
    """Vectors of the artist's drawings and of the names of all things.

    Attributes:
        things: The things that the artist draws (n).
        white: Their drawings on white (n, dim).
        views: Their drawings on training backgrounds (VIEWS, n, dim).
        ground: The starter's own world on unseen backgrounds (names, dim).
        names: Vectors of all names (names, dim).
    """

    def __init__(self, work: Path) -> None:
        model = evaluate.Shipped(ASSETS, work)

        def encoded(pixels: NDArray[np.uint8]) -> Rows:
            batch = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)
            return np.array(judges.see(model.image, batch).numpy())

        self.names = model.name_vectors.numpy()
        self.things = np.array(judges.drawn_by_openmoji(work))
        self.white = encoded(judged_images(work, "openmoji")[self.things])
        self.views = encoded(views(work, "openmoji", self.things, 0, count=VIEWS))
        self.views = self.views.reshape(VIEWS, len(self.things), -1)
        self.ground = encoded(judged_images(work, "ground"))

    def fitted(self, rows: NDArray[np.int64], strength: float) -> Rows:
        """The map fitted on the drawings of some of the things."""
        inputs = np.concatenate([self.white[rows], *self.views[:, rows]])
        return near_identity(inputs, np.tile(self.names[self.things[rows]], (1 + VIEWS, 1)), strength)

    def right(self, rows: NDArray[np.int64], change: Rows | None = None) -> float:
        """Share of drawings on white whose nearest name is their own."""
        vectors = self.white[rows] if change is None else self.white[rows] @ change
        return float(((vectors @ self.names.T).argmax(axis=1) == self.things[rows]).mean())

    def strength(self, rows: NDArray[np.int64]) -> float:
        """The best strength by cross-validation over the trained things."""
        parts = np.array_split(rows, FOLDS)

        def score(value: float) -> float:
            return float(
                np.mean([self.right(part, self.fitted(np.setdiff1d(rows, part), value)) for part in parts])
            )

        return max(STRENGTHS, key=score)


def run(work: Path) -> dict[str, object]:
    """Percent and points, the mean and the extremes over SEEDS choices of the things."""
    drawings = Drawings(work)
    everything = np.arange(len(drawings.things))
    own = np.arange(len(drawings.ground))
    old = float(((drawings.ground @ drawings.names.T).argmax(axis=1) == own).mean())
    gains: dict[str, dict[str, float]] = {}
    for share in SHARES:
        new_gains, old_gains = [], []
        for seed in range(SEEDS):
            order = np.random.default_rng(seed).permutation(everything)
            trained, judged = np.split(order, [round(share * len(order))])
            change = drawings.fitted(trained, drawings.strength(trained))
            new_gains.append(100 * (drawings.right(judged, change) - drawings.right(judged)))
            kept = ((drawings.ground @ change @ drawings.names.T).argmax(axis=1) == own).mean()
            old_gains.append(100 * (float(kept) - old))
        gains[f"{share:.0%} of the things trained"] = {
            "other things, points": round(float(np.mean(new_gains)), 1),
            "lowest": round(min(new_gains), 1),
            "highest": round(max(new_gains), 1),
            "own world on unseen backgrounds, points": round(float(np.mean(old_gains)), 1),
        }
    nearest = (drawings.views[0] @ drawings.white.T).argmax(axis=1)
    return {
        "drawing -> name, percent": round(100 * drawings.right(everything), 1),
        "drawing on a background -> the same on white, percent": round(
            100 * float((nearest == everything).mean()), 1
        ),
        **gains,
    }


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    torch.set_num_threads(1)
    print(json.dumps(run(parser.parse_args().work), indent=1))


if __name__ == "__main__":
    main()
