"""Step 14: trains the speech tower further on sounds that are not speech, and on speech in noise -> audio_final.pt.

`python -m recipes.starter.towers.train_sounds --work …` starts from `train_accents`. Text and image towers stay fixed.
Two thirds of each batch are speech with the losses of that step, of which a part is damaged (`speech_noise`); vectors
of undamaged clips are kept near those of the weights before. The rest are sounds. A sound selects the name and the
descriptions of its class among those of all classes, its class among the names of the world, and the pictures of what
makes it; it lies near their texts; and CTC reads nothing in it.

The final weights are interpolated between those before and after (Wortsman et al. 2022), by `choose`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from multimodal.encoders.starter.networks import AudioTower
from recipes.starter.captioner.captions import with_article
from recipes.starter.data import prepare_sounds
from recipes.starter.data.prepare_sounds import CONCEPTS, Sounds
from recipes.starter.data.sounds import KINDS
from recipes.starter.data.speech_augment import SpeechAugmenter
from recipes.starter.data.speech_noise import VOICES, Damage, log_mels, powers
from recipes.starter.figures import evaluate, judges
from recipes.starter.towers.align import NEAR, SCALE
from recipes.starter.towers.train_accents import LETTERS, Lesson
from recipes.starter.towers.train_image import Anchors
from recipes.starter.towers.train_photographs import between, moved
from recipes.starter.towers.train_speech import draw_rows, letters_loss, match_loss, pad_clips
from recipes.starter.towers.training import Training

HERE = Path(__file__).parents[1]
SPEECH, OTHER = 128, 36  # clips of a batch
BEHIND = 12  # sounds of the batch that may be behind its speech
PEAK = 5e-4
KEEP = 6.0  # weight of the distance to the vectors of the weights before
SILENT = 0.5  # weight of the letters read in sounds
FORMS = ("{}", "the sound of {}")  # of a name with its article
DESCRIBED = 0.5  # weight of each description in the text that a sound lies near to
FACTORS = (0.0, 0.4, 0.5, 0.6, 0.7, 0.85)
# Points of recall that a kind of undamaged speech may lose: less than a standard error.
MOST_LOST = {"espeak0": 0.3, "slt": 2.5, "awb": 2.5}
MONITORED = ("espeak0", "slt", "awb")


def trained_tower(file: Path) -> AudioTower:
    """A tower with saved weights."""
    tower = AudioTower()
    tower.load_state_dict(torch.load(file, weights_only=True))
    return tower.eval()


class Goals:
    """What sounds are to match.

    names (classes, DIM), phrases (4 * classes, DIM: two descriptions, and the name in FORMS), and texts (classes, DIM),
    near which a sound lies.
    open_names: names of the classes, then those of the world; open_right: (classes, all of those), rows sum to 1.
    seen: which concepts' pictures each class selects, rows sum to 1, or to 0 where no picture shows it.
    """

    def __init__(self, anchors: Anchors) -> None:
        count, world = len(KINDS), len(anchors.names)
        self.names = anchors.encode(list(KINDS))
        described = [anchors.encode([kind.descriptions[turn] for kind in KINDS.values()]) for turn in (0, 1)]
        formed = [anchors.encode([form.format(with_article(name)) for name in KINDS]) for form in FORMS]
        self.phrases = torch.cat([*described, *formed])
        self.open_names = torch.cat([self.names, anchors.name_vectors])
        self.open_right, self.seen = torch.zeros(count, count + world), torch.zeros(count, world)
        texts = self.names + DESCRIBED * (described[0] + described[1])
        for row, name in enumerate(KINDS):
            concepts = [anchors.names.index(concept) for concept in CONCEPTS.get(name, ())]
            self.open_right[row, [row, *(count + concept for concept in concepts)]] = 1 / (1 + len(concepts))
            if concepts:
                self.seen[row, concepts] = 1 / len(concepts)
                texts[row] += anchors.name_vectors[concepts].mean(0)
        self.texts = F.normalize(texts, dim=-1)

    def losses(self, vectors: Tensor, kinds: Tensor, images: Tensor) -> dict[str, Tensor]:
        """Of the vectors of sounds, by name. images: where the pictures of each concept stand (concepts, DIM)."""
        own = torch.eye(len(self.names))[kinds]
        by_name = SCALE * vectors @ self.names.T
        phrased = SCALE * vectors @ self.phrases.T
        is_own = (own / own.sum(0).clamp(min=1)).T  # each class selects its sounds
        here = own.sum(0) > 0
        shown = self.seen[kinds].sum(1) > 0
        pictures = F.cross_entropy(SCALE * vectors[shown] @ images.T, self.seen[kinds[shown]])
        return {
            "kind": F.cross_entropy(by_name, kinds),
            "phrased": F.cross_entropy(phrased, own.repeat(1, 4) / 4),
            "among all": F.cross_entropy(SCALE * vectors @ self.open_names.T, self.open_right[kinds]),
            "found": F.cross_entropy(by_name.T[here], is_own[here]),
            "pictured": 0.5 * pictures if shown.any() else torch.zeros(()),
            "near text": NEAR * (1 - (vectors * self.texts[kinds]).sum(1)).mean(),
        }


class Hearing(Lesson):
    """Batches of speech and sounds, and their losses."""

    stands = "pictures_stand_final.pt"

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        self.sounds, self.goals = Sounds(work / "sounds.npz"), Goals(self.anchors)
        self.before = trained_tower(work / "audio_accents.pt").requires_grad_(False)

    def seed(self, seed: int) -> None:
        super().seed(seed)
        self.damage, self.sound_augment = Damage(seed), SpeechAugmenter(seed + 1)

    def sound_batch(self) -> tuple[list[Tensor], Tensor]:
        """Log-mels of random sounds, some of them cut, with another colour and noise; their classes."""
        rows = self.chooser.integers(len(self.sounds), size=OTHER)
        clips = []
        for row in rows.tolist():
            clip = self.sounds.clip(row)
            if self.chooser.random() < 0.5:
                size = int(self.chooser.integers(min(len(clip), 150), len(clip) + 1))
                first = int(self.chooser.integers(len(clip) - size + 1))
                clip = clip[first : first + size]
            clips.append(clip)
        mels, lengths = pad_clips(clips)
        plain = torch.from_numpy(self.chooser.random(OTHER) < 0.3)
        worn = self.sound_augment.colour((mels + 1) * 40 - 80)
        real = torch.arange(mels.shape[1])[None] < lengths[:, None]
        loudest = worn.masked_fill(~real[..., None], -200.0).amax((1, 2), keepdim=True)
        worn = self.sound_augment.mask((worn - loudest).clamp(min=-80) / 40 + 1, lengths)
        mels = torch.where(plain[:, None, None], mels, worn) * real[..., None]
        return [clip[:size] for clip, size in zip(mels, lengths.tolist(), strict=True)], self.sounds.kinds[
            rows
        ]

    def losses(self, tower: AudioTower) -> dict[str, Tensor]:
        """Of one batch, by name."""
        sounds, kinds = self.sound_batch()
        return self.speech_losses(tower, sounds[:BEHIND]) | self.sound_losses(tower, sounds, kinds)

    def sound_losses(self, tower: AudioTower, sounds: list[Tensor], kinds: Tensor) -> dict[str, Tensor]:
        """Of one batch of sounds."""
        with torch.autocast("cpu", torch.bfloat16):
            states, lengths = tower.states(*pad_clips(sounds))
            vectors = tower.pool(states, lengths)
        blank = -tower.characters(states)[..., 0]
        real = (torch.arange(blank.shape[1])[None] < 2 * lengths[:, None]).float()
        silent = SILENT * (blank * real).sum() / real.sum()
        return self.goals.losses(vectors, kinds, self.banks[-1]) | {"silent": silent}

    def speech_losses(self, tower: AudioTower, behind: list[Tensor]) -> dict[str, Tensor]:
        """Of one batch of speech; see `train_accents`. behind: sounds that some of it is mixed with."""
        clips = self.clips
        chosen = torch.from_numpy(draw_rows(clips, self.usable, SPEECH, self.chooser))
        mels, lengths = self.augment(*pad_clips([clips.clip(row) for row in chosen.tolist()]))
        mels, plain, legible = self.damage(mels, lengths, behind)
        with torch.autocast("cpu", torch.bfloat16):
            states, sizes = tower.states(mels, lengths)
            vectors = tower.pool(states, sizes)
            with torch.no_grad():
                former = self.before(mels[plain], lengths[plain])
        rows, concepts = clips.text_rows[chosen], clips.concepts[chosen]
        named, own = concepts >= 0, clips.text_vectors[rows]
        subjects = [F.cross_entropy(SCALE * vectors[named] @ bank.T, concepts[named]) for bank in self.banks]
        written = [clips.letters[row] for row in rows[legible].tolist()]
        return {
            "said": torch.stack(subjects).mean() if named.any() else torch.zeros(()),
            "words": match_loss(vectors, clips, chosen, torch.tensor(SCALE)),
            "close": NEAR * (1 - (vectors * own).sum(1)).mean(),
            "letters": LETTERS * letters_loss(tower, states[legible], sizes[legible], written),
            "keep": KEEP * moved(vectors[plain], former, own[plain]),
        }


class Watch:
    """What chooses the factor: sounds with held-out parameters, and unseen voices, undamaged and in babble."""

    def __init__(self, work: Path, anchors: Anchors, goals: Goals, every: int = 5) -> None:
        self.work, self.names, self.goals, self.every = work, anchors.name_vectors, goals, every
        self.sounds = Sounds(work / "sounds_judge.npz")
        self.fresh = dict(np.load(work / "accents_judge.npz"))
        self.images = torch.load(work / Hearing.stands, weights_only=True)

    @torch.no_grad()
    def __call__(self, tower: AudioTower) -> dict[str, float]:
        """Percent of queries answered first."""
        results = self.of_sounds(tower)
        for speaker in MONITORED:
            mels, lengths, concepts = self.spoken(speaker)
            right = [{row} for row in concepts]
            vectors = hear(tower, mels, lengths)
            results[f"{speaker} to name R@1"] = evaluate.recall(vectors, self.names, right)["R@1"]
            results[f"{speaker} to images R@1"] = evaluate.recall(vectors, self.images, right)["R@1"]
            if speaker == MONITORED[0]:
                noisy = hear(tower, self.babbled(mels, lengths), lengths)
                results["babble to name R@1"] = evaluate.recall(noisy, self.names, right)["R@1"]
        return results

    def of_sounds(self, tower: AudioTower) -> dict[str, float]:
        """Sound to name, and name to sound among one sound of each class."""
        mels, lengths = pad_clips([self.sounds.clip(row) for row in range(len(self.sounds))])
        vectors, kinds = hear(tower, mels, lengths), self.sounds.kinds
        found = evaluate.recall(vectors, self.goals.names, [{row} for row in kinds.tolist()])["R@1"]
        galleries = vectors.split(len(KINDS))  # renders come class after class, one take after another
        back = [
            evaluate.recall(self.goals.names, gallery, evaluate.each(len(KINDS)))["R@1"]
            for gallery in galleries
        ]
        return {"sound to name R@1": found, "name to sound R@1": round(sum(back) / len(back), 1)}

    def spoken(self, speaker: str) -> tuple[Tensor, Tensor, list[int]]:
        """Clips of an unseen espeak-ng voice, or of names that flite did not speak in training."""
        data = self.fresh if speaker in set(self.fresh["speakers"]) else judges.clips(self.work)
        rows = np.flatnonzero(data["speakers"] == speaker)
        rows = rows if data is self.fresh else rows[:: self.every]
        starts = data["starts"]
        clips = [
            torch.from_numpy(data["mels"][starts[row] : starts[row + 1]]).float() / 127.5 - 1 for row in rows
        ]
        return *pad_clips(clips), data["concepts"][rows].tolist()

    def babbled(self, mels: Tensor, lengths: Tensor, decibels: float = 5.0) -> Tensor:
        """Each clip behind four others at a signal-to-noise ratio."""
        damage, result = Damage(3), mels.clone()
        real = torch.arange(mels.shape[1])[None] < lengths[:, None]
        power = powers(mels) * real[..., None]
        for row, size in enumerate(lengths.tolist()):
            behind = torch.zeros(())
            for turn in range(VOICES):
                other = (row + 1 + 37 * turn) % len(mels)
                behind = behind + damage.fitted(power[other, : lengths[other]], size)
            clip = power[row, :size]
            mixed = clip + behind * clip.mean() / behind.mean() / 10 ** (decibels / 10)
            result[row, :size] = log_mels(mixed[None])[0]
        return result


@torch.no_grad()
def hear(tower: AudioTower, mels: Tensor, lengths: Tensor) -> Tensor:
    """(n, DIM) of many clips; like lengths together."""
    result, order = torch.empty(len(mels), tower.project.out_features), lengths.argsort()
    for rows in order.split(64):
        longest = int(lengths[rows].max())
        result[rows] = tower(mels[rows, :longest], lengths[rows])
    return result


def run(work: Path, *, minutes: float, seed: int = 73, peak: float = PEAK) -> None:
    """Trains for `minutes` of wall time in total (interrupted runs resume); writes audio_after.pt."""
    hearing, tower = Hearing(work), trained_tower(work / "audio_accents.pt")
    watch = Watch(work, hearing.anchors, hearing.goals)
    print("before:", watch(tower), flush=True)
    tower.train()
    training = Training(
        work, "sounds", {"tower": tower}, minutes=minutes, peak=peak, decay=0.02, warm_up=60, seed=seed, muon="tower"
    )  # fmt: skip
    hearing.seed(training.seed)
    while training.going_on():
        parts = hearing.losses(tower)
        training.learn(torch.stack(list(parts.values())).sum())
        if training.step % 25 == 1:
            training.log(loss=sum(parts.values()), **parts)
        if training.step % 200 == 0:
            training.save()
            training.log(**watch(tower.eval()))
            tower.train()
    training.save()
    torch.save(tower.eval().state_dict(), work / "audio_after.pt")


def choose(work: Path) -> float:
    """Writes audio_final.pt: the weights at the factor with the best sum of recall over sounds and babble, among those
    that lose at most MOST_LOST of each kind of undamaged speech. Returns the factor."""
    anchors = Anchors(work)
    watch = Watch(work, anchors, Goals(anchors), every=2)
    before, after = (
        torch.load(work / f"audio_{name}.pt", weights_only=True) for name in ("accents", "after")
    )
    rows, tower = {}, AudioTower().eval()
    for factor in FACTORS:
        tower.load_state_dict(between(before, after, factor))
        rows[factor] = watch(tower)
        print(factor, rows[factor], flush=True)
    new = {kind for kind in rows[0.0] if "sound" in kind or "babble" in kind}
    kept = {
        factor: sum(row[kind] for kind in new)
        for factor, row in rows.items()
        if all(row[kind] >= rows[0.0][kind] - MOST_LOST[kind.split()[0]] for kind in set(row) - new)
    }
    best = max(kept, key=kept.__getitem__)
    (work / "audio_factors.json").write_text(json.dumps({"chosen": best, "R@1": rows}, indent=1) + "\n")
    torch.save(between(before, after, best), work / "audio_final.pt")
    return best


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="recipes.starter.towers.train_sounds", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--work", type=Path, default=HERE / "runs", help="where data and checkpoints go")
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if not (given.work / "sounds.npz").exists():
        prepare_sounds.run(given.work)
    run(given.work, minutes=given.minutes)
    print("factor", choose(given.work))


if __name__ == "__main__":
    main()
