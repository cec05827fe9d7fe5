"""The options of every command that loads a model: where and how exactly it runs. What they do is `load`'s affair."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from multimodal.core.backends import runtime

PANEL = "How the model runs"
DEFAULT = runtime.Runtime(device="auto")

Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="DEVICE",
        rich_help_panel=PANEL,
        help="cpu, cuda, cuda:1, mps; auto is the accelerator, if there is one.",
    ),
]
Precision = Annotated[
    runtime.Precision,
    typer.Option(
        "--precision",
        rich_help_panel=PANEL,
        help="Of the weights; auto is bfloat16 where that is fast and a trial finds the vectors kept.",
    ),
]
Decode = Annotated[
    runtime.Decode,
    typer.Option("--decode", rich_help_panel=PANEL, help="fast lets JPEGs be decoded smaller."),
]
Engine = Annotated[
    runtime.Engine,
    typer.Option(
        "--engine", rich_help_panel=PANEL, help="openvino is faster on CPUs, for models of hf and openclip."
    ),
]
Offline = Annotated[
    bool, typer.Option("--offline", rich_help_panel=PANEL, help="Take nothing from the network.")
]


def asked(
    device: str, precision: str, decode: str, offline: bool, engine: str = DEFAULT.engine
) -> dict[str, Any]:
    """What to hand to `load`: what is not the default, so that a family is asked for nothing it need not know."""
    given = {"device": device, "precision": precision, "decode": decode, "engine": engine}
    options: dict[str, Any] = {key: value for key, value in given.items() if value != getattr(DEFAULT, key)}
    return options | ({"offline": True} if offline else {})
