"""A tower as an ONNX model, by torch.onnx, and its weights in fewer bytes.

Quantised weights are stored and converted back by the model itself, which ONNX Runtime does once, when it loads it. All
products stay in float32, so that the vector of an item does not depend on the rest of its batch. ONNX Runtime's dynamic
quantisation scales activations by the whole batch and is not offered for that reason.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from multimodal.core.errors import EncoderError, MissingExtra
from multimodal.exporting.towers import TowerSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

OPSET = 20
OUTPUT = "vectors"
MIN_ELEMENTS = 1024  # smaller tensors stay in float32
FLOAT32, FLOAT16, INT8, STATIC = "float32", "float16", "int8", "int8 static"


def require_export() -> None:
    """Raises MissingExtra unless everything that an export needs is installed."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra("multimodal.exporting", package=package, extra="export")


def to_onnx(spec: TowerSpec) -> Any:
    """The tower as an ONNX model in float32, of any batch size. Raises EncoderError if torch cannot export it."""
    import torch

    # AUTO: the trial runs several batch sizes and lengths, so that an axis that torch has fixed is noticed
    axes = tuple(
        dict.fromkeys((0, *spec.dynamic.get(name, ())), torch.export.Dim.AUTO) for name in spec.inputs
    )
    # Tensors made in inference mode cannot be exported. With gradients on, layers that were exchanged for speed take
    # PyTorch's own way (`core.backends.onednn`), whose operators ONNX has.
    inputs = tuple(tensor.clone() for tensor in spec.inputs.values())
    try:
        with torch.inference_mode(False), torch.enable_grad(), quiet():
            program = torch.onnx.export(
                _positional(spec.net), inputs, dynamo=True, opset_version=OPSET, verbose=False,
                dynamic_shapes=(axes,), input_names=list(spec.inputs), output_names=[OUTPUT],
            )  # fmt: skip
    except Exception as error:  # torch.export raises many types
        lines = [line for line in str(error.__cause__ or error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        raise EncoderError(
            f"{type(spec.net).__name__} cannot be exported by torch.onnx ({reason})"
        ) from error
    if program is None:
        raise EncoderError(f"{type(spec.net).__name__} cannot be exported by torch.onnx")
    model = program.model_proto
    model.doc_string = ""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    return model


def _positional(net: Any) -> Any:
    """The net with its inputs as one tuple, whatever its signature."""
    import torch

    class Positional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            rows: torch.Tensor = self.net(*inputs)
            return rows

    return Positional().eval()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings, prints and logs of the exporter and the quantiser; faults are raised."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def with_weights(model: Any, kind: str) -> Any:
    """A copy of a float32 model whose large weights are stored as "float16" or "int8".

    "float32" changes no weight: those that float16 represents exactly take half the bytes.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    axes, filters = _channel_axes(copy), _filters(copy)
    nodes: list[Any] = []
    for tensor in list(copy.graph.initializer):
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < MIN_ELEMENTS:
            continue
        if kind == FLOAT32 and not np.array_equal(values.astype(np.float16).astype(np.float32), values):
            continue
        copy.graph.initializer.remove(tensor)
        if kind == INT8 and tensor.name in axes:
            nodes += _int8(copy.graph, tensor.name, values, axes[tensor.name], tensor.name in filters)
        else:
            stored = onnx.numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}.half")
            copy.graph.initializer.append(stored)
            nodes.append(_cast(stored.name, tensor.name))
    graph_nodes = [*nodes, *copy.graph.node]
    del copy.graph.node[:]
    copy.graph.node.extend(graph_nodes)
    return copy


def is_convolutional(model: Any) -> bool:
    """Whether most weights are those of convolutions, and nothing is masked with infinities."""
    import onnx

    shapes = {tensor.name: np.prod(tensor.dims) for tensor in model.graph.initializer}
    of_convolutions = sum(shapes.get(node.input[1], 0) for node in model.graph.node if node.op_type == "Conv")
    infinite = any(
        np.isinf(onnx.numpy_helper.to_array(tensor)).any()
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    )
    return bool(of_convolutions > sum(shapes.values()) / 2) and not infinite


def _channel_axes(model: Any) -> dict[str, int]:
    """The axis of each weight along which it gets one scale each: outputs of a product, rows of a table."""
    axes: dict[str, int] = {}
    for node in model.graph.node:
        if node.op_type == "MatMul":
            axes[node.input[1]] = -1
        elif node.op_type == "Gemm":
            transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
            axes[node.input[1]] = 0 if transposed else -1
        elif node.op_type in ("Conv", "Gather"):
            axes[node.input[1 if node.op_type == "Conv" else 0]] = 0
        elif node.op_type == "Transpose":
            axes.setdefault(node.input[0], 0)
    return axes


def _filters(model: Any) -> set[str]:
    """The weights of convolutions."""
    return {node.input[1] for node in model.graph.node if node.op_type == "Conv"}


def _int8(graph: Any, name: str, values: NDArray[np.float32], axis: int, is_filter: bool) -> list[Any]:
    """Stores a weight as int8 with a scale for each channel; returns the nodes that restore it."""
    import onnx

    scale = _scales(values, axis)
    rounded = _rounded_filters(values / scale) if is_filter else np.rint(values / scale).astype(np.int8)
    graph.initializer.append(onnx.numpy_helper.from_array(rounded, f"{name}.int8"))
    graph.initializer.append(onnx.numpy_helper.from_array(scale.astype(np.float32), f"{name}.scale"))
    product = onnx.helper.make_node("Mul", [f"{name}.wide", f"{name}.scale"], [name])
    return [_cast(f"{name}.int8", f"{name}.wide"), product]


def _scales(values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """The scale of each channel along an axis, with which its largest number becomes 127."""
    others = tuple(number for number in range(values.ndim) if number != axis % values.ndim)
    largest = np.abs(values).max(axis=others, keepdims=True)
    return np.maximum(largest, np.float32(1e-12)) / np.float32(127)


def _rounded_filters(scaled: NDArray[np.float32]) -> NDArray[np.int8]:
    """Rounds filters (channels, inputs, …) so that the errors of each input's numbers add up to half a step at most.

    Where an image is plain, these numbers multiply equal ones: errors that do not cancel are the same at every pixel,
    and no pooling averages them out. As many numbers as needed, those nearest to a half, are rounded the other way.
    """
    taps = scaled.reshape(*scaled.shape[:2], -1)
    whole = np.rint(taps)
    error = taps - whole
    steps = np.rint(error.sum(axis=-1, keepdims=True))
    rank = np.argsort(np.argsort(-np.sign(steps) * error, axis=-1), axis=-1)
    whole += np.where((rank < np.abs(steps)) & (np.abs(whole) < 127), np.sign(steps), 0)
    return whole.reshape(scaled.shape).astype(np.int8)


def _cast(source: str, target: str) -> Any:
    import onnx

    return onnx.helper.make_node("Cast", [source], [target], to=onnx.TensorProto.FLOAT)


def static(model: Any, batches: Sequence[dict[str, NDArray[Any]]], n_float: int) -> Any:
    """A model whose convolutions compute in int8, with activation ranges from calibration batches.

    Sums of residual branches, pooling and products with matrices stay in float32, and so do the first n_float
    convolutions: errors near the pixels are the largest. All large weights are stored as int8. Raises EncoderError.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self.batches = iter(batches)

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            return next(self.batches, None)

    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / name) for name in ("plain.onnx", "folded.onnx", "static.onnx")]
        try:
            with quiet():
                onnx.save(model, paths[0])
                quant_pre_process(paths[0], paths[1], skip_symbolic_shape=True)
                folded = onnx.load(paths[1])
                _round_filters(folded)
                onnx.save(folded, paths[1])
                convolutions = [node.name for node in folded.graph.node if node.op_type == "Conv"]
                quantize_static(
                    paths[1], paths[2], Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                    op_types_to_quantize=["Conv", "Relu"], nodes_to_exclude=convolutions[:n_float],
                )  # fmt: skip
                return with_weights(onnx.load(paths[2]), INT8)
        except Exception as error:  # onnxruntime defines no common type
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise EncoderError(f"ONNX Runtime cannot quantise this tower ({line})") from error


def _round_filters(model: Any) -> None:
    """Replaces the weights of convolutions by those that `_rounded_filters` stores, which the quantiser keeps."""
    import onnx

    filters = _filters(model)
    for tensor in model.graph.initializer:
        if tensor.name in filters and tensor.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(tensor)
            scale = _scales(values, 0)
            rounded = _rounded_filters(values / scale) * scale
            tensor.CopyFrom(onnx.numpy_helper.from_array(rounded.astype(np.float32), tensor.name))
