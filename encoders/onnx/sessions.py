"""What runs the model of a tower: ONNX Runtime for .onnx, OpenVINO for .xml. Neither needs torch."""

from __future__ import annotations

import functools
import importlib.util
import platform
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from multimodal.core.errors import CheckpointError, MissingExtra

if TYPE_CHECKING:
    from numpy.typing import NDArray

OUTPUT = "vectors"
USE = "running an exported space ('onnx/…')"
_TYPES = {
    "tensor(int64)": np.int64, "tensor(float)": np.float32, "tensor(uint8)": np.uint8,
    "i64": np.int64, "f32": np.float32, "u8": np.uint8,
}  # fmt: skip


class Session(Protocol):
    """A loaded model; thread-safe."""

    runtime: str

    def __call__(self, arrays: Mapping[str, Any]) -> NDArray[np.float32]:
        """The model's inputs by name -> rows (n, dim). Further arrays are ignored."""


def open_session(files: Mapping[str, bytes], name: str, threads: int | None) -> Session:
    """Loads a model. Raises CheckpointError, MissingExtra."""
    opened = OpenVino if name.endswith(".xml") else OnnxRuntime
    try:
        session: Session = opened(files, name, threads)
    except (MissingExtra, KeyError):
        raise
    except Exception as error:  # the runtimes define no common type
        line = (str(error).strip().splitlines() or ["unreadable"])[0]
        raise CheckpointError(
            f"{opened.runtime} cannot load {name} ({line}); export the space again"
        ) from error
    return session


class OnnxRuntime:
    """A model by ONNX Runtime."""

    runtime = "ONNX Runtime"

    def __init__(self, files: Mapping[str, bytes], name: str, threads: int | None) -> None:
        if importlib.util.find_spec("onnxruntime") is None:
            raise MissingExtra(USE, package="onnxruntime", extra="onnx")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if not _adds_int8_products_exactly():
            options.add_session_config_entry("session.x64quantprecision", "1")  # exact, and twice as slow
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(files[name], options, providers=["CPUExecutionProvider"])
        self._inputs = {node.name: _TYPES[node.type] for node in self._session.get_inputs()}

    def __call__(self, arrays: Mapping[str, Any]) -> NDArray[np.float32]:
        inputs = {name: np.asarray(arrays[name], dtype) for name, dtype in self._inputs.items()}
        rows: NDArray[np.float32] = self._session.run([OUTPUT], inputs)[0]
        return rows


@functools.cache
def _adds_int8_products_exactly() -> bool:
    """Whether ONNX Runtime's int8 products cannot overflow: they can on x86 without VNNI instructions."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return False


class OpenVino:
    """A model by OpenVINO, with products in float32, or in int8 where the model says so."""

    runtime = "OpenVINO"

    def __init__(self, files: Mapping[str, bytes], name: str, threads: int | None) -> None:
        from multimodal.core.backends.openvino_library import openvino

        library = openvino()
        core = library.Core()
        weights = files[str(PurePath(name).with_suffix(".bin"))]
        model = core.read_model(model=files[name], weights=weights)
        options = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,  # products of int8 weights stay in float32, whatever the batch
        }
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        self._model = core.compile_model(model, "CPU", options)
        self._inputs = {
            node.any_name: _TYPES[node.element_type.get_type_name()] for node in self._model.inputs
        }

    def __call__(self, arrays: Mapping[str, Any]) -> NDArray[np.float32]:
        inputs = {name: np.asarray(arrays[name], dtype) for name, dtype in self._inputs.items()}
        request = self._model.create_infer_request()  # one for each call: a request serves one thread
        rows: NDArray[np.float32] = np.array(request.infer(inputs)[self._model.output(0)], np.float32)
        return rows
