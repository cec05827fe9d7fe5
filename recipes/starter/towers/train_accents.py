"""Step 11: trains the speech tower further on two synthesisers with stronger augmentation -> audio_accents.pt.

`python -m recipes.starter.towers.train_accents --work …` starts from the jointly fine-tuned tower. The losses are
those of `joint_finetune`: classify the concept by its point, its name and its images; find the own text in the batch;
lie near it; CTC. The text and image towers stay fixed. Half of each batch is espeak-ng, half flite.

The saved weights are LEARNED of the way from the tower before to the tower after (Wortsman et al. 2022), so that
retrieval for the earlier voices does not degrade. The factor was chosen on unseen espeak-ng voices and on what
`accents` holds out of flite.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from multimodal.encoders.starter.networks import AudioTower, ImageTower
from multimodal.encoders.starter.parameters import DIM, SIDE
from recipes.starter.captioner import captions
from recipes.starter.data import backgrounds, compositor, flite
from recipes.starter.data.speech_augment import SpeechAugmenter
from recipes.starter.data.spelling import distance, letters_only, spelled
from recipes.starter.figures import evaluate, judges
from recipes.starter.towers.align import NEAR, SCALE
from recipes.starter.towers.train_image import REDRAWN, Anchors, trained_drawings
from recipes.starter.towers.train_speech import Clips, draw_rows, letters_loss, match_loss, pad_clips
from recipes.starter.towers.training import Training

HERE = Path(__file__).parents[1]
BATCH = 160
LETTERS = 0.6  # weight
PEAK = 1.2e-3
LEARNED = 0.7
VIEWS = 10  # pictures of each concept whose mean says where pictures stand


def seeing_tower(work: Path) -> ImageTower:
    """The latest image tower."""
    tower, final = ImageTower().eval(), work / "image_final.pt"
    tower.load_state_dict(torch.load(final if final.exists() else work / "image_met.pt", weights_only=True))
    return tower


@torch.no_grad()
def where_images_stand(work: Path, names: int, seed: int) -> Tensor:
    """The mean direction of training's kind of pictures of each concept: unit rows (concepts, DIM)."""
    tower, generator = seeing_tower(work), torch.Generator().manual_seed(seed)
    drawings = trained_drawings(work)
    ground = torch.from_numpy(backgrounds.pool(backgrounds.TRAINED, 1_500, SIDE, seed))
    scene_compositor = compositor.Compositor(
        compositor.with_redrawn(drawings, REDRAWN, generator), len(drawings), ground, generator
    )
    total = torch.zeros(names, DIM)
    for _ in range(VIEWS):
        for rows in torch.arange(names).split(256):
            drawn = scene_compositor.draw(
                [(captions.Subject(row),) for row in rows.tolist()], SIDE, restyle=0.2
            )
            total[rows] += tower(compositor.as_bytes(compositor.augment(drawn, generator)))
    return F.normalize(total, dim=-1)


class Lesson:
    """Everything the tower learns from."""

    stands = "pictures_stand.pt"  # where_images_stand, computed once

    def __init__(self, work: Path) -> None:
        self.anchors = Anchors(work)
        self.clips = Clips(self.anchors, work / "speech.npz", work / "accents.npz")
        self.usable = self.clips.usable()
        self.seed(0)
        stands = work / self.stands
        if not stands.exists():
            torch.save(where_images_stand(work, len(self.anchors.names), 53), stands)
        images = torch.load(stands, weights_only=True)
        self.banks = (self.anchors.points, self.anchors.name_vectors, images)

    def seed(self, seed: int) -> None:
        """Which clips come next, and how they are augmented."""
        self.augment, self.chooser = SpeechAugmenter(seed), np.random.default_rng(seed)

    def losses(self, tower: AudioTower) -> dict[str, Tensor]:
        """Of one batch, by name."""
        clips = self.clips
        chosen = torch.from_numpy(draw_rows(clips, self.usable, BATCH, self.chooser))
        mels, lengths = self.augment(*pad_clips([clips.clip(row) for row in chosen.tolist()]))
        with torch.autocast("cpu", torch.bfloat16):
            states, lengths = tower.states(mels, lengths)
            vectors = tower.pool(states, lengths)
        rows, concepts = clips.text_rows[chosen], clips.concepts[chosen]
        named = concepts >= 0
        subjects = [F.cross_entropy(SCALE * vectors[named] @ bank.T, concepts[named]) for bank in self.banks]
        return {
            "said": torch.stack(subjects).mean() if named.any() else torch.zeros(()),
            "words": match_loss(vectors, clips, chosen, torch.tensor(SCALE)),
            "close": NEAR * (1 - (vectors * clips.text_vectors[rows]).sum(1)).mean(),
            "letters": LETTERS * letters_loss(tower, states, lengths, [clips.letters[row] for row in rows.tolist()]),
        }  # fmt: skip


class Watch:
    """What the training is judged by: flite's kept-back names in fresh ways, and unseen espeak voices."""

    def __init__(self, work: Path, anchors: Anchors) -> None:
        self.work, self.names = work, anchors.name_vectors
        self.images = judges.see(seeing_tower(work), judges.images(work, "ground"))
        self.data = dict(np.load(work / "accents_judge.npz"))

    @torch.no_grad()
    def __call__(self, tower: AudioTower) -> dict[str, float]:
        """Percent of concepts found, and of letters wrong without a search."""
        vectors, own = judges.hear(tower, self.work, "espeak0", every=5)
        right = [{row} for row in own]
        results = {
            f"espeak0 to {title} R@1": evaluate.recall(vectors, gallery, right)["R@1"]
            for title, gallery in (("name", self.names), ("ground", self.images))
        }
        for speaker in flite.SPEAKERS:
            rows = np.flatnonzero(self.data["speakers"] == speaker)
            mels, starts = torch.from_numpy(self.data["mels"]), self.data["starts"]
            clips = [mels[starts[row] : starts[row + 1]].float() / 127.5 - 1 for row in rows]
            states, lengths = tower.states(*pad_clips(clips))
            right = [{row} for row in self.data["concepts"][rows].tolist()]
            heard = evaluate.recall(tower.pool(states, lengths), self.names, right)
            results[f"{speaker} to name R@1"] = heard["R@1"]
            likeliest = tower.characters(states).argmax(-1)
            read = [spelled(row[: 2 * size]) for row, size in zip(likeliest, lengths.tolist(), strict=True)]
            said = [letters_only(text) for text in self.data["texts"][rows].tolist()]
            wrong = sum(distance(item, other) for item, other in zip(read, said, strict=True))
            results[f"{speaker} letters wrong"] = round(100 * wrong / sum(map(len, said)), 1)
        return results


def between(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights LEARNED of the way from one to the other."""
    return {name: value + LEARNED * (after[name] - value) for name, value in before.items()}


def run(work: Path, *, minutes: float, seed: int = 59) -> None:
    """Trains for `minutes` of wall time in total (interrupted runs resume); writes audio_accents.pt."""
    lesson, tower = Lesson(work), AudioTower()
    tower.load_state_dict(torch.load(work / "audio_met.pt", weights_only=True))
    watch = Watch(work, lesson.anchors)
    print("before:", watch(tower.eval()), flush=True)
    tower.train()
    training = Training(
        work, "accents", {"tower": tower}, minutes=minutes, peak=PEAK, decay=0.02, warm_up=100, seed=seed, muon="tower"
    )  # fmt: skip
    lesson.seed(training.seed)
    while training.going_on():
        parts = lesson.losses(tower)
        loss = torch.stack(list(parts.values())).sum()
        training.learn(loss)
        if training.step % 50 == 0:
            training.log(loss=loss, **parts)
        if training.step % 300 == 0:
            training.save()
            tower.eval()
            training.log(**watch(tower))
            tower.train()
    training.save()
    before = torch.load(work / "audio_met.pt", weights_only=True)
    torch.save(between(before, tower.state_dict()), work / "audio_accents.pt")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="recipes.starter.towers.train_accents", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--work", type=Path, default=HERE / "runs", help="where data and checkpoints go")
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    run(args.work, minutes=args.minutes)


if __name__ == "__main__":
    main()
