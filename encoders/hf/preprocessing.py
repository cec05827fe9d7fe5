"""A checkpoint's own preprocessing, built from its files: tokenizer, image processor, feature extractor."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import CheckpointError, MissingExtra
from multimodal.core.hub.source import CONFIG, VOCABULARIES
from multimodal.encoders.hf.checkpoint import quiet, short, unpacked
from multimodal.encoders.hf.special import FRAMES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

NO_SAMPLING = {"do_sample_frames": False, "input_data_format": "channels_first"}  # frames are sampled already
BOUNDED_SIZES = ("longest_edge", "height", "width", "max_height", "max_width")
WINDOW_S = 30  # of extractors without a maximum length: about the length of their training clips
KINDS = {
    "AutoTokenizer": "tokenizer",
    "AutoImageProcessor": "image processor",
    "AutoFeatureExtractor": "feature extractor",
    "AutoVideoProcessor": "video processor",
    "AutoProcessor": "processor",
}


def _from_files(class_name: str, files: Mapping[str, bytes], **options: Any) -> Any:
    import transformers

    with unpacked(files) as folder, quiet():
        try:
            return getattr(transformers, class_name).from_pretrained(folder, local_files_only=True, **options)
        except ImportError as error:
            required = re.search(r"requires the (\S+) library", str(error))
            raise MissingExtra(
                f"the {KINDS[class_name]} of this checkpoint",
                package=required[1].lower() if required else (error.name or "another package"),
                extra="hf",
            ) from error
        except Exception as error:  # transformers raises many types for malformed files
            raise _cannot_build(class_name, files, short(error)) from error


def _cannot_build(class_name: str, files: Mapping[str, bytes], reason: str) -> CheckpointError:
    present = ", ".join(name for name in files if name != CONFIG) or "none"
    return CheckpointError(
        f"no {KINDS[class_name]} can be built from the checkpoint's files ({present}): {reason}"
    )


def tokenizer(files: Mapping[str, bytes]) -> Any:
    """Raises CheckpointError if the files lack a vocabulary or are damaged."""
    if not any(
        name in files for name in VOCABULARIES
    ):  # transformers would build a tokenizer without a vocabulary
        raise _cannot_build(
            "AutoTokenizer", files, f"none of {', '.join(VOCABULARIES)} is present; copy it beside them"
        )
    return _from_files("AutoTokenizer", files)


def image_processor(files: Mapping[str, bytes], backend: str | None) -> Any:
    """backend: "torchvision" or "pil", which resize slightly differently; None for upstream's default."""
    processor = _from_files("AutoImageProcessor", files, **({} if backend is None else {"backend": backend}))
    if backend is not None and backend_of(processor) != backend:
        raise MissingExtra(f"this space (images are resized by {backend})", package=backend, extra="hf")
    return processor


def backend_of(processor: Any) -> str:
    """The library with which an image processor resizes: "pil" or "torchvision"."""
    return "pil" if type(processor).__name__.endswith("Pil") else "torchvision"


def feature_extractor(files: Mapping[str, bytes]) -> Any:
    """The feature extractor of an audio tower."""
    return _from_files("AutoFeatureExtractor", files)


def video_input_name(input_names: Collection[str]) -> str:
    """The name of a video tower's input: "pixel_values_videos", or "pixel_values" if it takes frames as images."""
    return "pixel_values_videos" if "pixel_values_videos" in input_names else "pixel_values"


def frame_processor(input_name: str, files: Mapping[str, bytes], backend: str | None) -> Any:
    """The video processor, or the image processor where the tower takes frames as images (X-CLIP)."""
    return (
        _from_files("AutoVideoProcessor", files)
        if input_name == "pixel_values_videos"
        else image_processor(files, backend)
    )


def process_frames(processor: Any, input_name: str, frames: NDArray[np.uint8]) -> Tensor:
    """Frames (t, h, w, 3) uint8 -> (t, 3, height, width) float32."""
    import PIL.Image

    if input_name == "pixel_values":
        inputs = processor([PIL.Image.fromarray(frame) for frame in frames], return_tensors="pt")
    else:
        inputs = processor([channels_first(frames)], return_tensors="pt", **NO_SAMPLING)
    return inputs[input_name].reshape(len(frames), *inputs[input_name].shape[-3:])


def channels_first(frames: NDArray[np.uint8]) -> Tensor:
    """(t, h, w, 3) -> (t, 3, h, w)."""
    import torch

    return torch.from_numpy(frames).permute(0, 3, 1, 2)


def joint_processor(files: Mapping[str, bytes]) -> Any:
    """The processor of a model whose modalities share one."""
    return _from_files("AutoProcessor", files)


def process_single(processor: Any, **media: Any) -> dict[str, Tensor]:
    """Runs a joint processor on a single item -> inputs (1, …) by name; frames become (1, t, …)."""
    inputs = processor(**media, **(NO_SAMPLING if "videos" in media else {}), return_tensors="pt")
    return {name: tensor[None] if name in FRAMES else tensor for name, tensor in inputs.items()}


def target_side(processor: Any) -> int | None:
    """The largest size in pixels to which the shorter side of an image is resized; None if unknown."""
    if (
        getattr(processor, "max_num_patches", None) is not None
    ):  # NaFlex keeps the aspect ratio: a square is the largest
        return int(processor.patch_size * processor.max_num_patches**0.5)
    if getattr(processor, "max_soft_tokens", None) is not None:
        return int(processor.patch_size * processor.pooling_kernel_size * processor.max_soft_tokens**0.5)
    size = getattr(processor, "size", None) or {}
    sides = [size[key] for key in ("shortest_edge", "height", "width") if size.get(key)]
    return max(sides) if sides else None


def shortest_edge(processor: Any) -> int | None:
    """The length to which an image processor resizes the shorter side; None if it bounds the longer side too."""
    size = getattr(processor, "size", None) or {}
    if not getattr(processor, "do_resize", True) or any(size.get(key) for key in BOUNDED_SIZES):
        return None
    return size.get("shortest_edge") or None


def window_samples(extractor: Any) -> int:
    """The longest clip that an extractor does not crop, in samples at its rate."""
    return int(getattr(extractor, "nb_max_samples", None) or WINDOW_S * extractor.sampling_rate)
