"""The inputs of a captioning model of transformers, made of items and a prompt by its processor.

A processor with a chat template gets a message: the item, then the prompt. Any other gets the image as `images=` and
the prompt as `text=`: the beginning of the caption (BLIP, GIT), a question in the model's own form ("Question: …
Answer:" of BLIP-2), or a task token ("<CAPTION>" of Florence-2). Nothing is truncated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from multimodal.core.errors import InvalidInput, MediaTooLarge
from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.encoders.hf.checkpoint import quiet, short
from multimodal.encoders.hf.preprocessing import shortest_edge
from multimodal.pipelines.captioning.options import load_audible

CHAT_PROMPTS = {
    Modality.IMAGE: "Describe this image.",
    Modality.AUDIO: "Describe this audio.",
    Modality.VIDEO: "Describe this video.",
}
"""The default prompts of chat models."""
PLAIN_PROMPTS = {
    "florence2": "<CAPTION>",
    "paligemma": "caption en",
    "kosmos-2": "An image of",
    "instructblip": "Describe this image.",
}
"""The default prompts of models without a chat template, by model type; other types need none."""
INSERTS_IMAGE_TOKENS = frozenset({"florence2", "paligemma", "kosmos-2", "blip-2", "instructblip"})
VIDEO_FPS, VIDEO_FRAMES = 2.0, 16  # sampled from a video: frames per second, and in all


class Inputs:
    """Makes the inputs of `generate`.

    Args:
        processor: The processor of the checkpoint.
        kind: The model type, such as "llava".
        name: The name of the model, for messages.
    """

    def __init__(self, processor: Any, kind: str, name: str) -> None:
        self.processor, self.kind, self.name = processor, kind, name
        self.has_chat_template = bool(getattr(processor, "chat_template", None))
        if type(processor).__name__ == "VoxtralProcessor":  # its template comes with mistral_common
            self.has_chat_template = True

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities that the processor handles. Audio and video need a chat template."""
        modalities = [Modality.IMAGE] if getattr(self.processor, "image_processor", None) is not None else []
        if self.has_chat_template and getattr(self.processor, "feature_extractor", None) is not None:
            modalities.append(Modality.AUDIO)
        if self.has_chat_template and getattr(self.processor, "video_processor", None) is not None:
            modalities.append(Modality.VIDEO)
        return tuple(modalities)

    def __call__(
        self, items: Sequence[Item], prompt: str | None, examples: Sequence[tuple[Item, str]] = ()
    ) -> Any:
        """Items of one modality -> tensors by name, one row per item. Raises InvalidInput, MediaError."""
        modality = items[0].modality
        if self.has_chat_template:
            return self._chat(items, prompt, modality, examples)
        text = prompt or PLAIN_PROMPTS.get(self.kind)
        return self._plain([self._pil_image(item) for item in items], text)

    def _chat(
        self,
        items: Sequence[Item],
        prompt: str | None,
        modality: Modality,
        examples: Sequence[tuple[Item, str]],
    ) -> Any:
        options: dict[str, Any] = {"padding": True}
        blocks: list[dict[str, Any]] = []
        if modality is Modality.IMAGE:
            blocks = [self._image_block(item) for item in items]
        elif modality is Modality.AUDIO:
            blocks = [self._audio_block(item) for item in items]
        else:
            clips = [item.load(fps=VIDEO_FPS, max_frames=VIDEO_FRAMES) for item in items]  # type: ignore[call-arg]
            blocks = [{"type": "video", "video": clip.frames} for clip in clips]  # type: ignore[union-attr]
            options |= {
                "do_sample_frames": False,
                "video_metadata": [[_frame_metadata(clip)] for clip in clips],
            }
        shown = [turn for item, caption in examples for turn in self._example(item, caption, prompt)]
        chats = [[*shown, _question(block, prompt or CHAT_PROMPTS[modality])] for block in blocks]
        with self._processor_errors():
            return self.processor.apply_chat_template(
                chats, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
                processor_kwargs=options,
            )  # fmt: skip

    def _example(self, item: Item, caption: str, prompt: str | None) -> list[dict[str, Any]]:
        """The two turns of an example."""
        is_image = item.modality is Modality.IMAGE
        block = self._image_block(item) if is_image else self._audio_block(item)
        answer = {"role": "assistant", "content": [{"type": "text", "text": caption}]}
        return [_question(block, prompt or CHAT_PROMPTS[item.modality]), answer]

    def _image_block(self, item: Item) -> dict[str, Any]:
        return {"type": "image", "image": self._pil_image(item)}

    def _pil_image(self, item: Any) -> Any:
        from multimodal.core.media.pillow import load_pil

        processor = getattr(self.processor, "image_processor", self.processor)
        return load_pil(item, shortest_edge=shortest_edge(processor))

    def _audio_block(self, item: Item) -> dict[str, Any]:
        extractor = self.processor.feature_extractor
        samples = load_audible(item, int(extractor.sampling_rate)).samples
        if type(self.processor).__name__ == "VoxtralProcessor":  # splits long audio into windows
            return {"type": "audio", "base64": _wav(samples, int(extractor.sampling_rate))}
        longest = getattr(extractor, "n_samples", None)
        if longest is not None and len(samples) > longest:
            raise MediaTooLarge(
                f"the audio is {len(samples) / extractor.sampling_rate:.1f} s long, and {self.name!r} takes at most "
                f"{longest / extractor.sampling_rate:g} s: give a part of it, or transcribe it"
            )
        return {"type": "audio", "audio": samples}

    def _plain(self, images: list[Any], text: str | None) -> Any:
        token = getattr(self.processor, "image_token", None)
        if token is not None and self.kind not in INSERTS_IMAGE_TOKENS and token not in (text or ""):
            text = f"{token}\n{text}" if text else token
        if text is None:
            with self._processor_errors():
                return self.processor(images=images, return_tensors="pt")
        texts = [text] * len(images)
        with self._processor_errors():
            if self.kind == "git":  # as upstream: [CLS] first, and no [SEP] at the end
                return self._git_inputs(images, text)
            return self.processor(images=images, text=texts, return_tensors="pt", padding=True)

    def _git_inputs(self, images: list[Any], text: str) -> Any:
        import torch

        tokenizer = self.processor.tokenizer
        row = [tokenizer.cls_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
        inputs = self.processor(images=images, return_tensors="pt")
        inputs["input_ids"] = torch.tensor([row] * len(images))
        return inputs

    def _processor_errors(self) -> _ProcessorErrors:
        return _ProcessorErrors(self.name)


class _ProcessorErrors:
    """Turns what a processor raises into InvalidInput, and silences its advice."""

    def __init__(self, name: str) -> None:
        self.name, self.silence = name, quiet()

    def __enter__(self) -> None:
        self.silence.__enter__()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.silence.__exit__(None, None, None)
        if isinstance(error, ValueError | IndexError | KeyError):
            raise InvalidInput(
                f"the processor of {self.name!r} rejects the prompt or the input: {short(error)}"
            ) from error


def _question(block: dict[str, Any], prompt: str) -> dict[str, Any]:
    """The turn that shows an item and asks about it."""
    return {"role": "user", "content": [block, {"type": "text", "text": prompt}]}


def _frame_metadata(clip: Any) -> dict[str, Any]:
    """What a video processor needs to know about frames that are sampled already."""
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
