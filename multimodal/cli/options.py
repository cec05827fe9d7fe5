"""Options of every command that loads a model: device, precision, decoding, engine, adapters, and whether offline."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from multimodal.cli import console
from multimodal.core.backends import runtime
from multimodal.core.errors import InvalidInput
from multimodal.core.paths import URL
from multimodal.core.remote.path import AnyPath, RemotePath, is_remote, lacks_a_slash, refused

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
Adapter = Annotated[
    list[str] | None,
    typer.Option(
        "--adapter",
        metavar="DIR",
        rich_help_panel=PANEL,
        help="An adapter of [bold]multimodal finetune[/] for the model; may be repeated.",
        show_default=False,
    ),
]


def index_place(given: str) -> AnyPath:
    """The folder of an index, or its address on an object store. Raises a usage error for any other URL."""
    if URL.match(given) is None and not lacks_a_slash(given):
        return Path(given)
    try:
        if not is_remote(given):
            raise refused(given)
        return RemotePath(given)
    except InvalidInput as error:
        raise typer.BadParameter(str(error)) from error


# Annotated with Path, which help shows as <path>, although the parser may give a RemotePath: Typer takes no unions
IndexArgument = Annotated[
    Path,
    typer.Argument(
        metavar="INDEX", help="An index made by multimodal index.", show_default=False, parser=index_place
    ),
]

# Of the commands that encode files into an index
Threads = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Reader and decoder threads. \\[default: number of cores]"),
]
BatchSize = Annotated[
    int,
    typer.Option(min=1, metavar="N", help="Images per batch; other modalities by equal cost."),
]

# Of the commands that run on many machines, which have a `cluster` parameter
CLUSTER_PANEL = "Many machines"
RAY = "ray"
EngineOrRay = Annotated[
    Literal["torch", "openvino", "ray"],
    typer.Option(
        "--engine",
        rich_help_panel=PANEL,
        help="Inference engine; openvino is faster on CPUs, for hf/ and openclip/ models. ray runs the command on the "
        "machines of a Ray cluster, with torch.",
    ),
]
TorchOrRay = Annotated[
    Literal["torch", "ray"],
    typer.Option(
        "--engine",
        rich_help_panel=PANEL,
        help="ray runs the command on the machines of a Ray cluster.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        rich_help_panel=CLUSTER_PANEL,
        help="The Ray cluster; implies --engine ray. \\[default: RAY_ADDRESS, or this machine]",
        show_default=False,
    ),
]
WorkerCount = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        metavar="N",
        rich_help_panel=CLUSTER_PANEL,
        help="Worker processes; implies Ray. \\[default: one for each GPU, or else for each core]",
        show_default=False,
    ),
]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-worker",
        min=0,
        metavar="N",
        rich_help_panel=CLUSTER_PANEL,
        help="GPUs of each worker, such as 0.5; implies Ray. \\[default: 1 if there are GPUs]",
        show_default=False,
    ),
]
CLUSTER: dict[str, tuple[Any, Any]] = {
    "address": (Address, None),
    "workers": (WorkerCount, None),
    "gpus_per_worker": (GpusPerWorker, None),
}

# name of an option -> (its annotation, its default); in the order of --help
RUNTIME: dict[str, tuple[Any, Any]] = {
    "device": (Device, DEFAULT.device),
    "precision": (Precision, DEFAULT.precision),
    "decode": (Decode, DEFAULT.decode),
    "engine": (Engine, DEFAULT.engine),
    "offline": (Offline, False),
    "adapter": (Adapter, None),
}


def with_runtime(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds the runtime options to a command that has a `load_options` parameter.

    The command itself is called with `load_options`: a dict for `load` with the options that differ from their
    defaults, so that a family only receives what was given on the command line.

    A command that also has a `cluster` parameter can run on many machines: `cluster` is a dict of the arguments
    `engine`, `address`, `workers` and `gpus_per_worker`, empty if it runs in this process.

    Args:
        names: Which of RUNTIME to add; all of them by default.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        chosen = {name: RUNTIME[name] for name in names or RUNTIME}
        clustered = CLUSTER if "cluster" in signature.parameters else {}
        if clustered:
            chosen["engine"] = (EngineOrRay if "engine" in chosen else TorchOrRay, DEFAULT.engine)

        @functools.wraps(command)
        def run(**arguments: Any) -> None:
            given = {name: arguments.pop(name) for name in chosen}
            if clustered:
                arguments["cluster"] = _cluster(given, {name: arguments.pop(name) for name in clustered})
            command(**arguments, load_options=_without_defaults(given))

        parameters: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            if parameter.name == "load_options":
                parameters += [
                    inspect.Parameter(name, parameter.kind, default=default, annotation=annotation)
                    for name, (annotation, default) in (chosen | clustered).items()
                ]
            elif parameter.name != "cluster":
                parameters.append(parameter)
        # typer reads the options of a command from its signature
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def on_cluster(
    build: Callable[[], Any],
    inputs: Sequence[Any],
    cluster: dict[str, Any],
    *,
    unit_size: int,
    what: str,
    quiet: bool,
) -> list[Any]:
    """The outcomes of inputs on the machines of a Ray cluster, in their order, with a progress bar; see map_inputs."""
    from multimodal.core.cluster.mapping import map_inputs
    from multimodal.core.cluster.options import ClusterOptions

    machines = ClusterOptions(cluster["address"], cluster["workers"], cluster["gpus_per_worker"])
    outcomes: list[Any] = [None] * len(inputs)
    with console.progress(what, len(inputs), quiet=quiet) as done:
        for start, some in map_inputs(build, inputs, machines, unit_size=unit_size):
            outcomes[start : start + len(some)] = some
            done(len(some))
    return outcomes


def _cluster(given: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a job on many machines, or none. Leaves the inference engine in `given`."""
    is_named = given["engine"] == RAY
    if is_named:
        given["engine"] = DEFAULT.engine
    if not is_named and all(value is None for value in options.values()):
        return {}
    return {"engine": RAY} | options


def _without_defaults(given: dict[str, Any]) -> dict[str, Any]:
    chosen = {name: value for name, value in given.items() if value and value != RUNTIME[name][1]}
    if "adapter" in chosen:
        from multimodal.core.adapters import absolute_folders

        folders = absolute_folders(list(chosen["adapter"]))  # workers may have another working directory
        chosen["adapter"] = folders[0] if len(folders) == 1 else folders
    return chosen
