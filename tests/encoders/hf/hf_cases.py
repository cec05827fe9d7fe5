"""Tiny checkpoints with our space of them, made once for a run; inputs for them; and upstream called by hand."""

import atexit
import functools
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import torch
import transformers as hf

import multimodal as mm
from tests.encoders.hf import hf_tiny

RATE_HZ = hf_tiny.RATE_HZ
TEXTS = ["a cat", "a photo of a dog, and of a very long rope", "rain", "hello world"]
RNG = np.random.default_rng(7)


def image(height: int, width: int) -> np.ndarray:
    """Smooth colours with some noise: pictures that differ in more than their noise."""
    down, across = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
    ramp = RNG.integers(0, 2, 3) * 200 * down + RNG.integers(0, 2, 3) * 200 * across
    return np.clip(ramp + RNG.integers(0, 60, (height, width, 3)), 0, 255).astype(np.uint8)


def tone(samples: int, pitch_hz: float, noise: float) -> np.ndarray:
    wave = 0.3 * np.sin(2 * np.pi * pitch_hz * np.arange(samples) / RATE_HZ)
    return (wave + noise * RNG.standard_normal(samples)).astype(np.float32)


IMAGES = [image(40, 50), image(64, 33), image(32, 32)]
SOUNDS = [tone(3_001, 200, 0), tone(16_000, 1_500, 0.01), tone(9_000, 40, 0.3)]
CLIPS = [np.stack([image(40, 50) for _ in range(4)]) for _ in range(3)]
ITEMS: dict[str, list[Any]] = {
    "text": TEXTS,
    "image": IMAGES,
    "audio": [{"array": clip, "sampling_rate": RATE_HZ} for clip in SOUNDS],
    "video": [mm.Video(clip, fps=4) for clip in CLIPS],
}


class Case(NamedTuple):
    """transformers' own model and processor, and our space from the same folder."""

    kind: str
    folder: Path
    model: Any
    processor: Any
    space: mm.Space
    seconds: float


_folders = tempfile.TemporaryDirectory(prefix="multimodal-test-")
atexit.register(_folders.cleanup)


@functools.cache
def case(kind: str) -> Case:
    """The tiny checkpoint of that kind (hf_tiny.BUILDERS)."""
    folder = Path(_folders.name) / kind
    model = hf_tiny.saved(kind, folder)
    processor = hf.AutoProcessor.from_pretrained(folder)
    start = time.perf_counter()
    space = mm.load(f"hf/{folder}", device="cpu")
    return Case(kind, folder, model, processor, space, time.perf_counter() - start)


def unit(vectors: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(vectors.float(), dim=-1).numpy()


# --- upstream, called by hand --------------------------------------------------------------------


def texts(case: Case) -> Any:
    """Padded as the documentation of the class says."""
    fixed = case.kind.startswith("siglip")
    options = {"padding": "max_length", "max_length": 64} if fixed else {"padding": True}
    options["truncation"] = True
    return case.processor.tokenizer(TEXTS, return_tensors="pt", **options)


def images(case: Case) -> Any:
    return case.processor.image_processor(
        [PIL.Image.fromarray(image) for image in IMAGES], return_tensors="pt"
    )


def clips(case: Case) -> Any:
    if case.kind == "xclip":
        return case.processor(videos=[list(clip) for clip in CLIPS], return_tensors="pt")
    frames = [torch.from_numpy(clip).permute(0, 3, 1, 2) for clip in CLIPS]
    return case.processor.video_processor(frames, return_tensors="pt", do_sample_frames=False)


def sounds(case: Case) -> list[Any]:
    """One by one: beside others, CLAP's extractor marks one of them at random, and PE's pads the shorter."""
    extract = case.processor.feature_extractor
    return [extract(clip, sampling_rate=RATE_HZ, return_tensors="pt") for clip in SOUNDS]


def by_hand(case: Case) -> dict[str, np.ndarray]:
    """Unit vectors by modality, and the logits ("logits") of everything else for the texts, as `forward` gives them."""
    with torch.no_grad():
        return HANDS.get(case.kind, _image_model)(case)


def _image_model(case: Case) -> dict[str, np.ndarray]:
    out = _whole(case)(**texts(case), **images(case))
    return {
        "text": unit(out.text_embeds),
        "image": unit(out.image_embeds),
        "logits": out.logits_per_image.numpy(),
    }


def _whole(case: Case) -> Any:
    """The dual encoder itself, where a checkpoint holds more."""
    wrapped = {"clipseg": "clip", "owlvit": "owlvit"}
    return getattr(case.model, wrapped[case.kind]) if case.kind in wrapped else case.model


def _clap(case: Case) -> dict[str, np.ndarray]:
    outs = [case.model(**texts(case), **clip) for clip in sounds(case)]
    return {
        "text": unit(outs[0].text_embeds),
        "audio": unit(torch.cat([out.audio_embeds for out in outs])),
        "logits": torch.cat([out.logits_per_audio for out in outs]).numpy(),
        "logits of texts": torch.cat([out.logits_per_text for out in outs], 1).numpy(),
    }


def _flava(case: Case) -> dict[str, np.ndarray]:
    """FLAVA's forward takes as many pictures as texts: the first one twice. Its contrastive head scores them."""
    pixels = images(case)["pixel_values"]
    out = case.model(**texts(case), pixel_values=torch.cat([pixels, pixels[:1]]), return_loss=False)
    text = case.model.flava.text_projection(out.text_embeddings[:, 0])
    image = case.model.flava.image_projection(out.image_embeddings[:-1, 0])
    return {"text": unit(text), "image": unit(image), "logits": out.contrastive_logits_per_image[:-1].numpy()}


def _blip(case: Case) -> dict[str, np.ndarray]:
    out = case.model(
        input_ids=texts(case)["input_ids"], attention_mask=texts(case)["attention_mask"], **images(case),
        use_itm_head=False,
    )  # fmt: skip
    return {
        "text": unit(case.model.text_proj(out.question_embeds[:, 0])),
        "image": unit(case.model.vision_proj(out.last_hidden_state[:, 0])),
        "cosines": out.itm_score.numpy(),
    }


def _xclip(case: Case) -> dict[str, np.ndarray]:
    """forward bends each text toward each video; a text by itself is `get_text_features`."""
    out = case.model(**texts(case), **clips(case))
    return {
        "text": unit(case.model.get_text_features(**texts(case)).pooler_output),
        "video": unit(out.video_embeds),
    }


def _pe_audio(case: Case) -> dict[str, np.ndarray]:
    outs = [case.model(**texts(case), **clip) for clip in sounds(case)]
    return {
        "text": unit(outs[0].text_audio_embeds),
        "audio": unit(torch.cat([out.audio_embeds for out in outs])),
    }


def _pe_video(case: Case) -> dict[str, np.ndarray]:
    out = case.model(**texts(case), **clips(case))
    return {"text": unit(out.text_video_embeds), "video": unit(out.video_embeds)}


def _pe_av(case: Case) -> dict[str, np.ndarray]:
    """Its forward takes as many sounds and videos as texts: one of each at a time."""
    words, heard, seen = texts(case), sounds(case), clips(case)["pixel_values_videos"]
    outs = [
        case.model(
            **{name: tensor[i : i + 1] for name, tensor in words.items()},
            **heard[i % 3],
            pixel_values_videos=seen[i % 3, None],
        )
        for i in range(len(TEXTS))
    ]

    def joined(name: str) -> np.ndarray:
        return unit(torch.cat([getattr(out, name) for out in outs]))

    heads = {f"text for {name}": joined(f"text_{name}_embeds") for name in ("audio", "video", "audio_video")}
    own = {"audio": joined("audio_embeds")[:3], "video": joined("video_embeds")[:3]}
    return heads | own | {"text": heads["text for audio_video"]}


def _videoprism(case: Case) -> dict[str, np.ndarray]:
    out = case.model(**texts(case), **clips(case))
    return {"text": unit(out.text_embeds), "video": unit(out.video_embeds)}


def _embedding_gemma(case: Case) -> dict[str, np.ndarray]:
    """The mean over the tokens, as its documentation says; things one at a time."""

    def mean(**what: Any) -> np.ndarray:
        inputs = case.processor(**what, return_tensors="pt")
        states, mask = case.model(**inputs).last_hidden_state, inputs["attention_mask"][..., None]
        return unit((states * mask).sum(1) / mask.sum(1))

    # a frame a second of a clip that lasts one: the middle one
    frames = [torch.from_numpy(clip[2:3]).permute(0, 3, 1, 2) for clip in CLIPS]
    return {
        "text": np.concatenate([mean(text=[text]) for text in TEXTS]),
        "image": np.concatenate([mean(images=[[PIL.Image.fromarray(image)]]) for image in IMAGES]),
        "audio": np.concatenate([mean(audio=[clip], sampling_rate=RATE_HZ) for clip in SOUNDS]),
        "video": np.concatenate([mean(videos=[frame], do_sample_frames=False) for frame in frames]),
    }


HANDS = {
    "clap": _clap, "clap_fused": _clap, "flava": _flava, "blip": _blip, "xclip": _xclip, "pe_audio": _pe_audio,
    "pe_video": _pe_video, "pe_av": _pe_av, "videoprism": _videoprism, "embedding_gemma": _embedding_gemma,
}  # fmt: skip
