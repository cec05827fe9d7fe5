"""A net as OpenVINO runs it on the CPU: exported by torch.export, compiled when it first gets something to do.

It fuses what PyTorch runs layer by layer. On one core of a Zen 5 a CLAP takes 67 ms a clip instead of 104 (by oneDNN)
or 170 (by MKL), in float32 and to 1e-6 (measured: benchmarks/README.md). An export fails, rather than being wrong,
where what a net does depends on the numbers it is given; and what was compiled is compared with the net before it is
trusted.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from multimodal.core.errors import EncoderError, MissingExtra

if TYPE_CHECKING:
    Inputs = Mapping[str, Tensor]
    Call = Callable[[Any, Inputs], Tensor]
    Shape = tuple[tuple[str, torch.Size], ...]

TELEMETRY = "openvino_telemetry"
# The cosine with what PyTorch gives: in float32, and where bfloat16 rounds
LEAST_EXACT, LEAST_ROUNDED = 0.99999, 0.98


class Program:
    """`call` of a net and inputs by name -> (n, dim), like `call` itself. May be used by several threads.

    The first axis of every input is that of the items. What was compiled is compared with the net at the first batch,
    and again at the first of each other shape, since an export may hold for some lengths alone and OpenVINO does not
    ask which; where it does not hold, the net runs by PyTorch. bfloat16: products are rounded, the weights stay.
    Raises EncoderError for a net that OpenVINO cannot run, or runs wrongly.
    """

    def __init__(self, net: nn.Module, call: Call, *, bfloat16: bool) -> None:
        self.net, self.call, self.bfloat16 = net, call, bfloat16
        self._least = LEAST_ROUNDED if bfloat16 else LEAST_EXACT
        self._compiled: Any = None
        self._holds: dict[Shape, bool] = {}  # by the shape of an item
        self._failed: EncoderError | None = None
        self._lock = threading.Lock()  # a compiled model does one thing at a time

    def __reduce__(self) -> tuple[Any, ...]:
        return _program, (self.net, self.call, self.bfloat16)  # compiled anew where it goes

    def __call__(self, inputs: Inputs) -> Tensor:
        shape = tuple((name, one.shape[1:]) for name, one in inputs.items())
        with self._lock:
            if self._failed is not None:
                raise self._failed
            if self._compiled is None:
                self._compile(inputs)
                self._holds[shape] = True
            elif shape not in self._holds:
                with contextlib.suppress(Exception):  # such as an axis that it fixed
                    self._holds[shape] = self._likeness(inputs) >= self._least
            if not self._holds.setdefault(shape, False):
                return self.call(self.net, inputs)
            return self._run(inputs)

    def _run(self, inputs: Inputs) -> Tensor:
        found = self._compiled([tensor.numpy() for tensor in inputs.values()])[0]
        return torch.from_numpy(found.copy())  # the next call overwrites it

    def _compile(self, inputs: Inputs) -> None:
        name = type(self.net).__name__
        try:
            self._compiled = _compiled(self.net, self.call, _several(inputs), self.bfloat16)
            likeness = self._likeness(inputs)
        except Exception as error:  # of torch.export and of OpenVINO, whatever a net brings them to
            lines = str(error).strip().splitlines() or [type(error).__name__]
            self._failed = EncoderError(
                f"OpenVINO cannot run {name} ({lines[0]}); leave out engine='openvino'"
            )
            raise self._failed from error
        if likeness < self._least:
            self._failed = EncoderError(
                f"OpenVINO gives other vectors than PyTorch for {name} (cosine {likeness:.5f}, expected at least "
                f"{self._least}); leave out engine='openvino'"
            )
            raise self._failed

    def _likeness(self, inputs: Inputs) -> float:
        """The smallest cosine with what the net gives, of several items and of one."""
        several = _several(inputs)
        expected = self.call(self.net, several).double()
        found = [
            self._run(some).double() for some in (several, {name: one[:1] for name, one in several.items()})
        ]
        if [one.shape for one in found] != [expected.shape, expected[:1].shape]:
            return -1.0
        pairs = zip(found, (expected, expected[:1]), strict=True)
        return min(float(nn.functional.cosine_similarity(a, b).nan_to_num(-1).min()) for a, b in pairs)


def _program(net: nn.Module, call: Call, bfloat16: bool) -> Program:
    return Program(net, call, bfloat16=bfloat16)


def need_openvino() -> None:
    """Raises MissingExtra if it is not installed."""
    if importlib.util.find_spec("openvino") is None:
        raise MissingExtra("engine='openvino'", package="openvino", extra="openvino")


def openvino() -> Any:
    """The library. Raises MissingExtra.

    When it is imported it tells its makers so over the network; not from here.
    """
    need_openvino()
    if "openvino" in sys.modules or TELEMETRY in sys.modules:
        import openvino

        return openvino
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # as if it were not installed
    try:
        with _quiet():
            import openvino
    finally:
        del sys.modules[TELEMETRY]
    return openvino


def _compiled(net: nn.Module, call: Call, inputs: Inputs, bfloat16: bool) -> Any:
    import torch.export

    axes = tuple(dict.fromkeys(range(one.dim()), torch.export.Dim.AUTO) for one in inputs.values())
    library = openvino()
    # What was made in inference mode cannot be exported
    with torch.inference_mode(False), torch.no_grad(), _quiet():
        given = tuple(one.clone() for one in inputs.values())
        exported = torch.export.export(
            _Called(net, call, tuple(inputs)), given, dynamic_shapes=(axes,), strict=False
        )
        model = library.convert_model(exported)
    return library.Core().compile_model(model, "CPU", {
        "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32", "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(), "ENABLE_CPU_PINNING": False,
    })  # fmt: skip


class _Called(nn.Module):
    """A call as a module, as torch.export takes it."""

    def __init__(self, net: nn.Module, call: Call, names: tuple[str, ...]) -> None:
        super().__init__()
        self.net, self.call, self.names = net, call, names

    def forward(self, *values: Tensor) -> Tensor:
        return self.call(self.net, dict(zip(self.names, values, strict=True)))


def _several(inputs: Inputs) -> dict[str, Tensor]:
    """At least two items: of one, an export would take the number for fixed."""
    return {name: torch.cat([one, one]) if len(one) == 1 else one for name, one in inputs.items()}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings of both libraries, and without the graph that torch.export logs and prints where it fails."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
