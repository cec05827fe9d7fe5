"""`multimodal generate`: files that say how they were made, and none that is half."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import multimodal as mm
from multimodal.core.paths import assets
from multimodal.pipelines.generation.pipeline import Generation, GenerationPipeline
from tests.cli.conftest import Cli
from tests.pipelines.generation.generation_models import Checkpoints, checkpoints

__all__ = ["checkpoints"]  # a fixture

SIZE = ("--steps", "2", "--width", "32", "--height", "32")


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = GenerationPipeline.from_pretrained
    made: dict[str, GenerationPipeline] = KEPT

    def once(name: Any, **options: Any) -> GenerationPipeline:
        key = f"{name} {options}"
        if key not in made:
            made[key] = whole(name, **options)
        return made[key]

    monkeypatch.setattr(GenerationPipeline, "from_pretrained", once)


KEPT: dict[str, GenerationPipeline] = {}


@pytest.fixture
def model(checkpoints: Checkpoints) -> Path:
    return checkpoints("stable_diffusion")


def test_an_image_is_drawn_into_a_file_that_says_how(cli: Cli, model: Path, tmp_path: Path) -> None:
    place = tmp_path / "heart.png"
    outcome = cli(
        "generate", "a blue heart", "-o", place, "--model", model, "--seed", 3, *SIZE, "--negative", "rain"
    )
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout.replace("\n", "").startswith(f"{place}: 32x32, seed 3, generated in ")
    made = Generation.load(place)
    again = mm.GenerationPipeline.from_pretrained(str(model))(
        "a blue heart", seed=3, steps=2, width=32, height=32, negative="rain"
    )
    assert made.metadata == again.metadata
    assert np.array_equal(np.asarray(made.image), np.asarray(again.image))


def test_several_are_numbered_and_their_seeds_count_on(cli: Cli, model: Path, tmp_path: Path) -> None:
    how = ("generate", "a cat", "-o", tmp_path / "cat.png", "--model", model, "--n", 3, *SIZE, "--json")
    output = cli(*how, "--seed", 7).json()
    files = [tmp_path / f"cat-{number}.png" for number in (1, 2, 3)]
    assert output["model"] == str(model)
    assert [(item["file"], item["seed"], item["width"]) for item in output["made"]] == [
        (str(file), seed, 32) for file, seed in zip(files, (7, 8, 9), strict=True)
    ]
    assert sorted(tmp_path.glob("*.png")) == files
    by_chance = [item["seed"] for item in cli(*how, "--force").json()["made"]]
    assert by_chance[1] == by_chance[0] + 1 and by_chance != [7, 8, 9]


def test_an_image_is_redrawn(cli: Cli, model: Path, tmp_path: Path) -> None:
    start, place = tmp_path / "in.png", tmp_path / "out.png"
    Image.new("RGB", (40, 32), (200, 30, 30)).save(start)
    how = ("--image", start, "--strength", 0.5, "--steps", 4, "--seed", 1, "--json")
    (made,) = cli("generate", "a cat", "-o", place, "--model", model, *how).json()["made"]
    assert (made["width"], made["height"], made["strength"]) == (40, 32, 0.5)


def test_audio_is_made(cli: Cli, checkpoints: Checkpoints, tmp_path: Path) -> None:
    place = tmp_path / "waltz.wav"
    outcome = cli("generate", "a waltz", "-o", place, "--model", checkpoints("musicgen"), "--seconds", 0.5)
    assert outcome.code == 0, outcome.stderr
    assert ": 0.5 s, seed " in outcome.stdout.replace("\n", " ").replace("  ", " ")
    assert mm.Audio(place).load().seconds == 0.5


def test_a_refused_image_is_noted(cli: Cli, checkpoints: Checkpoints, tmp_path: Path) -> None:
    place, flagging = tmp_path / "x.png", checkpoints("checked_stable_diffusion")
    outcome = cli("generate", "a cat", "-o", place, "--model", flagging, *SIZE)
    assert (outcome.code, Generation.load(place).flagged) == (0, True)
    assert outcome.stderr == (
        f"note: {place}: the model's safety checker rejected the image and made it black; try another seed\n"
    )


def test_nothing_is_overwritten_without_force(cli: Cli, model: Path, tmp_path: Path) -> None:
    place = tmp_path / "cat-2.png"
    place.write_bytes(b"mine")
    how = ("generate", "a cat", "-o", tmp_path / "cat.png", "--n", 2, *SIZE)
    outcome = cli(*how, "--model", "no-such-model")  # refused before a model is looked for
    assert outcome.code == 2
    assert "already exists: choose another name, or replace it with --force" in " ".join(
        outcome.stderr.replace("│", " ").split()
    )
    assert place.read_bytes() == b"mine" and not (tmp_path / "cat-1.png").exists()
    assert cli(*how, "--model", model, "--force").code == 0
    assert Generation.load(place).prompt == "a cat"


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("-o", "x.gif"), 2, "must end in .png, .jpg, .jpeg, .webp (image) or .wav (audio)"),
        (("-o", "gone/x.png"), 2, "does not exist"),
        (("-o", "x.png", "--n", 0), 2, "expected a whole number above 0, got 0"),
        (("-o", "x.wav"), 2, "generates images: write 'x.png'"),
        (("-o", "x.png", "--steps", 0), 1, "error: steps must be a whole number above 0, got 0"),
        (("-o", "x.png", "--width", 30), 1, "error: width must be a multiple of 8"),
        (("-o", "x.png", "--image", "gone.jpg"), 1, "error: gone.jpg"),
        (("-o", "x.png", "--seconds", 3), 1, "which takes no seconds"),
        (("-o", "x.png", "--seed", -1), 1, "error: seed must be a whole number from 0 to 2^63 - 1, got -1"),
    ],
)
def test_what_cannot_be_done_is_said(
    more: tuple[object, ...], code: int, said: str, cli: Cli, model: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = cli("generate", "a cat", "--model", model, *more)
    assert outcome.code == code
    assert said in " ".join(outcome.stderr.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


def test_without_a_model_the_one_that_ships_draws(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("generate", "a red heart", "-o", tmp_path / "heart.png", "--seed", 3, "--json")
    assert outcome.code == 0, outcome.stderr
    (made,) = outcome.json()["made"]
    assert (made["model"], made["width"], made["height"], made["seed"]) == ("starter", 64, 64, 3)
    again = mm.GenerationPipeline.from_pretrained("starter")("a red heart", seed=3)
    assert Generation.load(tmp_path / "heart.png").metadata == again.metadata


def test_a_recording_is_drawn(cli: Cli, tmp_path: Path) -> None:
    clip = assets() / "gallery" / "sounds" / "guitar.flac"
    outcome = cli("generate", "--from", clip, "-o", tmp_path / "guitar.png", "--seed", 3)
    assert outcome.code == 0, outcome.stderr
    again = mm.GenerationPipeline.from_pretrained("starter")(mm.Audio(clip), seed=3)
    assert again.image is not None
    with Image.open(tmp_path / "guitar.png") as drawn:
        assert (np.asarray(drawn) == np.asarray(again.image)).all()


def test_steps_from_one_item_to_another_have_one_seed(cli: Cli, tmp_path: Path) -> None:
    outcome = cli(
        "generate", "a cat", "--towards", "a dog", "--n", 3, "-o", tmp_path / "pet.png", "--seed", 5
    )
    assert outcome.code == 0, outcome.stderr
    expected = mm.GenerationPipeline.from_pretrained("starter").interpolate("a cat", "a dog", n=3, seed=5)
    for place, item in enumerate(expected, 1):
        made = Generation.load(tmp_path / f"pet-{place}.png")
        assert made.seed == 5 and made.image is not None and item.image is not None
        assert np.abs(np.asarray(made.image).astype(int) - np.asarray(item.image).astype(int)).max() <= 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give either PROMPT or --from FILE; neither was given"),
        (("a cat", "--from", "clip.wav"), "give either PROMPT or --from FILE; both were given"),
        (
            ("a cat", "--towards", "a dog"),
            "--towards interpolates from the prompt to another text: give the number of steps",
        ),
        (("--from", "gone.wav"), "error: gone.wav"),
    ],
)
def test_what_is_drawn_must_be_clear(
    arguments: tuple[str, ...], said: str, cli: Cli, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = cli("generate", *arguments, "-o", "x.png")
    assert outcome.code in (1, 2)
    assert said in " ".join(outcome.stderr.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


def test_an_empty_prompt_and_one_that_is_too_long_are_refused(cli: Cli, model: Path, tmp_path: Path) -> None:
    how = ("-o", tmp_path / "x.png", "--model", model, *SIZE)
    assert cli("generate", " ", *how).stderr == "error: the prompt is empty: describe what to generate\n"
    outcome = cli("generate", "red " * 40, *how)
    assert outcome.code == 1 and "122 tokens" in outcome.stderr
    assert cli("generate", "red " * 40, *how, "--truncate").code == 0


def test_ctrl_c_ends_with_130_and_leaves_no_half_file(
    cli: Cli, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes while the third image is written; test_main.py sends a real signal to a process."""
    write, written = Path.write_bytes, list[Path]()

    def interrupted(file: Path, content: bytes) -> int:
        written.append(file)
        if len(written) < 3:
            return write(file, content)
        write(file, content[:99])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    outcome = cli("generate", "a cat", "-o", tmp_path / "cat.png", "--n", "5", "--model", model, *SIZE)
    assert (outcome.code, outcome.stderr.splitlines()[-1]) == (130, "stopped")
    made = sorted(tmp_path.iterdir())
    assert [file.name for file in made] == ["cat-1.png", "cat-2.png"]
    assert all(Generation.load(file).prompt == "a cat" for file in made)
