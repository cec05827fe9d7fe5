"""`python -m recipes.starter.captioner.train_captions --work …`: trains the captioner in a few minutes.

Cross-entropy per token of the caption, from vectors of all three modalities with added noise, which makes the
captioner robust in their neighbourhood. Steps whose output exists are skipped, and training resumes where it stopped.

The shipped weights had about 2,600 steps, 300 s on one core, for an earlier speech tower: the first 1,300 without
synthetic pairs and with a noise of 0.45 throughout, 900 more with the pairs, and the last with everything as it is
here. Training continued from there (`--from-shipped`) on vectors of the tower that was trained on a second
synthesiser.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from multimodal.core.space import Space
from multimodal.pipelines.captioning.backends.networks import END, LONGEST, CaptionNet
from recipes.starter.captioner import caption_data, captions, judge_captions
from recipes.starter.captioner.caption_data import Bank
from recipes.starter.towers.training import Training

HERE = Path(__file__).parents[1]
ASSETS = HERE.parent.parent / "assets" / "starter"
SHARES = (0.22, 0.5, 0.28)  # of texts, pictures and speech in a batch
BATCH = 384
PLAIN_STEPS = 0.6  # of the batches hold plain names, which are short; the others all the rest
PAIRS = 128  # two things made out of one and one, added to each batch of the rest
LEANING = 0.15  # by how much one of them may weigh more
# At most, against vectors of length one: more for plain names, whose voice or artist may be new, than for the rest
NOISE = (1.4, 0.4)
MIXED = 0.15  # of the rows are drawn between two vectors that say the same
SMOOTHING = 0.02
PEAK = 3e-3


class Words:
    """Every word of the captions, by number; END is the first."""

    def __init__(self, texts: list[str]) -> None:
        results = sorted({word for caption in texts for word in caption.split()})
        self.words = ["", *results]
        self.place = {word: number for number, word in enumerate(self.words)}

    def rows(self, texts: list[str]) -> Tensor:
        """(n, LONGEST) int64, filled up with END."""
        rows = torch.full((len(texts), LONGEST), END)
        for row, caption in enumerate(texts):
            numbers = [self.place[word] for word in caption.split()]
            rows[row, : len(numbers)] = torch.tensor(numbers)
        return rows


class Batches:
    """Vectors and the words they are to say: of each modality its share, plain names and the rest apart."""

    def __init__(self, bank: Bank, words: Words, names: list[str], seed: int) -> None:
        self.bank, self.words, self.known = bank, words, set(names)
        self.targets = words.rows(bank.captions)
        held = captions.held_out(len(names)).pairs
        self.apart = {frozenset((names[first], names[second])) for first, second in held}
        self.generator = torch.Generator().manual_seed(seed)
        plain = torch.tensor([caption in self.known for caption in bank.captions])[bank.said]
        self.rows = [
            [((bank.modality == k) & (plain == kind)).nonzero()[:, 0] for k in range(len(SHARES))]
            for kind in (True, False)
        ]
        order = bank.said.argsort(stable=True)
        counts = torch.bincount(bank.said, minlength=len(bank.captions))
        self.order, self.counts, self.starts = order, counts, counts.cumsum(0) - counts

    def draw(self) -> tuple[Tensor, Tensor]:
        """(n, DIM) unit rows and (n, t) int64; n is BATCH, plus PAIRS where two objects are allowed."""
        kind = int(self.uniform(1) >= PLAIN_STEPS)
        parts = []
        for share, rows in zip(SHARES, self.rows[kind], strict=True):
            parts.append(rows[torch.randint(len(rows), (round(share * BATCH),), generator=self.generator)])
        rows = torch.cat(parts)
        said = self.bank.said[rows]
        vectors = self.bank.vectors[rows]
        partner = self.order[self.starts[said] + (self.uniform(len(said)) * self.counts[said]).long()]
        weight = self.uniform(len(said)) * (self.uniform(len(said)) < MIXED)
        vectors = vectors + weight[:, None] * (self.bank.vectors[partner] - vectors)
        targets = self.targets[said]
        if kind == 1:
            more, written = self.pairs()
            vectors, targets = torch.cat([vectors, more]), torch.cat([targets, written])
        noise = torch.randn(vectors.shape, generator=self.generator) / vectors.shape[1] ** 0.5
        vectors = F.normalize(vectors + NOISE[kind] * self.uniform(len(vectors))[:, None] * noise, dim=-1)
        return vectors, targets[:, : int((targets != END).sum(1).max()) + 1]

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Two objects as the sum of their vectors, as the text tower was trained; without held-out pairs."""
        vectors, written = [], []
        for share, rows in zip(SHARES, self.rows[0], strict=True):
            chosen = rows[torch.randint(len(rows), (round(share * PAIRS), 2), generator=self.generator)]
            names = [[self.bank.captions[k] for k in pair] for pair in self.bank.said[chosen].tolist()]
            kept = [
                k for k, pair in enumerate(names) if len(set(pair)) == 2 and frozenset(pair) not in self.apart
            ]
            lean = 0.5 + LEANING * (2 * self.uniform(len(kept)) - 1)[:, None]
            first, second = self.bank.vectors[chosen[kept, 0]], self.bank.vectors[chosen[kept, 1]]
            vectors.append(F.normalize(lean * first + (1 - lean) * second, dim=-1))
            written += [caption_data.joined(names[k], self.known) for k in kept]
        return torch.cat(vectors), self.words.rows(written)

    def uniform(self, count: int) -> Tensor:
        return torch.rand(count, generator=self.generator)


def loss_of(net: CaptionNet, vectors: Tensor, targets: Tensor) -> Tensor:
    """The mean cross-entropy of the words and of the end behind them."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(vectors, targets[:, :-1])
    counted = F.pad(targets[:, :-1] != END, (1, 0), value=True)  # all words, and the first END
    return F.cross_entropy(logits.float()[counted], targets[counted], label_smoothing=SMOOTHING)


def shipped(folder: Path, words: Words) -> dict[str, Tensor]:
    """The weights of the captioner in a folder. Raises ValueError if it has other words."""
    from safetensors.torch import load_file

    if json.loads((folder / "caption.json").read_text())["words"] != words.words:
        raise ValueError(
            f"the captioner in {folder} has other words than these captions: train one from scratch"
        )
    return {name: tensor.float() for name, tensor in load_file(folder / "caption.safetensors").items()}


def train(work: Path, *, minutes: float, seed: int, start: Path | None = None) -> None:
    """Train for `minutes` of wall time in all; write captions.pt. start: a captioner's folder to go on from."""
    torch.manual_seed(seed)
    bank = caption_data.read(work)
    words = Words(bank.captions)
    net = CaptionNet(len(words.words))
    if start is not None:
        net.load_state_dict(shipped(start, words))
    peak = PEAK if start is None else PEAK / 2
    training = Training(
        work, "captions", {"net": net}, minutes=minutes, peak=peak, decay=0.02, warm_up=100, seed=seed
    )
    batches = Batches(bank, words, judge_captions.names(work), training.seed)
    while training.going_on():
        loss = loss_of(net, *batches.draw())
        training.learn(loss)
        if training.step % 100 == 0:
            training.log(loss=loss)
            training.save()
    training.save()
    torch.save({"net": net.eval().state_dict(), "words": words.words}, work / "captions.pt")


def export(work: Path, space: Path, folder: Path) -> None:
    """caption.safetensors in half precision and caption.json, which says for which space it was trained."""
    from safetensors.torch import save_file

    saved = torch.load(work / "captions.pt", weights_only=True)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.half().contiguous() for name, tensor in saved["net"].items()}
    save_file(tensors, folder / "caption.safetensors")
    (folder / "caption.safetensors").chmod(0o644)
    encoders = Space.from_pretrained(space, device="cpu").encoders
    about = {
        "format": 1,
        "encoders": {str(modality): encoder.fingerprint for modality, encoder in encoders.items()},
        "words": saved["words"],
    }
    (folder / "caption.json").write_text(json.dumps(about, ensure_ascii=False, indent=1) + "\n")


def run(
    work: Path, space: Path, folder: Path, *, minutes: float, seed: int = 61, start: Path | None = None
) -> None:
    """All steps in order: gather, train, export, measure."""
    caption_data.gather(space, work, seed)
    if not (work / "captions.pt").exists():
        train(work, minutes=minutes, seed=seed, start=start)
    export(work, space, folder)
    judge_captions.run(work, space, folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="recipes.starter.captioner.train_captions", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--work", type=Path, default=HERE / "runs", help="where data and checkpoints go")
    parser.add_argument("--space", type=Path, default=ASSETS, help="the finished space")
    parser.add_argument("--output", type=Path, default=ASSETS / "decoders", help="where the captioner goes")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument(
        "--from-shipped",
        action="store_true",
        help="start from the captioner that ships instead of random weights",
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=61)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    start = ASSETS / "decoders" if args.from_shipped else None
    run(args.work, args.space, args.output, minutes=args.minutes, seed=args.seed, start=start)


if __name__ == "__main__":
    main()
