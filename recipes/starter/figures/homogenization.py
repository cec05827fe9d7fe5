"""Who fails with the starter: three children of it, and models that share no base with it.

    python -m recipes.starter.figures.homogenization --wordnet /usr/share/wordnet

The children are the starter with weights rounded to int8, fine-tuned, and a classifier of a few examples on its
vectors. The others are a small CNN that is trained from nothing, and histograms of gradients. All name the damaged
pictures of the gallery. The text model that is unrelated to the starter's teacher is made of the glosses of WordNet
alone (latent semantic analysis); without `--wordnet` that part is left out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import multimodal as mm
from multimodal.auditing.checks.answers import UNTRAINED, damaged_labels
from multimodal.auditing.checks.association import inheritance
from multimodal.auditing.checks.common import Subject
from multimodal.auditing.checks.joint import Answers, joint_failure
from multimodal.auditing.generators.images import KINDS, damage
from multimodal.auditing.material import gallery_material
from multimodal.core import serialization
from multimodal.core.backends.runtime import Runtime
from multimodal.core.encoder import Encoder, EncoderState
from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.core.space import Space

SIDE = 64
FINE_TUNING_STEPS, FINE_TUNING_BATCH = 60, 32
FINE_TUNING_DAMAGE = 2  # the severity of the pictures of fine-tuning, below those that are tested
CNN_STEPS, CNN_BATCH = 250, 64
GLOSS_DIM, FEWEST_GLOSSES = 100, 5
GLOSS_FILES = ("data.noun", "data.verb", "data.adj", "data.adv")


def rounded(space: Space, bits: int = 8) -> Space:
    """A space whose matrices are rounded to whole numbers of `bits` bits, row by row."""
    encoders = []
    for modality, encoder in space.encoders.items():
        tensors = {}
        for name, tensor in encoder.state_dict().items():
            values = tensor.float()
            if values.ndim > 1:
                axes = tuple(range(1, values.ndim))
                step = values.abs().amax(axes, keepdim=True).clamp_min(1e-8) / (2 ** (bits - 1) - 1)
                values = (values / step).round() * step
            tensors[name] = values.half()
        state = EncoderState(modality, encoder.config(), tensors, encoder.files())
        encoders.append(serialization.rebuild("starter", state, Runtime()))
    return Space(encoders, space.logit_scales, name=f"int{bits}")


class FromNothing:
    """A small CNN, trained on shifted, scaled and recoloured views of the pictures; a function of items."""

    def __init__(self, stack: Sequence[NDArray[np.uint8]], names: Sequence[str], seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.names = list(names)
        widths = (3, 24, 48, 96, 96)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [
                nn.Conv2d(before, after, 3, padding=1),
                nn.BatchNorm2d(after),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        self.net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(96 * 16, len(self.names)))
        images = torch.stack([as_tensor(pixels) for pixels in stack])
        optimiser = torch.optim.AdamW(self.net.parameters(), lr=2e-3, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=CNN_STEPS)
        for _ in range(CNN_STEPS):
            rows = torch.randint(len(images), (CNN_BATCH,))
            loss = nn.functional.cross_entropy(self.net(views(images[rows])), rows)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        self.net.eval()

    def __call__(self, items: Sequence[Any]) -> list[str]:
        """The name of each image."""
        with torch.inference_mode():
            logits = self.net(torch.stack([as_tensor(item.load()) for item in items]))
        return [self.names[row] for row in logits.argmax(1).tolist()]


def lightly_damaged(named: Sequence[tuple[mm.Image, str]], views_of_each: int = 3) -> list[tuple[Any, Any]]:
    """Pictures with damage of random kinds, and their names."""
    rng = np.random.default_rng(0)
    return [
        (
            mm.Image(damage(image.load(), str(rng.choice(list(KINDS))), FINE_TUNING_DAMAGE, view)),
            mm.Text(name),
        )
        for view in range(views_of_each)
        for image, name in named
    ]


def as_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """RGB (h, w, 3) as (3, SIDE, SIDE) in -1 to 1."""
    image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1).float() / 127.5 - 1
    return nn.functional.interpolate(image[None], (SIDE, SIDE), mode="area")[0]


def views(images: Tensor) -> Tensor:
    """Images (n, 3, h, w) shifted, scaled, mirrored, brighter or darker, and with noise."""
    n = len(images)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 + 0.3 * (torch.rand(n) - 0.5)
    theta[:, 0, 0] *= torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    theta[:, :, 2] = 0.3 * (torch.rand(n, 2) - 0.5)
    grid = nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
    moved = nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    scale, shift = 1 + 0.4 * (torch.rand(n, 1, 1, 1) - 0.5), 0.4 * (torch.rand(n, 3, 1, 1) - 0.5)
    return moved * scale + shift + 0.1 * torch.randn_like(moved)


class GlossEncoder(Encoder):
    """Texts as the mean of word vectors from the glosses of WordNet: positive pointwise information, and an SVD."""

    modality = Modality.TEXT
    dim = GLOSS_DIM
    net = None

    def __init__(self, folder: Path) -> None:
        from scipy.sparse import csr_matrix
        from sklearn.utils.extmath import randomized_svd

        self.runtime = Runtime()
        glosses = [words_of(text) for name in GLOSS_FILES for text in glosses_in(folder / name)]
        counts: dict[str, int] = {}
        for words in glosses:
            for word in set(words):
                counts[word] = counts.get(word, 0) + 1
        kept = [word for word, count in counts.items() if count >= FEWEST_GLOSSES]
        self.places = {word: row for row, word in enumerate(kept)}
        cells = [
            (self.places[word], column)
            for column, words in enumerate(glosses)
            for word in set(words)
            if word in self.places
        ]
        rows, columns = np.array(cells).T
        by_word, by_gloss = np.bincount(rows), np.bincount(columns, minlength=len(glosses))
        information = np.log(len(cells) / (by_word[rows] * by_gloss[columns]))
        matrix = csr_matrix((np.maximum(information, 0), (rows, columns)), shape=(len(kept), len(glosses)))
        left, values, _ = randomized_svd(matrix, GLOSS_DIM, random_state=0)
        self.vectors = (left * np.sqrt(values)).astype(np.float32)

    def prepare(self, items: Sequence[Item]) -> dict[str, Tensor]:
        """The mean vector of the known words of each text, (n, dim)."""
        rows = []
        for item in items:
            known = [self.places[word] for word in words_of(str(item.load())) if word in self.places]
            rows.append(self.vectors[known].mean(0) if known else np.full(self.dim, 1e-3, np.float32))
        return {"rows": torch.from_numpy(np.stack(rows))}

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["rows"]

    def config(self) -> dict[str, Any]:
        return {"words": len(self.places)}

    def state_dict(self) -> dict[str, Tensor]:
        return {"vectors": torch.from_numpy(self.vectors)}


def glosses_in(file: Path) -> list[str]:
    """The words and the gloss of each synset of a file of WordNet."""
    texts = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(" "):
            fields, _, gloss = line.partition("|")
            own = [part for part in fields.split()[4::2] if part[:1].isalpha()]
            texts.append(f"{' '.join(own).replace('_', ' ')} {gloss}")
    return texts


def words_of(text: str) -> list[str]:
    """Words in lower case without a plural s, so that few forms are lost."""
    return [word.removesuffix("s") for word in re.findall(r"[a-z]+", text.lower()) if len(word) > 2]


def pairs_with(answers: Answers, own: str) -> dict[str, dict[str, Any]]:
    """The joint failures of a model with each other one."""
    result = {}
    for name in answers.given:
        if name != own:
            pair = joint_failure(answers, own, name)
            result[name] = {
                "fail": [round(100 * pair.fail_first, 1), round(100 * pair.fail_second, 1)],
                "both": round(100 * pair.both, 1),
                "expected within kinds": round(100 * pair.expected_stratified, 1),
                "ratio within kinds": ends(pair.ratio, pair.ratio_low, pair.ratio_high),
                "ratio at matched accuracy": ends(pair.matched, pair.matched_low, pair.matched_high),
                "same wrong answer": ends(pair.same_wrong, pair.same_low, pair.same_high),
            }
    return result


def ends(*values: float | None) -> list[float | None]:
    return [None if value is None else round(value, 2) for value in values]


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wordnet", type=Path, help="the folder with data.noun")
    given = parser.parse_args()
    torch.set_num_threads(1)
    space, material, spent = mm.load("starter"), gallery_material(SIDE), {}
    names = [str(name) for name in material.image_names]
    named = [(mm.Image(pixels), name) for pixels, name in zip(material.images, names, strict=True)]
    subject = Subject(space, material, (3, 5))
    models: dict[str, Any] = {"starter": space, "int8": rounded(space)}
    makers = {
        "fine-tuned": lambda: mm.adapt.finetune(
            space,
            lightly_damaged(named),
            modality="image",
            steps=FINE_TUNING_STEPS,
            batch_size=FINE_TUNING_BATCH,
            eval_every=FINE_TUNING_STEPS // 2,
            interpolate=None,
        )[0],
        "probe": lambda: mm.adapt.few_shot(space, named),
        "CNN from nothing": lambda: FromNothing(material.images, names),
    }
    for name, make in makers.items():
        began = time.process_time()
        models[name] = make()
        spent[name] = round(time.process_time() - began)
    figures: dict[str, Any] = {"damaged pictures": pairs_with(damaged_labels(models, subject), "starter")}
    if given.wordnet is not None:
        stranger = Space([GlossEncoder(given.wordnet)], name="glosses of WordNet")
        found = inheritance(subject, {stranger.name: Subject(stranger, material)})
        figures["inherited"] = {
            finding.name: {
                "r": ends(finding.measured, finding.low, finding.high),
                "r with the unrelated model": round(finding.control_value, 2),
                **finding.details,
                "verdict": finding.verdict,
            }
            for finding in found
        }
    print(json.dumps(figures | {"core seconds of making": spent, "untrained": UNTRAINED}, indent=1))


if __name__ == "__main__":
    main()
