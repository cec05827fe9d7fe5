"""Runtime: where and how exactly a model runs. Not part of what it is: no option here changes a fingerprint.

Exact and float32 (the default) give upstream's own numbers. bfloat16 *weights* (not autocast: under `inference_mode`
its `F.linear` on a transposed view ran 20 times slower) are 4 times as fast on CPUs with AMX or AVX512-BF16. "auto"
takes them where that is fast and, for an encoder, where it turns no vector noticeably: see `core.precision`.
"""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from multimodal.core.errors import InvalidInput

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16", "auto"]
Decode = Literal["exact", "fast"]
Engine = Literal["torch", "openvino"]


@dataclass(frozen=True)
class Runtime:
    """How an encoder runs.

    device: as torch names it ("cpu", "cuda:1"), or "auto" for the accelerator if there is one.
    precision: of the weights; "bfloat16" casts the whole model; "auto" is bfloat16 where the device computes it fast
        and, of an encoder, for its large matrices alone and only if a trial bears it out; else float32.
    decode: "exact" decodes pictures whole; "fast" lets JPEGs be decoded smaller, at least twice the size needed.
    engine: what computes. "openvino" is faster on CPUs, takes some seconds to compile a tower when it is first used,
        and knows the towers of `hf` and `openclip`; device "auto" is the CPU then.
    Raises InvalidInput for another word, or a device torch does not know; MissingExtra for an engine not installed.
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
        if self.device not in ("cpu", "auto"):  # which need no look, and torch is slow to import
            _device(self.device)
        if self.engine == "openvino":
            if self.device not in ("cpu", "auto"):
                raise InvalidInput(
                    f"engine='openvino' runs on the CPU, got device={self.device!r}; write 'cpu'"
                )
            from multimodal.core.backends.openvino import need_openvino

            need_openvino()

    @property
    def torch_device(self) -> torch.device:
        return _device("cpu" if self.engine == "openvino" else self.device)

    @property
    def dtype(self) -> torch.dtype:
        """torch.float32 or torch.bfloat16: of a model that is cast as a whole, as a pipeline's decoder is."""
        import torch

        if self.precision == "auto":
            return torch.bfloat16 if self.is_bfloat16_fast else torch.float32
        return self.cast

    @property
    def cast(self) -> torch.dtype:
        """What an encoder is cast to as a whole: bfloat16 only where that was asked for by name, and of PyTorch."""
        import torch

        cast = self.precision == "bfloat16" and self.engine == "torch"
        return torch.bfloat16 if cast else torch.float32

    @property
    def is_bfloat16_fast(self) -> bool:
        """Whether the device has instructions of its own for it."""
        return _bfloat16_is_fast(self.torch_device.type)


@dataclass(frozen=True)
class Choice:
    """What "auto" came to. bfloat16: of the large matrices. cosine: the smallest, centred, of what was tried, or None
    if nothing was. why: in words."""

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
            f"{name!r} is no device: write 'cpu', 'cuda', 'cuda:1', 'mps' or 'auto'"
        ) from error
    found = torch.accelerator.current_accelerator(check_available=True)
    if device.type not in ("cpu", "meta") and (found is None or found.type != device.type):
        raise InvalidInput(
            f"device {name!r} is not here: torch sees {found or 'no accelerator'}; write 'cpu' or 'auto'"
        )
    return device


@functools.cache
def _bfloat16_is_fast(kind: str) -> bool:
    """Whether matrix products in bfloat16 have their own instructions here, rather than being emulated."""
    import torch

    if kind == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return (kind == "cuda" and torch.cuda.get_device_capability()[0] >= 8) or kind in ("mps", "xpu")
