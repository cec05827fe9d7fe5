"""How a pipeline of diffusers is called: read from its signature, since each names and takes things its own way."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from multimodal.core.errors import CheckpointError
from multimodal.core.modality import Modality
from multimodal.pipelines.generation.backends.diffusers_load import captured_logs

NAMES = {  # ours: theirs, the first that a pipeline has
    "steps": ("num_inference_steps",),
    "guidance": ("guidance_scale", "prior_guidance_scale"),
    "negative": ("negative_prompt",),
    "width": ("width",),
    "height": ("height",),
    "strength": ("strength",),
    "seconds": ("audio_length_in_s", "audio_end_in_s", "duration", "audio_duration_s"),
}
VECTORS = ("image_embeds", "image_embeddings")
SOUNDS = {*NAMES["seconds"], "num_waveforms_per_prompt"}
OTHER_USES = {
    "num_frames": "makes videos",
    "mask_image": "paints into masked pictures",
    "audio": "takes sounds to begin with",
}
VectorKind = Literal["unclip", "kandinsky", "adapter"]


@dataclass(frozen=True)
class CallSignature:
    """One way to call a pipeline. names: {our option: its parameter}. defaults: {its parameter: what it does
    without}."""

    pipe: Any
    names: Mapping[str, str]
    defaults: Mapping[str, Any]

    def has(self, parameter: str) -> bool:
        return parameter in self.defaults

    def default(self, option: str) -> Any:
        """What an option of ours is if left out; None if it is not taken or is worked out inside."""
        return self.defaults.get(self.names.get(option, ""))


def call_signature(pipe: Any) -> CallSignature:
    """The call of a pipeline."""
    defaults = _defaults(type(pipe))
    names = {
        ours: found
        for ours, theirs in NAMES.items()
        if (found := next((one for one in theirs if one in defaults), None)) is not None
    }
    true_scale = defaults.get("true_cfg_scale")
    if true_scale is not None:  # guidance by a second pass, beside one that was trained in
        if defaults.get("guidance_scale") is None:
            names["guidance"] = "true_cfg_scale"
        elif true_scale <= 1:  # Flux: without that second pass a negative prompt does nothing
            names.pop("negative", None)
    return CallSignature(pipe, names, defaults)


def check_use(name: str, cls: type) -> None:
    """Raises CheckpointError for a pipeline that makes neither pictures nor sounds of words, vectors or pictures."""
    if ".dummy_" in cls.__module__:  # stands for one whose library is missing, as loading it will tell
        return
    has = _defaults(cls)
    other = next((use for parameter, use in OTHER_USES.items() if parameter in has), None)
    if other is None and "Prior" in cls.__name__:
        other = "turns words into vectors and draws nothing; name the decoder, and this as prior=…"
    if other is None and not {"prompt", "image_embeds"} & has.keys():
        other = "makes things without being told what"
    if other is not None:
        raise CheckpointError(
            f"{name!r} is a {cls.__name__}, which {other}: take one that makes pictures or sounds of words, such as "
            "'diffusers/stabilityai/sdxl-turbo'"
        )


def _defaults(cls: Any) -> dict[str, Any]:
    return {
        key: one.default for key, one in inspect.signature(cls.__call__).parameters.items() if key != "self"
    }


def needs_vector(call: CallSignature) -> bool:
    """Whether it draws nothing without a vector that another model makes of words."""
    return any(call.defaults.get(one) is inspect.Parameter.empty for one in VECTORS)


def output_modality(call: CallSignature) -> Modality:
    """What comes out."""
    return Modality.AUDIO if any(call.has(one) for one in SOUNDS) else Modality.IMAGE


def image_to_image_signature(call: CallSignature) -> CallSignature | None:
    """The call that begins with a picture: the pipeline's own, or of the class that diffusers pairs with it; None
    without one."""
    if call.has("image"):
        return call
    try:
        with captured_logs():
            from diffusers import AutoPipelineForImage2Image

            return call_signature(AutoPipelineForImage2Image.from_pipe(call.pipe))
    except ValueError:
        return None


def needs_image(call: CallSignature) -> bool:
    """Whether it makes nothing of words alone."""
    from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING as WORDS

    return call.has("image") and type(call.pipe) not in WORDS.values()


def vector_signature(call: CallSignature) -> tuple[CallSignature, VectorKind, int] | None:
    """(call, kind, dim) for a pipeline that takes CLIP's vectors of pictures; None for another.

    unclip: Stable unCLIP, class labels with noise. kandinsky: Kandinsky 2.2's decoder. adapter: an IP-Adapter.
    """
    if call.has("image_embeds") and call.has("negative_image_embeds") and not call.has("prompt"):
        return call, "kandinsky", int(call.pipe.unet.config.encoder_hid_dim)
    inner = getattr(call.pipe, "decoder_pipe", None)
    if inner is not None:
        return vector_signature(call_signature(inner))
    if call.has("image_embeds") and hasattr(call.pipe, "image_normalizer"):
        return call, "unclip", int(call.pipe.image_normalizer.mean.shape[-1])
    layers = getattr(
        getattr(getattr(call.pipe, "unet", None), "encoder_hid_proj", None), "image_projection_layers", ()
    )
    if layers and call.has("ip_adapter_image_embeds"):
        return call, "adapter", int(layers[0].image_embeds.in_features)
    return None


def vector_norm(pipe: Any) -> float | None:
    """How long the vectors are that a checkpoint was trained with: CLIP's own have a length far from 1, and the mean
    and spread that it keeps of them tell it. None where it keeps none."""
    for mean, std in (
        (getattr(getattr(pipe, "image_normalizer", None), one, None) for one in ("mean", "std")),
        (getattr(getattr(pipe, "prior_prior", None), one, None) for one in ("clip_mean", "clip_std")),
    ):
        if mean is not None and std is not None:
            return math.sqrt(float((mean.detach().float() ** 2).sum() + (std.detach().float() ** 2).sum()))
    return None


def size_multiple(pipe: Any) -> int:
    """What width and height must be multiples of."""
    pipe = getattr(pipe, "decoder_pipe", pipe)
    movq = getattr(pipe, "movq_scale_factor", None)
    if movq is not None:
        return int(movq) ** 2
    processor = getattr(pipe, "image_processor", None)
    factor = getattr(getattr(processor, "config", None), "vae_scale_factor", None)
    own = getattr(pipe, "vae_scale_factor", 8) or 8
    patch = getattr(pipe, "patch_size", 1)
    multiples = [8, int(factor or own), int(own) * (patch if isinstance(patch, int) else 1)]
    return math.lcm(*multiples)


def sampling_rate(pipe: Any) -> int | None:
    """Samples a second of what it makes; None if no part tells."""
    for part in ("vocoder", "vae"):
        config = getattr(getattr(pipe, part, None), "config", None)
        for key in ("sampling_rate", "sample_rate"):
            if (found := getattr(config, key, None)) is not None:
                return int(found)
    found = getattr(pipe, "sample_rate", None)
    return None if found is None else int(found)
