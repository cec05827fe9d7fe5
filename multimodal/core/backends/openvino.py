"""Running a net by OpenVINO on the CPU: exported by torch.export and compiled at its first use.

OpenVINO fuses what PyTorch runs layer by layer. On one core of a Zen 5 a CLAP takes 67 ms per clip instead of 104 (by
oneDNN) or 170 (by MKL), in float32 and within 1e-6 (measured: benchmarks/README.md). Where the control flow of a net
depends on tensor values, the export fails rather than being wrong; and the compiled model is compared with the net
before it is used.
"""

from __future__ import annotations

import contextlib
import io
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from multimodal.core.backends.openvino_library import openvino
from multimodal.core.errors import EncoderError

if TYPE_CHECKING:
    Inputs = Mapping[str, Tensor]
    Call = Callable[[Any, Inputs], Tensor]
    Shape = tuple[tuple[str, torch.Size], ...]

MIN_COSINE_FLOAT32, MIN_COSINE_BFLOAT16 = 0.99999, 0.98  # with the vectors of PyTorch


class Program:
    """A compiled net: inputs by name -> (n, dim). Thread-safe.

    The first axis of every input is the batch. The compiled model is compared with the net at the first batch, and
    again at the first batch of every other item shape: an export may be right for some lengths only, which OpenVINO
    does not check. Batches of a shape for which it is wrong run by PyTorch.

    Args:
        net: the torch module.
        call: what to compute, as call(net, inputs).
        bfloat16: round matrix products to bfloat16; the weights of `net` do not change.

    Raises:
        EncoderError: at a call, if OpenVINO cannot run the net or gives other vectors.
    """

    def __init__(self, net: nn.Module, call: Call, *, bfloat16: bool) -> None:
        self.net, self.call, self.bfloat16 = net, call, bfloat16
        self._min_cosine = MIN_COSINE_BFLOAT16 if bfloat16 else MIN_COSINE_FLOAT32
        self._compiled: Any = None
        self._is_right: dict[Shape, bool] = {}  # by the shape of an item
        self._failed: EncoderError | None = None
        self._lock = threading.Lock()  # a compiled model runs one request at a time

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.net, self.call, self.bfloat16)  # compiled again in the other process

    def __call__(self, inputs: Inputs) -> Tensor:
        shape = tuple((name, tensor.shape[1:]) for name, tensor in inputs.items())
        with self._lock:
            if self._failed is not None:
                raise self._failed
            if self._compiled is None:
                self._compile(inputs)
                self._is_right[shape] = True
            elif shape not in self._is_right:
                with contextlib.suppress(Exception):  # for example an axis whose size the export fixed
                    self._is_right[shape] = self._cosine(inputs) >= self._min_cosine
            if not self._is_right.setdefault(shape, False):
                return self.call(self.net, inputs)
            return self._run(inputs)

    def _run(self, inputs: Inputs) -> Tensor:
        output = self._compiled([tensor.numpy() for tensor in inputs.values()])[0]
        return torch.from_numpy(output.copy())  # the next call overwrites it

    def _compile(self, inputs: Inputs) -> None:
        name = type(self.net).__name__
        try:
            self._compiled = _compile(self.net, self.call, _at_least_two(inputs), self.bfloat16)
            cosine = self._cosine(inputs)
        except Exception as error:  # torch.export and OpenVINO raise many types
            lines = str(error).strip().splitlines() or [type(error).__name__]
            self._failed = EncoderError(
                f"OpenVINO cannot run {name} ({lines[0]}); leave out engine='openvino'"
            )
            raise self._failed from error
        if cosine < self._min_cosine:
            self._failed = EncoderError(
                f"OpenVINO gives other vectors than PyTorch for {name} (cosine {cosine:.5f}, expected at least "
                f"{self._min_cosine}); leave out engine='openvino'"
            )
            raise self._failed

    def _cosine(self, inputs: Inputs) -> float:
        """The smallest cosine with the vectors of the net, for a batch of several items and of one."""
        several = _at_least_two(inputs)
        single = {name: tensor[:1] for name, tensor in several.items()}
        expected = self.call(self.net, several).double()
        outputs = [self._run(batch).double() for batch in (several, single)]
        if [output.shape for output in outputs] != [expected.shape, expected[:1].shape]:
            return -1.0
        pairs = zip(outputs, (expected, expected[:1]), strict=True)
        return min(float(nn.functional.cosine_similarity(a, b).nan_to_num(-1).min()) for a, b in pairs)


def _rebuild(net: nn.Module, call: Call, bfloat16: bool) -> Program:
    return Program(net, call, bfloat16=bfloat16)


def _compile(net: nn.Module, call: Call, inputs: Inputs, bfloat16: bool) -> Any:
    import torch.export

    axes = tuple(dict.fromkeys(range(tensor.dim()), torch.export.Dim.AUTO) for tensor in inputs.values())
    library = openvino()
    # Tensors made in inference mode cannot be exported
    with torch.inference_mode(False), torch.no_grad(), _quiet():
        tensors = tuple(tensor.clone() for tensor in inputs.values())
        exported = torch.export.export(
            _CallModule(net, call, tuple(inputs)), tensors, dynamic_shapes=(axes,), strict=False
        )
        model = library.convert_model(exported)
    return library.Core().compile_model(model, "CPU", {
        "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32", "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(), "ENABLE_CPU_PINNING": False,
    })  # fmt: skip


class _CallModule(nn.Module):
    """A call as a module, which torch.export needs."""

    def __init__(self, net: nn.Module, call: Call, names: tuple[str, ...]) -> None:
        super().__init__()
        self.net, self.call, self.names = net, call, names

    def forward(self, *values: Tensor) -> Tensor:
        return self.call(self.net, dict(zip(self.names, values, strict=True)))


def _at_least_two(inputs: Inputs) -> dict[str, Tensor]:
    """The batch with at least two items: an export takes a batch size of 1 for a constant."""
    return {
        name: torch.cat([tensor, tensor]) if len(tensor) == 1 else tensor for name, tensor in inputs.items()
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the warnings of both libraries and the graph that torch.export logs and prints when it fails."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
