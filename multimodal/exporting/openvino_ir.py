"""An ONNX model as OpenVINO's IR: an .xml file of operations and a .bin file of weights."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from multimodal.core.errors import EncoderError
from multimodal.exporting import graph


def to_ir(model: Any, weights: str, stem: str) -> dict[str, bytes]:
    """The two files of a model, by name. weights: "float16" to store them so, otherwise as the ONNX model does.

    Weights that ONNX stores as float16 because that rounds none are float32 here, unless all of them are such.
    Raises EncoderError, MissingExtra.
    """
    import onnx

    from multimodal.core.backends.openvino_library import openvino

    library = openvino()
    half = weights == graph.FLOAT16 or (weights == graph.FLOAT32 and _fits_float16(model))
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "model.onnx", Path(scratch) / f"{stem}.xml"
        onnx.save(model, str(source))
        try:
            with graph.quiet():
                library.save_model(library.convert_model(str(source)), str(target), compress_to_fp16=half)
        except Exception as error:  # OpenVINO raises many types
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise EncoderError(f"OpenVINO cannot convert this tower ({line})") from error
        return {path.name: path.read_bytes() for path in (target, target.with_suffix(".bin"))}


def _fits_float16(model: Any) -> bool:
    import onnx

    arrays = (onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer)
    return all(
        np.array_equal(array.astype(np.float16).astype(np.float32), array)
        for array in arrays
        if array.dtype == np.float32
    )
