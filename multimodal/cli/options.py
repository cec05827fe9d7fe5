"""Options of every command that loads a model: which device, precision, decoder and engine, and whether offline."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from multimodal.core.backends import runtime

PANEL = "Model runtime"
DEFAULT = runtime.Runtime(device="auto")

Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="DEVICE",
        rich_help_panel=PANEL,
        help="cpu, cuda, cuda:1 or mps; auto selects an accelerator if there is one.",
    ),
]
Precision = Annotated[
    runtime.Precision,
    typer.Option(
        "--precision",
        rich_help_panel=PANEL,
        help="Precision of the weights; auto selects bfloat16 if it is fast here and a check at load finds the "
        "vectors unchanged.",
    ),
]
Decode = Annotated[
    runtime.Decode,
    typer.Option(
        "--decode", rich_help_panel=PANEL, help="JPEG decoding; fast decodes at a reduced resolution."
    ),
]
Engine = Annotated[
    runtime.Engine,
    typer.Option(
        "--engine",
        rich_help_panel=PANEL,
        help="Inference engine; openvino is faster on CPUs, for hf/ and openclip/ models.",
    ),
]
Offline = Annotated[bool, typer.Option("--offline", rich_help_panel=PANEL, help="Make no network requests.")]

# Of the commands that encode files into an index
Threads = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Reader and decoder threads. \\[default: number of cores]"),
]
BatchSize = Annotated[
    int,
    typer.Option(min=1, metavar="N", help="Images per batch; other modalities by equal cost."),
]

# name of an option -> (its annotation, its default); in the order of --help
RUNTIME: dict[str, tuple[Any, Any]] = {
    "device": (Device, DEFAULT.device),
    "precision": (Precision, DEFAULT.precision),
    "decode": (Decode, DEFAULT.decode),
    "engine": (Engine, DEFAULT.engine),
    "offline": (Offline, False),
}


def with_runtime(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds the runtime options to a command that has a `load_options` parameter.

    The command itself is called with `load_options`: a dict for `load` with the options that differ from their
    defaults, so that a family only receives what was given on the command line.

    Args:
        names: Which of RUNTIME to add; all of them by default.
    """
    chosen = {name: RUNTIME[name] for name in names or RUNTIME}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**arguments: Any) -> None:
            given = {name: arguments.pop(name) for name in chosen}
            command(**arguments, load_options=_without_defaults(given))

        signature = inspect.signature(command, eval_str=True)
        parameters: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            if parameter.name == "load_options":
                parameters += [
                    inspect.Parameter(name, parameter.kind, default=default, annotation=annotation)
                    for name, (annotation, default) in chosen.items()
                ]
            else:
                parameters.append(parameter)
        # typer reads the options of a command from its signature
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def _without_defaults(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value != RUNTIME[name][1]}
