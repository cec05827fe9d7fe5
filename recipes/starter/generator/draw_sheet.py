"""Renders a sheet of 48 generated images for the model card: four per prompt, by seed or by kind of prompt."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from recipes.starter.generator.judge_draw import Judge

COLUMNS, ENLARGED, LINE, GAP = 8, 2, 16, 6
PLAIN = (
    "cat", "strawberry", "guitar", "rocket", "tree", "bicycle", "pizza", "owl",
    "house", "umbrella", "fire", "octopus",
)  # fmt: skip
SEEDED = ("a cat", "a rocket")  # four seeds of each
DYED = (
    "a blue strawberry", "a green cat", "a purple guitar", "a pink tree", "an orange owl", "a red house",
    "a black rocket", "a yellow octopus",
)  # fmt: skip
PAIRED = (
    "a cat and a pizza", "a dog and a guitar", "a tree and a house", "a rocket and an owl", "a fish and an umbrella",
    "a rose and a bicycle", "a bear and a strawberry", "a ghost and a balloon",
)  # fmt: skip
SIZED = ("a small cat", "a large cat", "a tiny red heart", "a big blue heart")
BETWEEN = (("a cat", "a dog"), ("an apple", "a banana"))  # four along the sphere


def prompts() -> list[tuple[str, int]]:
    """(text, seed) of the images with a text prompt."""
    results = [(words, 3) for words in PLAIN]
    results += [(words, seed) for words in SEEDED for seed in (1, 2, 3, 4)]
    return results + [(words, 3) for words in (*DYED, *PAIRED, *SIZED)]


def along(first: torch.Tensor, last: torch.Tensor, count: int) -> torch.Tensor:
    """`count` unit rows from one unit vector to another, evenly along the sphere."""
    angle = torch.arccos((first @ last).clamp(-1, 1))
    share = torch.linspace(0, 1, count)[:, None]
    rows = (torch.sin((1 - share) * angle) * first + torch.sin(share * angle) * last) / torch.sin(angle)
    return rows


def run(judge: Judge, file: Path) -> None:
    """Draw it and write it."""
    prompts_and_seeds = prompts()
    drawn = [judge.draw(judge.model.encode([words]), seed)[0] for words, seed in prompts_and_seeds]
    titles = [words if words not in SEEDED else f"{words}, seed {seed}" for words, seed in prompts_and_seeds]
    for first, last in BETWEEN:
        ends = judge.model.encode([first, last])
        drawn += [judge.draw(row[None], 3)[0] for row in along(ends[0], ends[1], 4)]
        titles += [first, *[f"{first} … {last}"] * 2, last]
    side = 64 * ENLARGED
    rows = -(-len(drawn) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (side + GAP) + GAP, rows * (side + LINE + GAP) + GAP), "white")
    font = ImageFont.load_default(size=11)
    for place, (image, title) in enumerate(zip(drawn, titles, strict=True)):
        left, top = GAP + place % COLUMNS * (side + GAP), GAP + place // COLUMNS * (side + LINE + GAP)
        pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
        sheet.paste(Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS), (left, top))
        ImageDraw.Draw(sheet).text((left + 2, top + side + 1), title, fill="#333", font=font)
    sheet.save(file, quality=88, optimize=True)
