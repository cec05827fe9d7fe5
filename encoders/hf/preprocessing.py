"""A checkpoint's own preprocessing, made from its files: tokenizer, image processor, feature extractor."""

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

CHOSEN = {
    "do_sample_frames": False,
    "input_data_format": "channels_first",
}  # frames are not to be chosen again
WINDOW_S = 30  # of extractors that know no longest clip: about as long as those they were trained on


def _made(kind: str, files: Mapping[str, bytes], **options: Any) -> Any:
    import transformers

    with unpacked(files) as folder, quiet():
        try:
            return getattr(transformers, kind).from_pretrained(folder, local_files_only=True, **options)
        except ImportError as error:
            lacking = re.search(r"requires the (\S+) library", str(error))
            raise MissingExtra(
                f"the {WORDS[kind]} of this checkpoint",
                package=lacking[1].lower() if lacking else (error.name or "another package"),
                extra="hf",
            ) from error
        except Exception as error:  # whatever a stranger's files provoke in transformers, told as ours
            raise _not_made(kind, files, short(error)) from error


def _not_made(kind: str, files: Mapping[str, bytes], why: str) -> CheckpointError:
    have = ", ".join(name for name in files if name != CONFIG) or "none"
    return CheckpointError(f"no {WORDS[kind]} can be made of the checkpoint's files ({have}): {why}")


WORDS = {
    "AutoTokenizer": "tokenizer",
    "AutoImageProcessor": "image processor",
    "AutoFeatureExtractor": "feature extractor",
    "AutoVideoProcessor": "video processor",
    "AutoProcessor": "processor",
}


def tokenizer(files: Mapping[str, bytes]) -> Any:
    if not any(name in files for name in VOCABULARIES):  # without, transformers makes one that knows no words
        raise _not_made(
            "AutoTokenizer", files, f"none of {', '.join(VOCABULARIES)} is there; copy it beside them"
        )
    return _made("AutoTokenizer", files)


def image_processor(files: Mapping[str, bytes], backend: str | None) -> Any:
    """backend: "torchvision" or "pil", which resize a little differently; None for upstream's own choice."""
    found = _made("AutoImageProcessor", files, **({} if backend is None else {"backend": backend}))
    if backend is not None and backend_of(found) != backend:
        raise MissingExtra(f"this space (its pictures go through {backend})", package=backend, extra="hf")
    return found


def backend_of(processor: Any) -> str:
    return "pil" if type(processor).__name__.endswith("Pil") else "torchvision"


def feature_extractor(files: Mapping[str, bytes]) -> Any:
    return _made("AutoFeatureExtractor", files)


def pixels_of(takes: Collection[str]) -> str:
    """The name of a video tower's input: "pixel_values_videos", or "pixel_values" if it takes frames as pictures."""
    return "pixel_values_videos" if "pixel_values_videos" in takes else "pixel_values"


def frame_processor(pixels: str, files: Mapping[str, bytes], backend: str | None) -> Any:
    """What makes `pixels` of frames: a video processor, or an image processor where frames are pictures (X-CLIP)."""
    return (
        _made("AutoVideoProcessor", files)
        if pixels == "pixel_values_videos"
        else image_processor(files, backend)
    )


def clip(processor: Any, pixels: str, frames: NDArray[np.uint8]) -> Tensor:
    """Frames (t, h, w, 3) uint8 -> (t, 3, h, w) float32."""
    import PIL.Image

    if pixels == "pixel_values":
        found = processor([PIL.Image.fromarray(frame) for frame in frames], return_tensors="pt")
    else:  # the frames have been chosen: it must not choose among them again
        found = processor([channels_first(frames)], return_tensors="pt", **CHOSEN)
    return found[pixels].reshape(len(frames), *found[pixels].shape[-3:])


def channels_first(frames: NDArray[np.uint8]) -> Tensor:
    import torch

    return torch.from_numpy(frames).permute(0, 3, 1, 2)


def picture(item: Any, min_side: int | None) -> Any:
    """An Image item as a PIL image; min_side: see `Image.load`."""
    import PIL.Image

    return PIL.Image.fromarray(item.load() if min_side is None else item.load(min_side=min_side))


def joint(files: Mapping[str, bytes]) -> Any:
    """The one processor of a model that takes all modalities."""
    return _made("AutoProcessor", files)


def asked(processor: Any, **what: Any) -> dict[str, Tensor]:
    """What a joint processor makes of a single thing, (1, …) by name; frames become (1, t, …)."""
    found = processor(**what, **(CHOSEN if "videos" in what else {}), return_tensors="pt")
    return {name: one[None] if name in FRAMES else one for name, one in found.items()}


def target_side(processor: Any) -> int | None:
    """The side in pixels to which the shorter side of a picture is shrunk, at most; None if that is not known."""
    if (
        getattr(processor, "max_num_patches", None) is not None
    ):  # NaFlex keeps the shape: a square is the largest
        return int(processor.patch_size * processor.max_num_patches**0.5)
    if getattr(processor, "max_soft_tokens", None) is not None:
        return int(processor.patch_size * processor.pooling_kernel_size * processor.max_soft_tokens**0.5)
    size = getattr(processor, "size", None) or {}
    known = [size[key] for key in ("shortest_edge", "height", "width") if size.get(key)]
    return max(known) if known else None


def window_samples(extractor: Any) -> int:
    """The longest clip an extractor takes whole, in samples at its rate."""
    return int(getattr(extractor, "nb_max_samples", None) or WINDOW_S * extractor.sampling_rate)
