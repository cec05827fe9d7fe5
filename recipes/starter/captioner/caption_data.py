"""Training data of the captioner: vectors of text, images and speech by the finished towers, each with one caption.

A plain object is captioned by its name. Colour and size are included where they were stated ("a small blue
strawberry"), and two objects are in alphabetical order ("a dog and a pizza"), because a vector has no order. All
wordings and all modalities of a scene have the same caption.
"""

from __future__ import annotations

import json
import random
import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recipes.starter.captioner import captions
from recipes.starter.data.speech_augment import SpeechAugmenter
from recipes.starter.figures import evaluate
from recipes.starter.towers import train_photographs
from recipes.starter.towers.train_speech import FEWEST_FRAMES, MOST_FRAMES, pad_clips

IMAGE_BATCHES = 150
# Pictures in each: single things, scenes, single things in a stated colour; on the backgrounds of either training
ON_DRAWN, ON_NATURAL = (60, 60, 60), (44, 20, 12)
BACKGROUNDS = (6_000, 6_000)
REDRAWN = 3  # redrawn versions of every drawing
SPOKEN = 32_000
AS_IS = 0.3  # of the batches of speech are not augmented
TOLD = 24_000  # scenes in words
FREE = 6_000  # the most frequent words, each captioned as the nearest object
LEADS = ("a picture of", "an emoji of", "this is", "the", "one")
PARTS = ("texts", "images", "speech")
JOINTS = (" and ", " next to ", " with ")
SIZE_OF = {word: kind for kind, words in captions.SIZES.items() for word in words}


@dataclass(frozen=True)
class Bank:
    """Vectors (n, DIM) unit rows, the number of each one's caption, the captions, and which modality each row is of
    (its place in PARTS)."""

    vectors: Tensor
    said: Tensor
    captions: list[str]
    modality: Tensor


def describe(scene: captions.Scene, names: list[str], known: set[str]) -> str:
    """The one caption of a scene. known: the names, as a set."""
    phrases = []
    for subject in scene:
        colour = "" if subject.colour == captions.NONE else captions.COLOUR_NAMES[subject.colour]
        size = "" if subject.size == captions.NONE else captions.SIZE_NAMES[subject.size]
        phrases.append(" ".join(word for word in (size, colour, names[subject.concept]) if word))
    return joined(phrases, known)


def joined(phrases: list[str], known: set[str]) -> str:
    """'strawberry', 'a blue strawberry', 'a dog and a pizza'."""
    if len(phrases) == 1 and phrases[0] in known:
        return phrases[0]
    return " and ".join(captions.with_article(phrase) for phrase in sorted(phrases))


def understood(text: str, known: set[str]) -> str | None:
    """The caption of a text of `captions.caption`, or of a name; None if it is about nothing of this world."""
    for lead in ("", *LEADS):
        if text.startswith(lead):
            rest = text.removeprefix(lead).strip()
            phrase = _subject(rest, known)
            if phrase is not None:
                return joined([phrase], known)
    bare = text.removeprefix("a picture of ")
    for joint in JOINTS:
        for place in re.finditer(joint, bare):
            sides = [_subject(bare[: place.start()], known), _subject(bare[place.end() :], known)]
            if None not in sides:
                return joined([side for side in sides if side is not None], known)
    return None


def _subject(text: str, known: set[str]) -> str | None:
    """'a tiny blue strawberry' -> 'small blue strawberry'; None if it is anything else."""
    for bare in (text, re.sub(r"^an? ", "", text)):
        if bare in known:
            return bare
        words = bare.split()
        before = []
        if words and words[0] in SIZE_OF:
            before.append(SIZE_OF[words.pop(0)])
        if words and " ".join(words) not in known and words[0] in captions.COLOUR_NAMES:
            before.append(words.pop(0))
        if before and " ".join(words) in known:
            return " ".join([*before, *words])
    return None


class Gatherer:
    """Fills a bank, from the space as it ships."""

    def __init__(self, model: evaluate.Shipped, work: Path, seed: int) -> None:
        self.model, self.work = model, work
        self.names, self.known = model.names, set(model.names)
        self.held = captions.held_out(len(model.names))
        self.rng = random.Random(seed)
        self.seed = seed

    def texts(self) -> tuple[Tensor, list[str]]:
        """Names in every template, scene captions, and common words with the nearest object as caption."""
        forms = list(dict.fromkeys(captions.PLAIN_FORMS))
        plain = [
            (form.format(x=name, a_x=captions.with_article(name)), name)
            for name in self.names
            for form in forms
        ]
        scenes = [captions.random_scene(self.rng, len(self.names), self.held) for _ in range(TOLD)]
        pairs = plain + [
            (captions.caption(s, self.names, self.rng), describe(s, self.names, self.known)) for s in scenes
        ]
        phrases = json.loads((self.work / "phrases.json").read_text())
        free = [word for word in phrases["keyword"] + phrases["word"][:FREE] if word not in self.known]
        nearest = (self.model.encode(free) @ self.model.name_vectors.T).argmax(dim=1).tolist()
        pairs += [(word, self.names[row]) for word, row in zip(free, nearest, strict=True)]
        return self.model.encode([text for text, _ in pairs]), [caption for _, caption in pairs]

    def images(self) -> tuple[Tensor, list[str]]:
        """Freshly rendered batches like those that the image tower was trained on."""
        scenes = train_photographs.Scenes(
            self.work, self.names, self.seed, grounds=BACKGROUNDS, redrawn=REDRAWN
        )
        vectors, said = [], []
        with torch.inference_mode():
            for _ in range(IMAGE_BATCHES):
                drawn = scenes.batch(ON_DRAWN, ON_NATURAL)
                vectors.append(self.model.image(drawn.images))
                said += [describe(scene, self.names, self.known) for scene in drawn.scenes]
        return torch.cat(vectors), said

    def speech(self, count: int = SPOKEN) -> tuple[Tensor, list[str]]:
        """Recorded clips that say a name or a scene, half by either synthesiser, most of them augmented."""
        augment = SpeechAugmenter(self.seed)
        vectors, said = [], []
        for file in ("speech.npz", "accents.npz"):
            data = np.load(self.work / file)
            texts, starts, mels = data["texts"].tolist(), data["starts"], torch.from_numpy(data["mels"])
            meanings = {text: understood(text, self.known) for text in dict.fromkeys(texts)}
            lengths = np.diff(starts)
            usable = (lengths <= MOST_FRAMES) & (lengths >= FEWEST_FRAMES)
            rows = [row for row, text in enumerate(texts) if usable[row] and meanings[text] is not None]
            rows = self.rng.sample(rows, min(count // 2, len(rows)))
            rows.sort(key=lambda row: int(lengths[row]))  # so that little is padding
            said += [str(meanings[texts[row]]) for row in rows]
            with torch.inference_mode():
                for start in range(0, len(rows), 128):
                    part = rows[start : start + 128]
                    clips = pad_clips([mels[starts[k] : starts[k + 1]].float() / 127.5 - 1 for k in part])
                    vectors.append(
                        self.model.audio(*(augment(*clips) if self.rng.random() > AS_IS else clips))
                    )
        return torch.cat(vectors), said


def gather(folder: Path, work: Path, seed: int) -> None:
    """caption_texts.npz, caption_images.npz and caption_speech.npz, of the space in `folder`; what is there stays."""
    missing = [part for part in PARTS if not file_of(work, part).exists()]
    if not missing:
        return
    model = evaluate.Shipped(folder, work)
    for part in missing:
        began = time.time()
        vectors, said = getattr(Gatherer(model, work, seed + PARTS.index(part)), part)()
        scratch = work / "caption_part.tmp.npz"
        np.savez(scratch, vectors=vectors.half().numpy(), captions=np.array(said))
        scratch.replace(file_of(work, part))
        print(f"{len(said)} vectors of {part} in {time.time() - began:.0f} s", flush=True)


def file_of(work: Path, part: str) -> Path:
    return work / f"caption_{part}.npz"


def read(work: Path) -> Bank:
    """What `gather` wrote."""
    loaded = [np.load(file_of(work, part)) for part in PARTS]
    said = [caption for item in loaded for caption in item["captions"].tolist()]
    place = {caption: number for number, caption in enumerate(dict.fromkeys(said))}
    parts = [torch.from_numpy(item["vectors"]).float() for item in loaded]
    modality = [torch.full((len(vectors),), number) for number, vectors in enumerate(parts)]
    return Bank(
        torch.nn.functional.normalize(torch.cat(parts), dim=-1),
        torch.tensor([place[caption] for caption in said]),
        list(place),
        torch.cat(modality),
    )
