"""The shipped network with its preprocessing: `OmniModel.load().read_chart(image)`.

`assets/starter/omni/` holds the weights in float16, and `config.json` with the tasks that the network does well enough.
What is measured and what is not good is in its README.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from multimodal.core.backends.decoding import DecodedSequence
from multimodal.core.backends.runtime import Runtime
from multimodal.core.errors import CorruptSpace, EncoderError
from multimodal.core.paths import assets, local_path
from multimodal.encoders.starter.omni.networks import CHART_HEIGHT, CHART_WIDTH, OmniNet
from multimodal.encoders.starter.omni.reading import Reading, read_charts
from multimodal.encoders.starter.omni.tables import ChartTable
from multimodal.encoders.starter.omni.writing import BEAMS, write_texts
from multimodal.encoders.starter.preprocessing import resize_to_square

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

NAME = "starter-omni"
WEIGHTS, CONFIG = "omni.safetensors", "config.json"
FORMAT = 1
ENCODER_OF = {"describe": "image.", "transcribe": "audio."}
ABILITIES = {
    "describe": "describe scenes",
    "transcribe": "transcribe speech",
    "axes": "read bar and line charts",
    "pie": "read pies",
}
CURE = "train one with 'python -m recipes.omni', or copy the folder again"


@dataclass(frozen=True)
class ChartReading:
    """What was read of a chart.

    Attributes:
        table: Names and values; None if the image was not read as a table.
        reading: The decoder's text and its log-probability.
    """

    table: ChartTable | None
    reading: Reading


def chart_pixels(rgb: NDArray[np.uint8]) -> Tensor:
    """Resizes a chart to fit into CHART_WIDTH × CHART_HEIGHT and pads it with the median grey of its border.

    Args:
        rgb: Pixels (h, w, 3) uint8.

    Returns:
        Grey pixels (1, CHART_HEIGHT, CHART_WIDTH) uint8.
    """
    image = Image.fromarray(rgb).convert("L")
    scale = min(CHART_WIDTH / image.width, CHART_HEIGHT / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    pixels = np.asarray(image)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    canvas = np.full((CHART_HEIGHT, CHART_WIDTH), np.median(border), np.uint8)
    top, left = (CHART_HEIGHT - size[1]) // 2, (CHART_WIDTH - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = pixels
    return torch.from_numpy(canvas)[None]


class OmniModel:
    """The network on a device.

    Attributes:
        net: The network.
        tasks: What it does well enough: "describe", "transcribe", and the kinds of charts, "axes" and "pie".
    """

    def __init__(self, net: OmniNet, tasks: Sequence[str], runtime: Runtime | None = None) -> None:
        runtime = runtime or Runtime()
        self.tasks = tuple(tasks)
        self.device = runtime.torch_device
        self.net = net.eval().requires_grad_(False).to(self.device, runtime.cast)

    @classmethod
    def load(cls, folder: str | os.PathLike[str] | None = None, runtime: Runtime | None = None) -> OmniModel:
        """Loads the shipped network, or one that `save` wrote.

        Args:
            folder: Default: the shipped one.
            runtime: Device and precision.

        Raises:
            CorruptSpace: The files are missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        place = assets() / "starter" / "omni" if folder is None else Path(folder)
        net = OmniNet()
        try:
            config = json.loads((place / CONFIG).read_text(encoding="utf-8"))
            tensors = load_file(place / WEIGHTS)
            tasks = [str(task) for task in config["tasks"]]
            _load(net, tensors, tasks)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise CorruptSpace(f"{NAME} cannot be read from {place} ({error}); {CURE}") from error
        return cls(net, tasks, runtime)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes weights in float16, without encoders of tasks that are not offered, and the configuration."""
        from safetensors.torch import save_file

        target = local_path(folder, "a model")
        target.mkdir(parents=True, exist_ok=True)
        tensors = {
            name: tensor.half().contiguous()
            for name, tensor in self.net.state_dict().items()
            if tensor.is_floating_point() and not name.startswith(_unused(self.tasks))
        }
        save_file(tensors, target / WEIGHTS)
        config = {"format": FORMAT, "name": NAME, "tasks": list(self.tasks)}
        (target / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")

    def to(self, device: torch.device) -> None:
        """Moves the network."""
        self.device = device
        self.net.to(device)

    def require(self, task: str) -> None:
        """Raises EncoderError unless the network does this task well enough."""
        if task not in self.tasks:
            done = " and ".join(ABILITIES[own] for own in self.tasks) or "nothing yet"
            raise EncoderError(
                f"{NAME!r} was not trained well enough to {ABILITIES[task]}; it can {done}. Load another model for "
                "this task"
            )

    def describe(
        self, images: Sequence[NDArray[np.uint8]], *, beams: int = BEAMS, **options: object
    ) -> list[DecodedSequence]:
        """Captions of scenes (h, w, 3) uint8; `options` as for `write_texts`."""
        self.require("describe")
        pixels = torch.stack([resize_to_square(rgb) for rgb in images]).to(self.device)
        with torch.inference_mode():
            memory = self.net.image_memory(pixels)
        return write_texts(self.net, "describe", memory, beams=beams, **options)  # type: ignore[arg-type]

    def transcribe(self, mel: Tensor, *, beams: int = BEAMS) -> tuple[DecodedSequence, Tensor]:
        """Log-mels (frames, 64) of one phrase -> its characters, and CTC log-probabilities (steps, classes)."""
        self.require("transcribe")
        with torch.inference_mode():
            lengths = torch.tensor([len(mel)], device=self.device)
            memory, blocked, states, _ = self.net.speech_memory(mel[None].to(self.device), lengths)
            logs = self.net.audio.characters(states)[0].cpu()
        return write_texts(self.net, "transcribe", memory, blocked, beams=beams)[0], logs

    def read_chart(self, rgb: NDArray[np.uint8]) -> ChartReading:
        """Reads one chart (h, w, 3) uint8.

        Raises:
            EncoderError: A kind of chart that the network does not read well enough.
        """
        reading = read_charts(self.net, chart_pixels(rgb)[None].to(self.device))[0]
        table = ChartTable.parse(reading.text) if reading.ended else None
        self.require("pie" if table is not None and table.unit else "axes")
        return ChartReading(table, reading)


def _unused(tasks: Sequence[str]) -> tuple[str, ...]:
    """The first parts of the names of tensors that none of the tasks needs."""
    return tuple(part for task, part in ENCODER_OF.items() if task not in tasks)


def _load(net: OmniNet, tensors: Mapping[str, Tensor], tasks: Sequence[str]) -> None:
    expected = {
        name for name, value in net.state_dict().items()
        if value.is_floating_point() and not name.startswith(_unused(tasks))
    }  # fmt: skip
    if expected - set(tensors):
        raise ValueError(f"{len(expected - set(tensors))} tensors are missing")
    net.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, strict=False)
