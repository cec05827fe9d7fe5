"""`multimodal generate`: images and audio from text, images or audio, with their parameters in the file."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from multimodal.cli import console, options, remote

if TYPE_CHECKING:
    from multimodal.client.remote import Client
    from multimodal.pipelines.generation.pipeline import Generation, GenerationPipeline

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
GENERATION = "Generation"


@options.with_runtime("device", "precision", "offline", "adapter")
def generate(
    *,
    prompt: Annotated[
        str | None, typer.Argument(metavar="[PROMPT]", help="The prompt.", show_default=False)
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            show_default=False,
            help=".png, .jpg or .webp for an image, .wav for audio; with --n above 1, the stem gets -1, -2, …",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help="starter, diffusers/<owner>/<name>, hf/facebook/musicgen-small or ./folder. "
            "\\[default: starter, or that of the server]",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="The same seed gives the same result; random if left out."),
    ] = None,
    n: Annotated[int, typer.Option("--n", "-n", help="Number of results, with consecutive seeds.")] = 1,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="An image or audio file instead of a prompt: its vector is decoded.",
            rich_help_panel=GENERATION,
        ),
    ] = None,
    towards: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="With --n: interpolate from the prompt to this text in N steps.",
            rich_help_panel=GENERATION,
        ),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(
            "--image", metavar="FILE", help="Initial image (image to image).", rich_help_panel=GENERATION
        ),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(help="How much of the initial image may change, up to 1.", rich_help_panel=GENERATION),
    ] = None,
    negative: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Negative prompt.", rich_help_panel=GENERATION)
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Number of denoising steps.", rich_help_panel=GENERATION)
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Guidance scale.", rich_help_panel=GENERATION)
    ] = None,
    width: Annotated[int | None, typer.Option(metavar="PIXELS", rich_help_panel=GENERATION)] = None,
    height: Annotated[int | None, typer.Option(metavar="PIXELS", rich_help_panel=GENERATION)] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Length of the audio.", rich_help_panel=GENERATION)
    ] = None,
    truncate: Annotated[
        bool,
        typer.Option("--truncate", help="Truncate a prompt that is too long.", rich_help_panel=GENERATION),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
    load_options: dict[str, Any],
    decoder: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Another decoder that was trained for the space.",
            rich_help_panel=options.PANEL,
        ),
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(
            metavar="fp16", help="Variant of the weights to download.", rich_help_panel=options.PANEL
        ),
    ] = None,
    json: console.AsJson = False,
) -> None:
    """Generation of images and audio from text, and of images from images and audio.

    \b
    Examples:
      [cyan]multimodal generate --from whistle.wav -o whistle.png[/]
      [cyan]multimodal generate "a cat" --towards "a dog" --n 5 -o pet.png[/]
      [cyan]multimodal generate "a blue heart" -o heart.png --seed 3 --model diffusers/stabilityai/sdxl-turbo[/]
      [cyan]multimodal generate "a blue heart" -o heart.png --n 4 --model ./my-diffusion[/]
      [cyan]multimodal generate "in winter" -o winter.png --image summer.jpg --strength 0.6 --model ./my-diffusion[/]
      [cyan]multimodal generate "a slow waltz" -o waltz.wav --seconds 8 --model hf/facebook/musicgen-small[/]

    Model, seed, prompt and steps are stored in the file.
    """
    _check_asked(prompt, source, towards, n)
    files = _files(output, n, force)
    start_image = None if image is None else _initial_image(image)
    what = prompt if source is None else _media(source)
    connected = remote.client(
        load_options,
        timeout=remote.TASK_TIMEOUT_S,
        variant=variant,
        decoder=decoder,
        towards=towards,
        truncate=truncate,
        seconds=seconds,
    )
    named = model or (remote.DEFAULT_SPACE if connected is None else "the server")
    if connected is not None:
        draw: Any = _remote_painter(connected, model, _size(width, height))
        width = height = None
        _check_suffix(IMAGE_SUFFIXES, "a server", output)
    else:
        with console.working(f"loading {named}", quiet=json):
            draw = _loaded(named, load_options, variant, decoder)
        _check_suffix(_suffixes(draw), repr(draw.name), output)
    given = {
        "image": start_image, "strength": strength, "negative": negative, "steps": steps, "guidance": guidance,
        "width": width, "height": height, "seconds": seconds,
    }  # fmt: skip
    call_options: dict[str, Any] = {key: value for key, value in given.items() if value is not None} | {
        "truncate": truncate
    }
    first = secrets.randbelow(2**32) if seed is None else seed
    whats = [what] * n
    seeds = [first + place for place in range(n)]
    if towards is not None:
        whats, seeds = _steps_between(draw, what, towards, n), [first] * n
    made = []
    for place, file in enumerate(files):  # one at a time, so that an interrupt keeps the finished files
        title = f"{place + 1} of {n}" if n > 1 else "generating"
        result, took = _generate(draw, whats[place], seeds[place], call_options, title, json)
        made.append(result.to_dict() | {"file": str(result.save(file)), "took_seconds": round(took, 3)})
        if not json:
            _show(result, file, took)
    if json:
        console.print_json({"model": named, "made": made})


def _check_asked(prompt: str | None, source: Path | None, towards: str | None, n: int) -> None:
    """Raises BadParameter unless it is clear what to make."""
    if (prompt is None) == (source is None):
        what = "neither was" if prompt is None else "both were"
        raise typer.BadParameter(f"give either PROMPT or --from FILE; {what} given", param_hint="PROMPT")
    if towards is not None and n < 2:
        raise typer.BadParameter(
            "--towards interpolates from the prompt to another text: give the number of steps",
            param_hint="--n",
        )


def _media(path: Path) -> Any:
    """The image, audio or video at a path, checked before a model is loaded."""
    from multimodal.core.items import as_item

    item = as_item(path)
    item.load()
    return item


def _steps_between(draw: GenerationPipeline, first: Any, last: str, n: int) -> list[Any]:
    """n vectors; see `GenerationPipeline.interpolate`."""
    from multimodal.pipelines.generation.pipeline import interpolation_vectors

    return list(interpolation_vectors(draw.backend, first, last, n))


def _files(output: Path, n: int, force: bool) -> list[Path]:
    """The output files. Raises a usage error before a model is loaded."""
    if n < 1:
        raise typer.BadParameter(f"expected a whole number above 0, got {n}", param_hint="--n")
    if output.suffix.lower() not in (*IMAGE_SUFFIXES, ".wav"):
        raise typer.BadParameter(
            f"{str(output)!r} must end in {', '.join(IMAGE_SUFFIXES)} (image) or .wav (audio)",
            param_hint="--output",
        )
    console.check_output(output, "--output")
    files = [output] if n == 1 else [output.with_stem(f"{output.stem}-{place + 1}") for place in range(n)]
    there = [str(file) for file in files if file.exists()]
    if there and not force:
        raise typer.BadParameter(
            f"{', '.join(there)} already exists: choose another name, or replace it with --force",
            param_hint="--output",
        )
    return files


def _initial_image(path: Path) -> Any:
    """Decoded here, so that an unreadable file is reported before a model is loaded."""
    from multimodal.core.items import Image

    return Image(Image(path).load())


def _loaded(
    name: str, load_options: dict[str, Any], variant: str | None, decoder: Path | None
) -> GenerationPipeline:
    from multimodal.core.pipeline import pipeline

    given: dict[str, Any] = {"variant": variant, "decoder": decoder}
    given_options = {key: value for key, value in given.items() if value is not None}
    loaded: GenerationPipeline = pipeline("generation", model=name, **load_options, **given_options)
    return loaded


def _remote_painter(connected: Client, model: str | None, size: str | None) -> Callable[..., Generation]:
    """The images of a server, called like a pipeline; it reports no progress."""
    common: dict[str, Any] = {"size": size} | remote.task_model(model)

    def draw(inputs: Any, *, progress: Any, truncate: bool, **given: Any) -> Generation:
        given["negative_prompt"] = given.pop("negative", None)
        asked = {"prompt": inputs} if isinstance(inputs, str) else {"source": inputs}
        return connected.generate(**asked, **given, **common)

    return draw


def _size(width: int | None, height: int | None) -> str | None:
    if (width is None) != (height is None):
        raise typer.BadParameter("a server takes both sides or none", param_hint="--width")
    return None if width is None else f"{width}x{height}"


def _suffixes(draw: GenerationPipeline) -> tuple[str, ...]:
    from multimodal.core.modality import Modality

    return IMAGE_SUFFIXES if draw.backend.output_modality is Modality.IMAGE else (".wav",)


def _check_suffix(accepted: tuple[str, ...], name: str, output: Path) -> None:
    if output.suffix.lower() not in accepted:
        what = "images" if len(accepted) > 1 else "audio"
        raise typer.BadParameter(
            f"{name} generates {what}: write {output.with_suffix(accepted[0]).name!r}",
            param_hint="--output",
        )


def _generate(
    draw: Any, what: Any, seed: int, call_options: dict[str, Any], title: str, quiet: bool
) -> tuple[Generation, float]:
    """(the result of a prompt, an item or a vector; duration in seconds), with a progress bar of the steps."""
    given: dict[str, Any] = {"vector" if hasattr(what, "dtype") else "inputs": what}
    began = time.perf_counter()
    with _steps(title, quiet) as seen:
        result: Generation = draw(seed=seed, progress=seen, **given, **call_options)
    return result, time.perf_counter() - began


@contextlib.contextmanager
def _steps(title: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr; yields a function of (steps done, steps in total). Nothing is shown if quiet."""
    screen = console.stderr()
    if quiet or not screen.is_terminal:
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True) as shown:
        task = shown.add_task(title, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def _show(result: Generation, file: Path, took: float) -> None:
    size = (
        f"{result.seconds:.1f} s" if result.image is None else f"{result.image.width}x{result.image.height}"
    )
    console.stdout().print(
        f"{console.verbatim(str(file))}: {size}, seed {result.seed}, generated in {took:.1f} s",
        soft_wrap=True,
    )
    if result.flagged:
        console.note(
            f"{file}: the model's safety checker rejected the image and made it black; try another seed"
        )
