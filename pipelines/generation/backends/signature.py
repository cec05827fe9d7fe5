"""Call signatures of diffusers pipelines, by inspection: parameter names and accepted inputs differ between them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from multimodal.core.errors import CheckpointError
from multimodal.core.modality import Modality
from multimodal.pipelines.generation.backends.diffusers_load import captured_logs

NAMES = {  # our option: candidate parameters, of which the first that a pipeline has is used
    "steps": ("num_inference_steps",),
    "guidance": ("guidance_scale", "prior_guidance_scale"),
    "negative": ("negative_prompt",),
    "width": ("width",),
    "height": ("height",),
    "strength": ("strength",),
    "seconds": ("audio_length_in_s", "audio_end_in_s", "duration", "audio_duration_s"),
}
VECTORS = ("image_embeds", "image_embeddings")
AUDIO_PARAMETERS = {*NAMES["seconds"], "num_waveforms_per_prompt"}
OTHER_USES = {
    "num_frames": "generates videos",
    "mask_image": "inpaints masked images",
    "audio": "starts from audio",
}
VectorKind = Literal["unclip", "kandinsky", "adapter"]


@dataclass(frozen=True)
class CallSignature:
    """One way to call a pipeline. names: {our option: its parameter}. defaults: {its parameter: the default}."""

    pipe: Any
    names: Mapping[str, str]
    defaults: Mapping[str, Any]

    def has(self, parameter: str) -> bool:
        return parameter in self.defaults

    def default(self, option: str) -> Any:
        """The default of an option; None if the option is not accepted or its default is computed in the call."""
        return self.defaults.get(self.names.get(option, ""))


def call_signature(pipe: Any) -> CallSignature:
    """The call of a pipeline."""
    defaults = _defaults(type(pipe))
    names = {
        ours: parameter
        for ours, theirs in NAMES.items()
        if (parameter := next((candidate for candidate in theirs if candidate in defaults), None)) is not None
    }
    true_scale = defaults.get("true_cfg_scale")
    if true_scale is not None:  # classifier-free guidance beside distilled guidance
        if defaults.get("guidance_scale") is None:
            names["guidance"] = "true_cfg_scale"
        elif true_scale <= 1:  # Flux: without classifier-free guidance a negative prompt has no effect
            names.pop("negative", None)
    return CallSignature(pipe, names, defaults)


def check_use(name: str, cls: type) -> None:
    """Raises CheckpointError for a pipeline that generates neither images nor audio from prompts, vectors or images."""
    if ".dummy_" in cls.__module__:  # placeholder for a missing library, which loading reports
        return
    has = _defaults(cls)
    other = next((use for parameter, use in OTHER_USES.items() if parameter in has), None)
    if other is None and "Prior" in cls.__name__:
        other = "maps text to vectors and generates no image; name the decoder, and this model as prior=…"
    if other is None and not {"prompt", "image_embeds"} & has.keys():
        other = "generates without a prompt or a vector"
    if other is not None:
        raise CheckpointError(
            f"{name!r} is a {cls.__name__}, which {other}: use a model that generates images or audio from a prompt, "
            "such as 'diffusers/stabilityai/sdxl-turbo'"
        )


def _defaults(cls: Any) -> dict[str, Any]:
    return {
        key: parameter.default
        for key, parameter in inspect.signature(cls.__call__).parameters.items()
        if key != "self"
    }


def needs_vector(call: CallSignature) -> bool:
    """Whether the pipeline requires a vector, which another model (its prior) computes from text."""
    return any(call.defaults.get(name) is inspect.Parameter.empty for name in VECTORS)


def output_modality(call: CallSignature) -> Modality:
    """The modality of the output."""
    return Modality.AUDIO if any(call.has(name) for name in AUDIO_PARAMETERS) else Modality.IMAGE


def image_to_image_signature(call: CallSignature) -> CallSignature | None:
    """The image-to-image call: the pipeline's own, or of the class that diffusers pairs with it; None without one."""
    if call.has("image"):
        return call
    try:
        with captured_logs():
            from diffusers import AutoPipelineForImage2Image

            return call_signature(AutoPipelineForImage2Image.from_pipe(call.pipe))
    except ValueError:
        return None


def needs_image(call: CallSignature) -> bool:
    """Whether the pipeline requires an image beside the prompt."""
    from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING as TEXT_TO_IMAGE

    return call.has("image") and type(call.pipe) not in TEXT_TO_IMAGE.values()


def vector_signature(call: CallSignature) -> tuple[CallSignature, VectorKind, int] | None:
    """(call, kind, dim) for a pipeline that takes CLIP image vectors; None for any other.

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
    """The norm of the vectors that a checkpoint was trained with, from the mean and deviation stored in it.

    Unnormalised CLIP vectors have norms far from 1. None for a checkpoint without these statistics.
    """
    for mean, std in (
        (getattr(getattr(pipe, "image_normalizer", None), attribute, None) for attribute in ("mean", "std")),
        (
            getattr(getattr(pipe, "prior_prior", None), attribute, None)
            for attribute in ("clip_mean", "clip_std")
        ),
    ):
        if mean is not None and std is not None:
            return math.sqrt(float((mean.detach().float() ** 2).sum() + (std.detach().float() ** 2).sum()))
    return None


def size_multiple(pipe: Any) -> int:
    """The number of pixels of which width and height must be multiples."""
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
    """The sampling rate of the generated audio; None if no component states it."""
    for part in ("vocoder", "vae"):
        config = getattr(getattr(pipe, part, None), "config", None)
        for key in ("sampling_rate", "sample_rate"):
            if (rate_hz := getattr(config, key, None)) is not None:
                return int(rate_hz)
    rate_hz = getattr(pipe, "sample_rate", None)
    return None if rate_hz is None else int(rate_hz)
