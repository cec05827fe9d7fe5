"""Things over real photographs, turned and saved as JPEG: what the starter finds there.

    python -m recipes.starter.figures.photo_backgrounds --work RUNS

The photographs are the samples of matplotlib (grace_hopper) and scikit-learn (china, flower). They are evaluated on
and are not used in training or for any choice. Every concept is drawn once at 224 pixels, over a random crop, as a
file that `multimodal` decodes and resizes like any other.
"""

from __future__ import annotations

import argparse
import io
import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from multimodal.encoders.starter.preprocessing import resize_to_square
from recipes.starter.figures import evaluate, evaluation_rows

ASSETS = Path(__file__).parents[3] / "assets" / "starter"
SIDE = 224  # pixels of a scene
CROP = (0.35, 1.0)  # of the photograph's shorter edge
SIZE = (0.45, 0.9)  # of the scene's side
DEGREES = 15.0
QUALITY = (60, 90)  # of JPEG
SEED = 2026


def photographs() -> list[Image.Image]:
    """The sample photographs of matplotlib and scikit-learn."""
    import matplotlib
    from sklearn.datasets import load_sample_images

    hopper = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    return [Image.open(hopper).convert("RGB"), *map(Image.fromarray, load_sample_images().images)]


def cropped(photograph: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A random square of a photograph, SIDE pixels wide."""
    edge = round(min(photograph.size) * rng.uniform(*CROP))
    left, top = (int(rng.integers(0, length - edge + 1)) for length in photograph.size)
    return photograph.resize((SIDE, SIDE), Image.Resampling.BICUBIC, (left, top, left + edge, top + edge))


def composed(glyph: np.ndarray, ground: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """A drawing (h, w, 4) uint8 over a photograph, after JPEG: (SIDE, SIDE, 3) uint8."""
    edge = round(SIDE * rng.uniform(*SIZE))
    thing = Image.fromarray(glyph).convert("RGBa").resize((edge, edge), Image.Resampling.BICUBIC)
    thing = thing.rotate(rng.uniform(-DEGREES, DEGREES), Image.Resampling.BICUBIC, expand=True).convert(
        "RGBA"
    )
    room = [max(0, SIDE - length) for length in thing.size]
    scene = ground.copy()
    scene.paste(thing, (int(rng.integers(room[0] + 1)), int(rng.integers(room[1] + 1))), thing)
    buffer = io.BytesIO()
    scene.save(buffer, "JPEG", quality=int(rng.integers(QUALITY[0], QUALITY[1] + 1)))
    return np.asarray(Image.open(buffer).convert("RGB"))


@lru_cache(maxsize=2)
def images(work: Path, artist: str = "noto", seed: int = SEED) -> Tensor:
    """uint8 (concepts, 3, 64, 64): every concept once over a photograph, as the image tower sees it."""
    rng, grounds = np.random.default_rng(seed), photographs()
    return torch.stack(
        [
            resize_to_square(composed(glyph, cropped(grounds[rng.integers(len(grounds))], rng), rng))
            for glyph in np.load(work / "glyphs.npz")[artist]
        ]
    )


def figures(model: evaluate.Shipped, work: Path, artist: str = "noto") -> dict[str, evaluate.Recall]:
    """Recall of the images over photographs by names, Unicode names and speech."""
    pictures = evaluation_rows.pictures(images(work, artist))
    shown, names = evaluation_rows.numbered("image", pictures), evaluation_rows.numbered("text", model.names)
    official = [
        (concept.unicode_name, row) for row, concept in enumerate(model.world) if concept.unicode_name
    ]
    asked = evaluation_rows.numbered("text", [name for name, _ in official], [row for _, row in official])
    spoken = evaluate.spoken_rows(evaluation_rows.clips(work, "espeak0"))
    lines = {
        "name -> picture, photographs": (names, "text", "image"),
        f"Unicode name ({len(asked)}) -> picture, photographs": (asked, "text", "image"),
        "speech, unseen voices -> picture, photographs": (spoken, "audio", "image"),
        "picture, photographs -> name": (names, "image", "text"),
    }
    return {
        title: evaluate.recall_of(model.retrieval(shown + other, query, gallery))
        for title, (other, query, gallery) in lines.items()
    }


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="where the recipe keeps its data")
    parser.add_argument("--folder", type=Path, default=ASSETS, help="the starter")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(figures(evaluate.Shipped(given.folder, given.work), given.work), indent=1))


if __name__ == "__main__":
    main()
