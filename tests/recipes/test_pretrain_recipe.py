"""Pretraining: what is hidden stays hidden, a resumed run is bit-equal, and trained towers open as a space."""

from __future__ import annotations

import dataclasses
import io
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image as Pillow

import multimodal as mm
from recipes.pretrain import events, objectives
from recipes.pretrain.collate import MASK, Collate, make_vocabulary
from recipes.pretrain.config import Config, Data, Stage, read
from recipes.pretrain.result import retrieval, save_space
from recipes.pretrain.samples import Folder, Shards, batches
from recipes.pretrain.trainer import Run

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (20, 40, 210), "white": (250, 250, 250)}
STAGES = (
    Stage("masked-image", steps=1, batch=4),
    Stage("masked-word", steps=1, batch=4),
    Stage("next-word", steps=1, batch=4),
    Stage("masked-audio", steps=1, batch=3),
    Stage("clip", steps=2, batch=4),
    Stage("siglip", steps=1, batch=4, chunk=2, pair=("audio", "text")),
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight samples: a picture of one colour, its name, and a tone."""
    folder = tmp_path_factory.mktemp("pairs")
    for number in range(8):
        name, colour = list(COLOURS.items())[number % 4]
        Pillow.new("RGB", (40, 30), colour).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"a {name} card number {number}")
        tone = 0.3 * np.sin(np.arange(6400) * 0.05 * (1 + number % 4)).astype(np.float32)
        soundfile.write(folder / f"{number}.wav", tone, 16_000)
    return folder


@pytest.fixture(scope="module")
def shards(files: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same as two WebDataset archives."""
    folder = tmp_path_factory.mktemp("shards")
    for shard in range(2):
        with tarfile.open(folder / f"{shard}.tar", "w") as archive:
            for path in sorted(files.iterdir()):
                if int(path.stem) % 2 == shard:
                    archive.add(path, path.name)
    return str(folder / "*.tar")


@pytest.fixture(scope="module")
def config(files: Path) -> Config:
    data = Data(source=str(files), vocabulary=150, held_out=0.3)
    return Config(STAGES, data, seed=3, mixed_precision=False, checkpoint_every=100, log_every=1)


@pytest.fixture(scope="module")
def trained(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(config, tmp_path_factory.mktemp("trained"))
    run.train()
    return run


def test_a_run_that_is_interrupted_in_each_stage_ends_with_the_same_bits(
    config: Config, trained: Run, tmp_path: Path
) -> None:
    for stop_after in (1, 4, 1):  # after the first image step, within "clip", and before "siglip"
        run = Run(config, tmp_path)
        run.resume()
        run.train(stop_after=stop_after)
    last = Run(config, tmp_path)
    assert last.resume()
    last.train()
    expected, found = trained.towers.state_dict(), last.towers.state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    assert last.losses == trained.losses
    assert all(torch.equal(a, b) for a, b in zip(trained.logit.values(), last.logit.values(), strict=True))


def test_trained_towers_open_as_a_space_with_their_vectors(trained: Run, files: Path, tmp_path: Path) -> None:
    save_space(trained, tmp_path / "space")
    space = mm.load(tmp_path / "space")
    assert {str(modality) for modality in space.modalities} == {"text", "image", "audio"}
    vectors = space.encode([mm.Image(files / "1.png"), "a red card", mm.Audio(files / "2.wav")])
    sample = next(sample for sample in trained.source.epoch(0) if sample.key == "1")
    trained.towers.eval()
    own = trained.towers["image"](*trained.collate([sample], "image"))
    assert vectors[0] == pytest.approx(own[0].detach().numpy(), abs=5e-3)  # float16
    small = dataclasses.replace(trained.config, data=dataclasses.replace(trained.config.data, side=32))
    trained_small = Run(small, tmp_path / "small", trained.source)
    with pytest.raises(ValueError, match="trained at 32 pixels, but spaces show it 64"):
        save_space(trained_small, tmp_path / "refused")


def test_held_out_samples_never_train_and_do_judge(trained: Run) -> None:
    held = {sample.key for sample in trained.source.epoch(0) if trained.is_held_out(sample)}
    seen = {sample.key for sample in trained.source.epoch(0) if trained.takes_part(sample, STAGES[4])}
    assert held
    assert seen
    assert not held & seen
    figures = retrieval(trained)
    assert figures["R@1"].n == len(held)
    assert figures["R@5"].value >= figures["R@1"].value


def test_a_share_of_the_pairs_is_the_same_for_every_run_and_lies_within_larger_shares(trained: Run) -> None:
    def chosen(share: float) -> set[str]:
        stage = dataclasses.replace(STAGES[4], share=share)
        return {sample.key for sample in trained.source.epoch(5) if trained.takes_part(sample, stage)}

    assert chosen(0.3) <= chosen(0.6) <= chosen(1.0)
    assert chosen(0.3) < chosen(1.0)


def test_a_folder_and_its_webdataset_give_the_same_samples(files: Path, shards: str) -> None:
    def content(source: Folder | Shards) -> list[tuple[str, list[str]]]:
        samples = source.epoch(1)
        return sorted((str(sample.parts["text"]().load()), sorted(sample.parts)) for sample in samples)

    assert content(Folder(files)) == content(Shards(shards, buffer=3))
    assert len(content(Folder(files))) == 8


def test_batches_that_are_skipped_are_those_that_an_uninterrupted_run_took(shards: str) -> None:
    def keys(start: int) -> list[list[str]]:
        stream = batches(Shards(shards, buffer=3), 3, 7, lambda sample: True, start)
        return [[sample.key for sample in next(stream)] for _ in range(6 - start)]

    assert keys(0)[4:] == keys(4)
    assert len({key for batch in keys(0)[:2] for key in batch}) == 6  # none twice within an epoch


def test_a_hidden_word_does_not_reach_the_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    states = objectives.text_states

    def spy(tower: object, tokens: torch.Tensor, *rest: object, **options: object) -> torch.Tensor:
        seen.append(tokens)
        return states(tower, tokens, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(objectives, "text_states", spy)
    tower, head = objectives.make_tower("text", 20), objectives.make_head("masked-word", 20)
    tokens, lengths = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]]), torch.tensor([4, 2])
    losses = objectives.masked_word(tower, head, tokens, lengths, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    hidden = seen[0] == MASK
    assert hidden.sum(1).tolist() == [1, 1]
    assert not hidden[1, 2:].any()
    assert (losses > 0).all()


def test_the_next_word_is_predicted_without_looking_at_it() -> None:
    tower = objectives.make_tower("text", 20).eval()
    tokens, lengths = torch.tensor([[5, 6, 7, 8]]), torch.tensor([4])
    changed = torch.tensor([[5, 6, 7, 9]])
    before, after = (objectives.text_states(tower, t, lengths, causal=True) for t in (tokens, changed))  # type: ignore[arg-type]
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.equal(before[:, 3], after[:, 3])


@pytest.mark.parametrize("modality", ["image", "audio"])
def test_what_is_hidden_of_an_image_or_a_sound_does_not_reach_the_tower(modality: str) -> None:
    objective = f"masked-{modality}"
    tower, head = objectives.make_tower(modality, 0), objectives.make_head(objective, 0)
    seen: list[torch.Tensor] = []
    first = tower.maps if modality == "image" else tower.first
    assert isinstance(first, torch.nn.Module)
    first.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    generator = torch.Generator().manual_seed(1)
    if modality == "image":
        inputs: tuple[torch.Tensor, ...] = (torch.randint(60, 120, (3, 3, 64, 64), dtype=torch.uint8),)
    else:
        inputs = (torch.rand(3, 100, 64) + 0.1, torch.tensor([100, 100, 40]))
    losses = objectives.self_supervised(objective, tower, head, inputs, generator)
    hidden = (seen[0] == 0).float().mean().item()
    assert 0.3 < hidden < 0.75
    assert losses.shape == (3,)
    losses.mean().backward()
    assert all(entry.grad is not None for entry in head.parameters())


def test_the_vocabulary_holds_frequent_words_and_spells_the_others(trained: Run) -> None:
    vocabulary = make_vocabulary(trained.source.epoch(0), 150)
    assert vocabulary[MASK] == "[MASK]"
    tokens = Collate(vocabulary, 64).tokenize(["a red card", "zebra"])
    assert [vocabulary[token] for token in tokens[0]] == ["a", "red", "card"]
    assert [vocabulary[token] for token in tokens[1]] == ["z", "##e", "##b", "##r", "##a"]


def test_tensorboard_files_hold_the_losses_with_valid_checksums(trained: Run) -> None:
    assert events.crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    (path,) = (trained.folder / "events").iterdir()
    stream, n_events, scalars = io.BytesIO(path.read_bytes()), 0, []
    while length := stream.read(8):
        assert stream.read(4) == events.masked(length)
        content = stream.read(struct.unpack("<Q", length)[0])
        assert stream.read(4) == events.masked(content)
        n_events += 1
        if n_events > 1:
            scalars.append(struct.unpack("<f", content[-4:])[0])
    assert scalars == pytest.approx([loss for _, _, loss in trained.losses], rel=1e-6)
    assert "<polyline" in (trained.folder / "losses.svg").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[stages]]\nobjective = "clip"\nsteps = 1\nbach = 2', "no key 'bach'"),
        ('[[stages]]\nobjective = "gan"\nsteps = 1', "objective 'gan': the objectives are next-word"),
        ('[[stages]]\nobjective = "clip"\nsteps = 0', "steps must be at least 1"),
        ("seed = 1", r"no \[\[stages\]\]"),
    ],
)
def test_a_configuration_that_cannot_run_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "mine.toml")


def test_the_shipped_configurations_are_read() -> None:
    folder = Path(objectives.__file__).parent
    read_files = {path.stem: read(path) for path in folder.glob("*.toml")}
    assert set(read_files) == {"compare", "emoji", "webdataset"}
    assert {stage.objective for stage in read_files["emoji"].stages} >= {
        "masked-image",
        "masked-word",
        "clip",
    }
