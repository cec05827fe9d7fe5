"""Chat models of transformers, on this machine: Llama, Qwen, Gemma and others, with text or with images and audio.

The prompt is the checkpoint's own chat template. What stands in a message is tokenised apart from the template, with
special tokens as letters, so that "<|im_end|>" in a source does not end its turn. A processor of images tokenises the
whole prompt at once; there such tokens are broken up before (`prompt.break_special_tokens`).
"""

from __future__ import annotations

import contextlib
import io
import secrets
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from multimodal.core.backends.runtime import Runtime
from multimodal.core.errors import AnswerError, CheckpointError, InvalidInput
from multimodal.core.hub.source import Source, source_of
from multimodal.core.modality import Modality
from multimodal.encoders.hf import generative
from multimodal.encoders.hf.cards import CARDS
from multimodal.encoders.hf.checkpoint import quiet, require_transformers, short
from multimodal.pipelines.answering import prompt
from multimodal.pipelines.answering.interface import AnsweringBackend, Draft, PromptPart, Request
from multimodal.pipelines.answering.result import Usage

if TYPE_CHECKING:
    import torch

Message = dict[str, Any]


def load_backend(rest: str, runtime: Runtime, *, offline: bool, revision: str | None) -> HFChatBackend:
    """Loads `hf/<rest>`, where rest is the id of a model on the Hub or a folder ("./folder").

    Raises UnknownModel, DownloadError, MissingExtra, and CheckpointError for a model that does not chat.
    """
    require_transformers()
    source = source_of(rest, revision=revision, offline=offline, with_code=False, cards=CARDS)
    folder = generative.folder_with_templates(source)
    config = generative.read_config(source, folder)
    cls, takes_media = _generating_class(source, config)
    processor = generative.load_processor(source.name, folder) if takes_media else _tokenizer(source, folder)
    if not getattr(processor, "chat_template", None):
        raise CheckpointError(
            f"{source.name!r} has no chat template, so it cannot be asked: choose a model that was tuned for chat "
            "('…-Instruct', '…-it'), or copy its chat_template.jinja beside the other files"
        )
    model = generative.load_model(source, cls, config, runtime, folder)
    return HFChatBackend(source.name, model, processor)


class HFChatBackend(AnsweringBackend):
    """A chat model of transformers.

    Args:
        name: Its address.
        model: The model.
        processor: Its tokenizer, or its processor if it takes images or audio.
    """

    def __init__(self, name: str, model: Any, processor: Any) -> None:
        self.name, self.model, self.processor = name, model, processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.window = generative.context_length(model.config)
        self.modalities = (Modality.TEXT, *_media(processor))
        self.reads_special_tokens = len(self.modalities) > 1
        if self.reads_special_tokens:
            added = self.tokenizer.added_tokens_decoder.values()
            self.special_tokens = tuple(str(token) for token in added if len(str(token)) > 1)
        self.counts_locally = True
        self._has_system: bool | None = None

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        return self.model.device  # type: ignore[no-any-return]

    def to(self, device: torch.device) -> None:
        """Moves the model to a device."""
        self.model.to(device)

    def count_tokens(self, request: Request) -> int | None:
        if any(part.kind != "text" for part in prompt.user_parts(request)):
            return None
        return int(self._inputs(request)["input_ids"].shape[1])

    def complete(self, request: Request) -> Draft:
        return self._draft(*self._generate(request, None))

    def stream(self, request: Request) -> Iterator[str | Draft]:
        from transformers import TextIteratorStreamer

        streamer = TextIteratorStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        stopped = threading.Event()
        results: list[Any] = []

        def work() -> None:
            try:
                results.append(self._generate(request, streamer, stopped))
            except BaseException as error:  # raised below, in the thread of the caller
                results.append(error)
                streamer.end()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield from filter(None, streamer)
        finally:
            stopped.set()
            thread.join()
        if isinstance(results[0], BaseException):
            raise results[0]
        yield self._draft(*results[0])

    def _generate(
        self, request: Request, streamer: Any, stopped: threading.Event | None = None
    ) -> tuple[list[int], int]:
        """(the tokens that were written, the number of tokens of the prompt)."""
        import torch
        from transformers import StoppingCriteria, StoppingCriteriaList

        class Stop(StoppingCriteria):  # type: ignore[misc]
            def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
                is_stopped = stopped is not None and stopped.is_set()
                return torch.full((len(input_ids),), is_stopped, device=input_ids.device)

        inputs = self._inputs(request).to(self.model.device)
        n_input = int(inputs["input_ids"].shape[1])
        if self.window is not None and n_input + request.max_tokens > self.window:
            raise InvalidInput(
                f"the prompt has {n_input} tokens and max_tokens={request.max_tokens}, and {self.name!r} takes "
                f"{self.window} together: lower max_tokens= or context_tokens="
            )
        for key, value in inputs.items():
            if torch.is_tensor(value) and value.is_floating_point():
                inputs[key] = value.to(self.model.dtype)
        with torch.inference_mode(), _silent():
            output = self.model.generate(
                **inputs,
                max_new_tokens=request.max_tokens,
                do_sample=False,
                pad_token_id=self._pad_token(),
                streamer=streamer,
                stopping_criteria=StoppingCriteriaList([Stop()]),
            )
        start = 1 if generative.is_encoder_decoder(self.model.config) else n_input
        return output[0, start:].tolist(), n_input

    def _draft(self, tokens: list[int], n_input: int) -> Draft:
        ends = generative.end_tokens(self.model)
        n = next((position for position, token in enumerate(tokens) if token in ends), len(tokens))
        text = self.tokenizer.decode(tokens[:n], skip_special_tokens=True).strip()
        return Draft(text, "stop" if n < len(tokens) else "length", Usage(n_input, len(tokens)))

    def _pad_token(self) -> int | None:
        for token in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if token is not None:
                return int(token)
        return min(generative.end_tokens(self.model), default=None)

    def _inputs(self, request: Request) -> Any:
        if len(self.modalities) > 1:
            return self._media_inputs(request)
        import torch
        from transformers import BatchEncoding

        rows = torch.tensor([self._token_ids(request)])
        return BatchEncoding({"input_ids": rows, "attention_mask": torch.ones_like(rows)})

    def _token_ids(self, request: Request) -> list[int]:
        """The template's tokens, with those of each message between them."""
        contents: dict[str, str] = {}

        def held(text: str) -> str:
            place = f"q{secrets.token_hex(8)}q"
            contents[place] = text
            return place

        rendered = self._render(self._messages(request, held))
        ids: list[int] = []
        for piece in _split(rendered, list(contents)):
            text = contents.get(piece)
            split_special = text is not None
            ids += self.tokenizer(
                piece if text is None else text, add_special_tokens=False, split_special_tokens=split_special
            )["input_ids"]
        return ids

    def _messages(self, request: Request, held: Any) -> list[Message]:
        """The messages of a model of texts. held: text -> what stands for it in the template."""
        messages = [{"role": "system", "content": held(request.system)}]
        for question, answer in request.examples:
            messages += [
                {"role": "user", "content": held(question)},
                {"role": "assistant", "content": held(answer)},
            ]
        words = "\n".join(part.text for part in prompt.user_parts(request))
        return [*messages, {"role": "user", "content": held(words)}]

    def _media_inputs(self, request: Request) -> Any:
        messages = [{"role": "system", "content": _blocks([PromptPart("text", request.system)])}]
        for question, answer in request.examples:
            messages += [
                {"role": "user", "content": _blocks([PromptPart("text", question)])},
                {"role": "assistant", "content": _blocks([PromptPart("text", answer)])},
            ]
        content = _blocks(prompt.joined(prompt.user_parts(request)), self.processor)
        try:
            return self._render([*messages, {"role": "user", "content": content}], tokenize=True)
        except (ValueError, IndexError, KeyError) as error:
            raise InvalidInput(
                f"the processor of {self.name!r} rejects the prompt: {short(error)}; lower k= or leave out images"
            ) from error

    def _render(self, messages: list[Message], **options: Any) -> Any:
        """The template's result; for a template that knows no system turn, its words open the first user turn."""
        from jinja2.exceptions import TemplateError

        arguments: dict[str, Any] = {"add_generation_prompt": True, "tokenize": False} | options
        if options:
            arguments |= {"return_dict": True, "return_tensors": "pt"}
        with quiet():
            if self._has_system is not False:
                try:
                    rendered = self.processor.apply_chat_template(messages, **arguments)
                    self._has_system = True
                    return rendered
                except TemplateError as error:
                    if self._has_system:
                        raise AnswerError(f"the chat template of {self.name!r} fails: {error}") from error
            try:
                rendered = self.processor.apply_chat_template(_without_system(messages), **arguments)
            except TemplateError as error:
                raise AnswerError(f"the chat template of {self.name!r} fails: {error}") from error
            self._has_system = False
            return rendered


def _generating_class(source: Source, config: Any) -> tuple[Any, bool]:
    """The class of the model, and whether it takes media. Raises CheckpointError."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_MULTIMODAL_LM_MAPPING,
    )

    for mapping, takes_media in (
        (MODEL_FOR_MULTIMODAL_LM_MAPPING, True),
        (MODEL_FOR_CAUSAL_LM_MAPPING, False),
    ):
        if type(config) in mapping:
            mapped = mapping[type(config)]
            return mapped[0] if isinstance(mapped, tuple) else mapped, takes_media
    raise CheckpointError(
        f"{source.name!r} is of type {config.model_type!r}, which writes no text; choose a chat model such as a Llama, "
        "Qwen or Gemma"
    )


def _tokenizer(source: Source, folder: Any) -> Any:
    from transformers import AutoTokenizer

    try:
        with quiet():
            return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # damaged files can raise anything in transformers
        raise CheckpointError(
            f"the tokenizer of {source.name!r} cannot be loaded: {short(error)}; fetch or copy its files again"
        ) from error


def _media(processor: Any) -> Iterator[Modality]:
    if getattr(processor, "image_processor", None) is not None:
        yield Modality.IMAGE
    if getattr(processor, "feature_extractor", None) is not None:
        yield Modality.AUDIO


def _blocks(parts: Sequence[PromptPart], processor: Any = None) -> list[dict[str, Any]]:
    import PIL.Image

    blocks: list[dict[str, Any]] = []
    for part in parts:
        if part.kind == "text":
            blocks.append({"type": "text", "text": part.text})
        elif part.kind == "image":
            blocks.append({"type": "image", "image": PIL.Image.open(io.BytesIO(part.data)).convert("RGB")})
        else:
            from multimodal.core.items import Audio

            rate_hz = int(processor.feature_extractor.sampling_rate)
            blocks.append({"type": "audio", "audio": Audio(part.data).load(rate_hz).samples})
    return blocks


def _without_system(messages: list[Message]) -> list[Message]:
    """The messages with the words of the system turn at the start of the first user turn."""
    system, first, *rest = messages
    if isinstance(system["content"], str):
        return [{"role": "user", "content": f"{system['content']}\n\n{first['content']}"}, *rest]
    return [{"role": "user", "content": [*system["content"], *first["content"]]}, *rest]


def _split(text: str, places: Sequence[str]) -> Iterator[str]:
    """The text cut before and after each of the places, in order."""
    at = 0
    for start, place in sorted((text.find(place), place) for place in places if place in text):
        if start > at:
            yield text[at:start]
        yield place
        at = start + len(place)
    if at < len(text):
        yield text[at:]


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without the warnings of `generate` about settings of the checkpoint that greedy decoding ignores."""
    with quiet():
        yield
