"""The starter's image tower with convolutions in int8: time and worst cosines by how many stay in float32.

    python -m benchmarks.exports.int8_images

Plain images are the worst case of int8. Those of this benchmark are others than those by which an export calibrates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import multimodal as mm
from multimodal.core.items import Image
from multimodal.core.modality import Modality
from multimodal.exporting import graph, trial
from multimodal.exporting.export import _calibration, _config
from multimodal.exporting.towers import spec

PLAIN = 68
SIDE = 64


def plain_images(n: int, seed: int = 1) -> list[NDArray[np.uint8]]:
    """Flat colours, gradients, checkerboards, stripes, noise and discs in random colours."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE][..., None]
    images = []
    for number in range(n):
        first, second = rng.integers(0, 256, (2, 1, 1, 3))
        step = rng.integers(1, 17)
        masks = [
            np.zeros((SIDE, SIDE, 1)),
            columns / (SIDE - 1),
            (columns // step + rows // step) % 2,
            (columns * rng.normal() + rows * rng.normal()) // step % 2,
            rng.normal(0, rng.choice([0.02, 0.1, 0.3]), (SIDE, SIDE, 3)),
            (columns - 32) ** 2 + (rows - 32) ** 2 < rng.integers(10, 900),
        ]
        levels = first + (second - first) * masks[number % len(masks)]
        images.append(np.clip(levels, 0, 255).astype(np.uint8))
    return images


def main() -> None:
    space = mm.load("starter")
    encoder = space.encoders[Modality.IMAGE]
    tower = spec(encoder)
    model = graph.to_onnx(tower)
    gallery = trial.default_sample(Modality.IMAGE)
    items = [*gallery, *map(Image, trial.plain_images())]
    batches = list(_calibration(tower, Modality.IMAGE, items))
    unseen = [Image(pixels) for pixels in plain_images(PLAIN)]
    models: dict[str, Any] = {f"{n} in float32": graph.static(model, batches, n) for n in range(5)}
    models |= {kind: graph.with_weights(model, kind) for kind in (graph.INT8, graph.FLOAT32)}
    print("| | MB | ms | worst cosine, unseen plain images | gallery |\n| --- | ---: | ---: | ---: | ---: |")
    for name, candidate in models.items():
        files = {"image.onnx": candidate.SerializeToString()}
        config = _config(encoder, tower, "image.onnx", list(files), name, files["image.onnx"])
        results = [
            trial.run_trial(config, files, chosen, encoder.encode(chosen)) for chosen in (unseen, gallery)
        ]
        print(f"| {name} | {len(files['image.onnx']) / 1e6:.2f} | {min(result.item_ms for result in results):.2f} | "
              f"{results[0].worst_cosine:.4f} | {results[1].worst_cosine:.4f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
