"""`multimodal ask`: answers a question from an index, with its sources."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from multimodal.cli import console, options, remote
from multimodal.cli.indexes.search import conditions_of, open_existing, require_index
from multimodal.core.adapters import split_options
from multimodal.core.items import Audio, Image
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    from multimodal.index import Index
    from multimodal.pipelines.answering.result import Answer, AnswerPart

DEFAULTS: dict[str, object] = {"model": "extractive", "captioner": "starter", "transcriber": "starter"}


def _given(metavar: str, help: str) -> Any:
    return typer.Option(metavar=metavar, help=help, show_default=False)


@options.with_runtime("device", "precision", "offline", "adapter")
def ask(
    index: options.IndexArgument,
    question: Annotated[
        str | None, typer.Argument(metavar="[QUESTION]", help="The question in words.")
    ] = None,
    audio: Annotated[
        Path | None, _given("FILE", "A spoken question; beside a question in words, a recording it is about.")
    ] = None,
    image: Annotated[Path | None, _given("FILE", "An image that the question is about.")] = None,
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="extractive quotes the best source; openai/…, anthropic/…, hf/owner/name, hf/./folder or "
            "http://localhost:8080/v1#NAME write.",
        ),
    ] = "extractive",
    k: Annotated[int, typer.Option("-k", min=1, metavar="N", help="Maximum number of sources.")] = 8,
    modality: Annotated[
        list[Modality] | None,
        typer.Option(help="Only sources of this modality; may be repeated.", show_default=False),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Filter by metadata; also <, <=, >, >=; may be repeated."),
    ] = None,
    instructions: Annotated[str | None, _given("TEXT", "Added to the instructions of the model.")] = None,
    context_tokens: Annotated[int, typer.Option(metavar="N", help="Maximum tokens of the prompt.")] = 6_000,
    max_tokens: Annotated[int, typer.Option(metavar="N", help="Maximum tokens of the answer.")] = 512,
    takes: Annotated[
        list[Modality] | None,
        typer.Option("--inputs", help="What a remote model takes; may be repeated.", show_default=False),
    ] = None,
    safety: Annotated[
        str | None, _given("NAME", "Moderation: hf/owner/name, openai/… or https://server/v1#NAME.")
    ] = None,
    captioner: Annotated[
        str, typer.Option(metavar="NAME", help="Describes images for a model that takes none.")
    ] = "starter",
    transcriber: Annotated[
        str, typer.Option(metavar="NAME", help="Transcribes spoken questions and audio.")
    ] = "starter",
    space: Annotated[
        str | None, _given("NAME", "The model of the index, if its recorded name cannot be loaded.")
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print the answer while it is written.")] = False,
    *,
    load_options: dict[str, Any],
    json: console.AsJson = False,
) -> None:
    """Answer a question from an index, and name the sources.

    \b
    Examples:
      [cyan]multimodal ask notes.lance "How high is the tower?"[/]
      [cyan]multimodal ask notes.lance --audio question.wav --json[/]
      [cyan]multimodal ask notes.lance "What grows here?" --image garden.jpg --model openai/NAME --stream[/]
      [cyan]multimodal ask notes.lance "How high is it?" --model http://localhost:11434/v1#llama3.2[/]

    Without a model, the answer is a quotation from the best source. Exit code 4: the sources do not hold the answer,
    or the model declined.
    """
    conditions = conditions_of(where)
    asked, call_options = _question(question, audio, image)
    models = {"inputs": takes, "safety": safety, "captioner": captioner, "transcriber": transcriber}
    others = {
        name: value for name, value in ({"model": model} | models).items() if value != DEFAULTS.get(name)
    }
    connected = remote.client(
        load_options, timeout=remote.TASK_TIMEOUT_S, space=space, stream=stream, **others
    )
    if connected is not None:
        answering: Any = functools.partial(connected.ask, index=index.stem)
    else:
        require_index(index)
        with console.working("opening the index", quiet=json):
            of_space, of_model = split_options(load_options)
            opened = open_existing(index, space, of_space)
            answering = _load(model, opened, models | of_model)
    call_options |= {"k": k, "modality": modality or None, "where": conditions or None}
    call_options |= {"instructions": instructions, "context_tokens": context_tokens, "max_tokens": max_tokens}
    if stream and not json:
        answer = _print_parts(answering.stream(asked, **call_options))
    else:
        with console.working("answering", quiet=json):
            answer = answering(asked, **call_options)
        if json:
            console.print_json({"index": str(index)} | answer.to_dict())
        else:
            console.stdout().print(console.verbatim(answer.text))
    if not json:
        _show_sources(answer)
    if answer.refused:
        raise typer.Exit(console.NO_ANSWER)


def _load(model: str, index: Index, given: dict[str, Any]) -> Any:
    from multimodal.core.pipeline import pipeline

    return pipeline("answering", model=model, index=index, **given)


def _question(words: str | None, audio: Path | None, image: Path | None) -> tuple[Any, dict[str, Any]]:
    """The question, and the media that belong to it."""
    if words is None and audio is None and image is None:
        raise typer.BadParameter(
            "give a question in words, or --audio or --image FILE", param_hint="QUESTION"
        )
    picture = None if image is None else Image(image.expanduser())
    recording = None if audio is None else Audio(audio.expanduser())
    for item in (picture, recording):
        if item is not None:
            item.load()  # errors are reported before a model is loaded
    if words is not None:
        return words, {"image": picture, "audio": recording}
    if recording is not None:
        return recording, {"image": picture}
    return picture, {}


def _print_parts(parts: Iterable[AnswerPart]) -> Answer:
    """Prints the words as they come; returns the checked answer, which the last part holds."""
    answers = []
    for part in parts:
        sys.stdout.write(console.printable(part.text))
        sys.stdout.flush()
        answers += [] if part.answer is None else [part.answer]
    sys.stdout.write("\n")
    return answers[-1]


def _show_sources(answer: Answer) -> None:
    for line in dict.fromkeys(map(str, answer.citations)):
        console.stdout().print(f"[dim]{console.verbatim(line)}[/]", soft_wrap=True)
    if answer.refused:
        console.note(f"no answer: {answer.reason}")
        return
    if not answer.complete:
        console.note("the answer is incomplete; --max-tokens sets its length")
    if not answer.verified:
        console.note("the answer cites no source")
    if answer.dropped.citations:
        console.note(f"citations removed, which no source supports: {answer.dropped.citations}")
