"""From things and a prompt to what a model of transformers takes, told by what its processor offers.

A processor with a chat template gets a message: the thing, then the prompt. Any other gets the picture as `images=`
and the prompt as `text=`: there it is the beginning of the caption (BLIP, GIT), a question in the model's own form
("Question: … Answer:" of BLIP-2), or a task of its own ("<CAPTION>" of Florence-2). Nothing is truncated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from multimodal.core.errors import InvalidInput, MediaTooLarge
from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.encoders.hf.checkpoint import quiet, short
from multimodal.pipelines.captioning.options import load_audible

ASKED = {
    Modality.IMAGE: "Describe this image.",
    Modality.AUDIO: "Describe this audio.",
    Modality.VIDEO: "Describe this video.",
}
"""What a chat model is asked where the caller asks nothing."""
PLAIN_PROMPTS = {
    "florence2": "<CAPTION>",
    "paligemma": "caption en",
    "kosmos-2": "An image of",
    "instructblip": "Describe this image.",
}
"""The beginnings that models without a chat template were trained with; others caption without any."""
PLACES_PICTURES_ITSELF = frozenset({"florence2", "paligemma", "kosmos-2", "blip-2", "instructblip"})
VIDEO_FPS, VIDEO_FRAMES = 2.0, 16  # of a video, frames a second and in all, as the model sees it


class Inputs:
    """What goes into `generate`, of a processor and a type of model ("llava")."""

    def __init__(self, processor: Any, kind: str, name: str) -> None:
        self.processor, self.kind, self.name = processor, kind, name
        self.chats = bool(getattr(processor, "chat_template", None))
        if type(processor).__name__ == "VoxtralProcessor":  # its template is mistral_common's
            self.chats = True

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """What the processor has a part for. Sounds and videos only in messages: no other model takes them."""
        found = [Modality.IMAGE] if getattr(self.processor, "image_processor", None) is not None else []
        if self.chats and getattr(self.processor, "feature_extractor", None) is not None:
            found.append(Modality.AUDIO)
        if self.chats and getattr(self.processor, "video_processor", None) is not None:
            found.append(Modality.VIDEO)
        return tuple(found)

    def __call__(self, items: Sequence[Item], prompt: str | None) -> Any:
        """Items of one modality -> tensors by name, one row for each item. Raises InvalidInput, MediaError."""
        modality = items[0].modality
        if self.chats:
            return self._chat(items, prompt or ASKED[modality], modality)
        text = prompt or PLAIN_PROMPTS.get(self.kind)
        return self._plain([_picture(item) for item in items], text)

    def _chat(self, items: Sequence[Item], prompt: str, modality: Modality) -> Any:
        options: dict[str, Any] = {"padding": True}
        blocks: list[dict[str, Any]] = []
        if modality is Modality.IMAGE:
            blocks = [{"type": "image", "image": _picture(item)} for item in items]
        elif modality is Modality.AUDIO:
            blocks = [self._heard(item) for item in items]
        else:
            clips = [item.load(fps=VIDEO_FPS, max_frames=VIDEO_FRAMES) for item in items]  # type: ignore[call-arg]
            blocks = [{"type": "video", "video": clip.frames} for clip in clips]  # type: ignore[union-attr]
            options |= {"do_sample_frames": False, "video_metadata": [[_told(clip)] for clip in clips]}
        chats = [[{"role": "user", "content": [block, {"type": "text", "text": prompt}]}] for block in blocks]
        with self._refusals():
            return self.processor.apply_chat_template(
                chats, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
                processor_kwargs=options,
            )  # fmt: skip

    def _heard(self, item: Item) -> dict[str, Any]:
        extractor = self.processor.feature_extractor
        samples = load_audible(item, int(extractor.sampling_rate)).samples
        if (
            type(self.processor).__name__ == "VoxtralProcessor"
        ):  # cuts long sounds into windows, and all are heard
            return {"type": "audio", "base64": _wav(samples, int(extractor.sampling_rate))}
        longest = getattr(extractor, "n_samples", None)
        if longest is not None and len(samples) > longest:
            raise MediaTooLarge(
                f"the sound is {len(samples) / extractor.sampling_rate:.1f} s long, and {self.name!r} hears at most "
                f"{longest / extractor.sampling_rate:g} s at once: give a part of it, or transcribe it"
            )
        return {"type": "audio", "audio": samples}

    def _plain(self, pictures: list[Any], text: str | None) -> Any:
        mark = getattr(self.processor, "image_token", None)
        if mark is not None and self.kind not in PLACES_PICTURES_ITSELF and mark not in (text or ""):
            text = f"{mark}\n{text}" if text else mark
        if text is None:
            with self._refusals():
                return self.processor(images=pictures, return_tensors="pt")
        texts = [text] * len(pictures)
        with self._refusals():
            if self.kind == "git":  # upstream's own way: begin with [CLS], and do not end with [SEP]
                return self._begun(pictures, text)
            return self.processor(images=pictures, text=texts, return_tensors="pt", padding=True)

    def _begun(self, pictures: list[Any], text: str) -> Any:
        import torch

        tokenizer = self.processor.tokenizer
        row = [tokenizer.cls_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
        found = self.processor(images=pictures, return_tensors="pt")
        found["input_ids"] = torch.tensor([row] * len(pictures))
        return found

    def _refusals(self) -> _Refusals:
        return _Refusals(self.name)


class _Refusals:
    """What a processor raises of a picture or a prompt, told as ours; its advice is kept quiet."""

    def __init__(self, name: str) -> None:
        self.name, self.hush = name, quiet()

    def __enter__(self) -> None:
        self.hush.__enter__()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.hush.__exit__(None, None, None)
        if isinstance(error, ValueError | IndexError | KeyError):
            raise InvalidInput(
                f"the processor of {self.name!r} refuses this prompt or what is to be captioned: {short(error)}"
            ) from error


def _picture(item: Any) -> Any:
    import PIL.Image

    return PIL.Image.fromarray(item.load())


def _told(clip: Any) -> dict[str, Any]:
    """What a video processor wants to know of frames that have been chosen already."""
    return {
        "total_num_frames": len(clip), "fps": len(clip) / clip.seconds, "duration": clip.seconds,
        "frames_indices": list(range(len(clip))), "height": clip.frames.shape[1], "width": clip.frames.shape[2],
    }  # fmt: skip


def _wav(samples: Any, rate_hz: int) -> str:
    import base64
    import io

    import soundfile

    out = io.BytesIO()
    soundfile.write(out, samples, rate_hz, format="WAV", subtype="FLOAT")
    return base64.b64encode(out.getvalue()).decode()
