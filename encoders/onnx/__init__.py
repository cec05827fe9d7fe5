"""`load("onnx/./folder")`: a space that `multimodal.export` wrote, run by ONNX Runtime or OpenVINO on the CPU.

Neither loading nor encoding needs torch: preprocessing is Pillow, numpy and tokenizers. How far the vectors are from
those of the source was measured at export and stands in the folder's README.md and export.json.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from multimodal.core.card import Card
from multimodal.core.errors import UnknownModel
from multimodal.core.space import Space

if TYPE_CHECKING:
    from multimodal.core.backends.runtime import Runtime
    from multimodal.core.encoder import Encoder, EncoderState

__all__ = ["CARDS", "from_config", "load"]

CARDS: tuple[Card, ...] = ()


def load(rest: str = "", *, device: str = "cpu", threads: int | None = None) -> Space:
    """Opens an exported folder.

    Args:
        rest: The folder, as "./exported".
        device: "cpu" or "auto".
        threads: Threads of the runtime for each tower. Default: all cores.

    Returns:
        The space, with the logit scales of its source.

    Raises:
        UnknownModel: If there is no exported space in the folder.
        CheckpointError: If its files are damaged or incomplete.
        InvalidInput: For another device.
        MissingExtra: If onnxruntime is not installed, or openvino for a folder in its format.
    """
    from multimodal.encoders.onnx.folder import open_folder

    if not rest:
        raise UnknownModel("'onnx' needs the folder that multimodal.export wrote: load('onnx/./folder')")
    return open_folder(rest, device, threads)


def from_config(saved: EncoderState, runtime: Runtime) -> Encoder:
    """Rebuilds an encoder from its saved configuration and files."""
    from multimodal.encoders.onnx.encoders import build

    return build(saved.config, saved.files, runtime=runtime)
