"""`multimodal generate`: pictures and sounds out of words, or a picture and words, as files that say how they came."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from multimodal.cli import console, options

if TYPE_CHECKING:
    from multimodal.pipelines.generation.pipeline import Generation, GenerationPipeline

SUFFIXES = (".png", ".wav")
WHAT = "What is made"


@options.with_runtime("device", "precision", "offline")
def generate(
    *,
    prompt: Annotated[
        str | None, typer.Argument(metavar="[WORDS]", help="What to make.", show_default=False)
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            show_default=False,
            help=".png for a picture, .wav for a sound; with --n above 1, -1, -2, … is put before the dot.",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="NAME",
            help="starter, diffusers/<owner>/<name>, hf/facebook/musicgen-small or ./folder.",
        ),
    ] = "starter",
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="The same seed makes the same thing; by chance if left out."),
    ] = None,
    n: Annotated[int, typer.Option("--n", "-n", help="How many, with seeds that count on.")] = 1,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="A picture or a recording instead of words: what it means is drawn.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    towards: Annotated[
        str | None,
        typer.Option(
            metavar="WORDS",
            help="With --n: in so many even steps from what is asked to this.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option("--image", metavar="FILE", help="A picture to begin with.", rich_help_panel=WHAT),
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="How much of the picture may change, to 1.", rich_help_panel=WHAT)
    ] = None,
    negative: Annotated[
        str | None, typer.Option(metavar="WORDS", help="What is not wanted.", rich_help_panel=WHAT)
    ] = None,
    steps: Annotated[int | None, typer.Option(help="More take longer.", rich_help_panel=WHAT)] = None,
    guidance: Annotated[
        float | None, typer.Option(help="How closely to follow the words.", rich_help_panel=WHAT)
    ] = None,
    width: Annotated[int | None, typer.Option(metavar="PIXELS", rich_help_panel=WHAT)] = None,
    height: Annotated[int | None, typer.Option(metavar="PIXELS", rich_help_panel=WHAT)] = None,
    seconds: Annotated[float | None, typer.Option(help="Of a sound.", rich_help_panel=WHAT)] = None,
    truncate: Annotated[
        bool,
        typer.Option(
            "--truncate", help="Read the beginning of a prompt that is too long.", rich_help_panel=WHAT
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    load_options: dict[str, Any],
    decoder: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Of a space: another generator that was trained for it.",
            rich_help_panel=options.PANEL,
        ),
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(metavar="fp16", help="Of the weights: less to fetch.", rich_help_panel=options.PANEL),
    ] = None,
    json: console.AsJson = False,
) -> None:
    """Make pictures or sounds out of words, or pictures of what a picture or a recording means.

    \b
    Examples:
      [cyan]multimodal generate --from whistle.wav -o whistle.png[/]
      [cyan]multimodal generate "a cat" --towards "a dog" --n 5 -o pet.png[/]
      [cyan]multimodal generate "a blue heart" -o heart.png --seed 3 --model diffusers/stabilityai/sdxl-turbo[/]
      [cyan]multimodal generate "a blue heart" -o heart.png --n 4 --model ./my-diffusion[/]
      [cyan]multimodal generate "in winter" -o winter.png --image summer.jpg --strength 0.6 --model ./my-diffusion[/]
      [cyan]multimodal generate "a slow waltz" -o waltz.wav --seconds 8 --model hf/facebook/musicgen-small[/]

    How each was made (model, seed, prompt, steps) is written into the file.
    """
    _check_asked(prompt, source, towards, n)
    files = _files(output, n, force)
    picture = None if image is None else _picture(image)
    what = prompt if source is None else _media(source)
    with console.working(f"loading {model}", quiet=json):
        draw = _loaded(model, load_options, variant, decoder)
    _check_suffix(draw, output)
    given = {
        "image": picture, "strength": strength, "negative": negative, "steps": steps, "guidance": guidance,
        "width": width, "height": height, "seconds": seconds,
    }  # fmt: skip
    how: dict[str, Any] = {key: value for key, value in given.items() if value is not None} | {
        "truncate": truncate
    }
    first = secrets.randbelow(2**32) if seed is None else seed
    whats = [what] * n
    seeds = [first + place for place in range(n)]
    if towards is not None:
        whats, seeds = _steps_between(draw, what, towards, n), [first] * n
    made = []
    for place, file in enumerate(files):  # one by one, so that what is done stays if the next is stopped
        title = f"{place + 1} of {n}" if n > 1 else "making it"
        one, took = _one(draw, whats[place], seeds[place], how, title, json)
        made.append(one.to_dict() | {"file": str(one.save(file)), "took_seconds": round(took, 3)})
        if not json:
            _show(one, file, took)
    if json:
        console.print_json({"model": model, "made": made})


def _check_asked(prompt: str | None, source: Path | None, towards: str | None, n: int) -> None:
    """Raises BadParameter unless it is clear what to make."""
    if (prompt is None) == (source is None):
        what = "neither was" if prompt is None else "both were"
        raise typer.BadParameter(f"give either WORDS or --from FILE; {what} given", param_hint="WORDS")
    if towards is not None and n < 2:
        raise typer.BadParameter(
            "--towards draws steps from one thing to another: say how many", param_hint="--n"
        )


def _media(path: Path) -> Any:
    """A picture, a recording or a video, looked into before a model is loaded."""
    from multimodal.core.items import as_item

    item = as_item(path)
    item.load()
    return item


def _steps_between(draw: GenerationPipeline, first: Any, last: str, n: int) -> list[Any]:
    """n vectors; see `GenerationPipeline.between`."""
    from multimodal.pipelines.generation.pipeline import interpolation_vectors

    return list(interpolation_vectors(draw.backend, first, last, n))


def _files(output: Path, n: int, force: bool) -> list[Path]:
    """Where each goes. Whatever can be refused is refused here, before anything is loaded."""
    if n < 1:
        raise typer.BadParameter(f"a whole number above 0 is due, got {n}", param_hint="--n")
    if output.suffix.lower() not in SUFFIXES:
        raise typer.BadParameter(
            f"{str(output)!r} must end in .png (a picture) or .wav (a sound)", param_hint="--output"
        )
    if not output.absolute().parent.is_dir():
        raise typer.BadParameter(
            f"the folder {output.absolute().parent} does not exist", param_hint="--output"
        )
    files = [output] if n == 1 else [output.with_stem(f"{output.stem}-{place + 1}") for place in range(n)]
    there = [str(file) for file in files if file.exists()]
    if there and not force:
        raise typer.BadParameter(
            f"{', '.join(there)} is there already: take another name, or --force to replace it",
            param_hint="--output",
        )
    return files


def _picture(path: Path) -> Any:
    """Decoded here, so that a broken one is told before a model is loaded."""
    from multimodal.core.items import Image

    return Image(Image(path).load())


def _loaded(
    name: str, load_options: dict[str, Any], variant: str | None, decoder: Path | None
) -> GenerationPipeline:
    from multimodal.pipelines.generation.pipeline import GenerationPipeline

    given: dict[str, Any] = {"variant": variant, "decoder": decoder}
    given_options = {key: value for key, value in given.items() if value is not None}
    return GenerationPipeline.from_pretrained(name, **load_options, **given_options)


def _check_suffix(draw: GenerationPipeline, output: Path) -> None:
    from multimodal.core.modality import Modality

    due = ".png" if draw.backend.output_modality is Modality.IMAGE else ".wav"
    if output.suffix.lower() != due:
        what = "pictures" if due == ".png" else "sounds"
        raise typer.BadParameter(
            f"{draw.name!r} makes {what}: write {output.with_suffix(due).name!r}", param_hint="--output"
        )


def _one(
    draw: GenerationPipeline, what: Any, seed: int, how: dict[str, Any], title: str, quiet: bool
) -> tuple[Generation, float]:
    """(what was made of words, an item or a vector; seconds it took), with a bar that counts its steps."""
    import numpy as np

    given: dict[str, Any] = {"vector" if isinstance(what, np.ndarray) else "inputs": what}
    began = time.perf_counter()
    with _steps(title, quiet) as seen:
        one: Generation = draw(seed=seed, progress=seen, **given, **how)
    return one, time.perf_counter() - began


@contextlib.contextmanager
def _steps(title: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr; yields what to call with the steps done and in all. Nothing is shown if quiet or no terminal."""
    screen = console.stderr()
    if quiet or not screen.is_terminal:
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True) as shown:
        task = shown.add_task(title, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def _show(one: Generation, file: Path, took: float) -> None:
    size = f"{one.seconds:.1f} s" if one.image is None else f"{one.image.width}x{one.image.height}"
    console.stdout().print(
        f"{console.verbatim(str(file))}: {size}, seed {one.seed}, made in {took:.1f} s", soft_wrap=True
    )
    if one.flagged:
        console.note(
            f"{file}: the model's own safety checker refused this picture and made it black; try another seed"
        )
