"""Runtime: the device, precision, decoding and engine of a model. None of these changes a fingerprint.

The default, exact float32, gives the numbers of the upstream library. bfloat16 *weights* are 4 times as fast on CPUs
with AMX or AVX512-BF16 (autocast is not: under `inference_mode` its `F.linear` on a transposed view ran 20 times
slower). "auto" uses them where that is fast and, for an encoder, where a trial shows that it changes no vector
noticeably: see `precision`.
"""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from multimodal.core.backends import fork as fork  # registers what a forked process needs
from multimodal.core.errors import InvalidInput

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16", "auto"]
Decode = Literal["exact", "fast"]
Engine = Literal["torch", "openvino"]


@dataclass(frozen=True)
class Runtime:
    """How an encoder runs.

    Attributes:
        device: a torch device ("cpu", "cuda:1"), or "auto" for the accelerator if there is one.
        precision: dtype of the weights. "bfloat16" casts the whole model. "auto" uses bfloat16 where the device
            computes it fast and, for an encoder, only for its large matrix products and only if a trial confirms it;
            else float32.
        decode: "exact" decodes images at full size. "fast" may decode JPEGs at a smaller size, at least twice the size
            that the model needs.
        engine: "torch" or "openvino". OpenVINO is faster on CPUs, compiles a tower for some seconds at its first use,
            and supports the towers of `hf` and `openclip`; device "auto" then means the CPU.

    Raises:
        InvalidInput: an unknown value, or a device that torch does not know or see.
        MissingExtra: the package of the engine is not installed.
    """

    device: str = "cpu"
    precision: Precision = "float32"
    decode: Decode = "exact"
    engine: Engine = "torch"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("precision", self.precision, get_args(Precision)),
            ("decode", self.decode, get_args(Decode)),
            ("engine", self.engine, get_args(Engine)),
        ):
            if value not in known:
                raise InvalidInput(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
        if self.device not in ("cpu", "auto"):  # these two need no check, and importing torch is slow
            _device(self.device)
        if self.engine == "openvino":
            if self.device not in ("cpu", "auto"):
                raise InvalidInput(
                    f"engine='openvino' runs on the CPU, got device={self.device!r}; write 'cpu'"
                )
            from multimodal.core.backends.openvino_library import require_openvino

            require_openvino()

    @property
    def torch_device(self) -> torch.device:
        """The torch device; the CPU for OpenVINO."""
        return _device("cpu" if self.engine == "openvino" else self.device)

    @property
    def dtype(self) -> torch.dtype:
        """torch.float32 or torch.bfloat16, for a model that is cast as a whole, as the decoder of a pipeline is."""
        import torch

        if self.precision == "auto":
            return torch.bfloat16 if self.is_bfloat16_fast else torch.float32
        return self.cast

    @property
    def cast(self) -> torch.dtype:
        """The dtype an encoder is cast to as a whole: bfloat16 only for precision="bfloat16" with engine="torch"."""
        import torch

        cast = self.precision == "bfloat16" and self.engine == "torch"
        return torch.bfloat16 if cast else torch.float32

    @property
    def is_bfloat16_fast(self) -> bool:
        """Whether the device has native instructions for bfloat16."""
        return _bfloat16_is_fast(self.torch_device.type)


@dataclass(frozen=True)
class PrecisionDecision:
    """What precision="auto" resolved to.

    Attributes:
        bfloat16: whether the large matrix products use bfloat16.
        cosine: the smallest centred cosine of the trial, or None without a trial.
        why: the reason in words.
    """

    bfloat16: bool
    cosine: float | None
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise InvalidInput(
            f"{name!r} is not a device: write 'cpu', 'cuda', 'cuda:1', 'mps' or 'auto'"
        ) from error
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if device.type not in ("cpu", "meta") and (accelerator is None or accelerator.type != device.type):
        raise InvalidInput(
            f"device {name!r} is not available: torch sees {accelerator or 'no accelerator'}; write 'cpu' or 'auto'"
        )
    return device


@functools.cache
def _bfloat16_is_fast(device_type: str) -> bool:
    """Whether the device has native instructions for matrix products in bfloat16, rather than emulating them."""
    import torch

    if device_type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    if device_type == "cuda":
        return torch.cuda.get_device_capability()[0] >= 8
    return device_type in ("mps", "xpu")
