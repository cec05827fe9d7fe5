"""A text model that shares no base with the starter: word vectors from the glosses of WordNet alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multimodal.core.backends.runtime import Runtime
from multimodal.core.encoder import Encoder
from multimodal.core.items import Item
from multimodal.core.modality import Modality

GLOSS_DIM, FEWEST_GLOSSES = 100, 5
GLOSS_FILES = ("data.noun", "data.verb", "data.adj", "data.adv")


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
            for word in sorted(set(words)):
                counts[word] = counts.get(word, 0) + 1
        kept = [word for word, count in counts.items() if count >= FEWEST_GLOSSES]
        self.places = {word: row for row, word in enumerate(kept)}
        cells = [
            (self.places[word], column)
            for column, words in enumerate(glosses)
            for word in sorted(set(words))
            if word in self.places
        ]
        rows, columns = np.array(cells).T
        by_word, by_gloss = np.bincount(rows), np.bincount(columns, minlength=len(glosses))
        information = np.log(len(cells) / (by_word[rows] * by_gloss[columns]))
        matrix = csr_matrix((np.maximum(information, 0), (rows, columns)), shape=(len(kept), len(glosses)))
        left, values, _ = randomized_svd(matrix, GLOSS_DIM, n_iter=8, random_state=0)
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
