"""Answering: questions about the items of an index, answered with citations that are checked.

The names that `from_pretrained` accepts:

| Name | Answers |
|--|--|
| `"starter"`, `"extractive"` | quotations of the best source: offline, without a language model |
| `"openai/<model>"` | GPT; the key is read from `OPENAI_API_KEY` |
| `"anthropic/<model>"` | Claude, with its own citations; the key is read from `ANTHROPIC_API_KEY` |
| `"http://localhost:8080/v1#<model>"`, `"https://…#<model>"` | servers with OpenAI's protocol: vLLM, Ollama, … |
| `"hf/<owner>/<name>"`, `"hf/./folder"` | a chat model of transformers on this machine, such as a Llama |
| `"starter-omni"` | the starter's network for charts: offline; the question comes with `image=` |

A question is words, a recording (transcribed, and searched by its vector too), an image or a video.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

from multimodal.core.backends.runtime import Precision, Runtime
from multimodal.core.catalog import close_matches
from multimodal.core.errors import InvalidInput, UnknownModel
from multimodal.core.items import Audio, Image, Item, Text, Video
from multimodal.core.modality import Modality
from multimodal.core.pipeline import Pipeline, one_or_many, pipeline
from multimodal.core.space import Space
from multimodal.index import Index
from multimodal.index.opening import adapted_space
from multimodal.pipelines.answering import addresses, quoting, retrieval
from multimodal.pipelines.answering.evidence import answerability
from multimodal.pipelines.answering.generative import Writer
from multimodal.pipelines.answering.interface import AnsweringBackend
from multimodal.pipelines.answering.options import (
    DEFAULT_CONTEXT_TOKENS,
    DEFAULT_K,
    DEFAULT_MAX_TOKENS,
    IMAGE_QUESTION,
    VIDEO_QUESTION,
    AnsweringOptions,
    Question,
    as_media,
    as_question_item,
    check_inputs,
    check_options,
)
from multimodal.pipelines.answering.result import Answer, AnswerPart, Citation
from multimodal.pipelines.answering.safety import load_safety
from multimodal.pipelines.answering.sources import SourceWriter, still

__all__ = ["Answer", "AnsweringPipeline", "Citation"]

EXTRACTIVE_NAMES = ("starter", quoting.NAME)
CHARTS_NAME = "starter-omni"
TIMEOUT_S = 120.0


class AnsweringPipeline(Pipeline):
    """Answers questions about an index: `AnsweringPipeline(index)("How high is the tower?").text`.

    Args:
        index: The index, or None to answer from `context=` alone.
        backend: The language model; None for quotations.
        moderate: A function of a question or draft that returns why it is not allowed, or None.
        captioner: The model that describes images for a language model that takes none.
        transcriber: The model that transcribes spoken questions, and audio for a language model that takes none.
        offline: Whether captioner and transcriber make no network requests.
        min_relevance: For quotations: the relevance of the best source, 0 to 1, below which the question is refused.

    Attributes:
        index: The index, or None.
        backend: The language model, or None.
    """

    task = "answering"

    def __init__(
        self,
        index: Index | None = None,
        backend: AnsweringBackend | None = None,
        *,
        moderate: Any = None,
        captioner: str = "starter",
        transcriber: str = "starter",
        offline: bool = False,
        min_relevance: float = answerability.MIN_RELEVANCE,
    ) -> None:
        if index is not None and not isinstance(index, Index):
            raise InvalidInput(
                f"AnsweringPipeline answers from an Index, got {type(index).__name__}: open one with Index.open(path), "
                'or write multimodal.pipeline("answering", index="notes.lance")'
            )
        if backend is not None and not isinstance(backend, AnsweringBackend):
            raise InvalidInput(
                f"backend must be an answering model, got {type(backend).__name__}: name it in "
                'multimodal.pipeline("answering", model="openai/…", index=…)'
            )
        self.index, self.backend, self.min_relevance = index, backend, min_relevance
        self._moderate, self._captioner, self._transcriber = moderate, captioner, transcriber
        self._offline = offline
        self._pipelines: dict[tuple[str, str], Any] = {}
        self._describing = threading.Lock()

    @classmethod
    def from_pretrained(  # type: ignore[override]  # each task has options of its own
        cls,
        model: str | os.PathLike[str] | Index = "starter",
        *,
        index: Index | str | os.PathLike[str] | None = None,
        space: Space | str | os.PathLike[str] | None = None,
        inputs: Sequence[str] | None = None,
        safety: Any = None,
        captioner: str = "starter",
        transcriber: str = "starter",
        device: str = "auto",
        precision: Precision = "float32",
        offline: bool = False,
        revision: str | None = None,
        timeout_s: float = TIMEOUT_S,
        min_relevance: float = answerability.MIN_RELEVANCE,
    ) -> Self:
        """Opens the pipeline.

        Args:
            model: What answers, by name; see the module. An Index is answered from by quotations.
            index: The index, or its folder. Without one, each call needs `context=`.
            space: As for `Index.open`, if `index` is a folder.
            inputs: The modalities that a remote model takes, such as ["text", "image"]. Default: text and images for
                OpenAI and Anthropic, text alone for other servers; a local model states it itself.
            safety: Moderates questions and drafts: a function, "hf/<owner>/<name>" of a classifier, "openai/<model>"
                or "https://server/v1#<model>" of a moderation endpoint. Default: none.
            captioner: As `pipeline("captioning", model=…)` takes it.
            transcriber: As `pipeline("transcription", model=…)` takes it.
            device: Of a local model, as torch names devices; "auto" is the accelerator if there is one.
            precision: The number format of a local model, see `Runtime`.
            offline: Makes no network requests; a remote model is refused.
            revision: A branch, tag or commit of a local model on the Hub.
            timeout_s: Seconds to wait for a server.
            min_relevance: As for the class.

        Returns:
            The pipeline, ready to call.

        Raises:
            InvalidInput: An address that is not safe to use, or a key that is not in the environment.
            UnknownModel: No model has that name.
            CheckpointError: A checkpoint is damaged, or its model does not chat.
            DownloadError: The download failed.
            MissingExtra: The SDK is not installed; it comes with the extra `answers`.
            IndexStateError: There is no index in the folder.
        """
        if isinstance(model, Index):
            model, index = quoting.NAME, model
        name = os.fspath(model)
        runtime = Runtime(device, precision)
        backend = _backend(name, runtime, check_inputs(inputs), offline, revision, timeout_s)
        moderate = load_safety(safety, runtime, offline=offline, timeout_s=timeout_s)
        opened = Index.open(index, space) if isinstance(index, str | os.PathLike) else index
        return cls(
            opened,
            backend,
            moderate=moderate,
            captioner=captioner,
            transcriber=transcriber,
            offline=offline,
            min_relevance=min_relevance,
        )

    @classmethod
    def _open_adapted(cls, model: Any, adapter: Any, options: dict[str, Any]) -> Self:
        index = model if isinstance(model, Index) else options.get("index")
        space = adapted_space(index, adapter, options)
        return cls.from_pretrained(model, **options | {"space": space})

    def __call__(
        self,
        inputs: Any = None,
        *,
        question: Any = None,
        image: Any = None,
        audio: Any = None,
        context: Any = None,
        k: int = DEFAULT_K,
        modality: str | Iterable[str] | None = None,
        where: Mapping[str, Any] | None = None,
        instructions: str | None = None,
        examples: Sequence[tuple[str, str]] = (),
        context_tokens: int = DEFAULT_CONTEXT_TOKENS,
        max_tokens: int = DEFAULT_MAX_TOKENS,
    ) -> Any:
        """Answers one question, or a list of them.

        Args:
            inputs: A question in words (str), an `Audio` of a spoken question, an `Image` or a `Video`; or a list.
            question: The same, by the name that other libraries use.
            image: An image that belongs to the question, as `Image(…)` takes it.
            audio: A recording that belongs to the question, as `Audio(…)` takes it.
            context: Sources to answer from instead of the index: a text, an item, or a list of these. Without an
                index, the image or recording of the question.
            k: The most sources.
            modality: Only sources of these modalities, as in `Index.search`.
            where: Only sources with this metadata, as in `Index.search`.
            instructions: Added to the instructions of the model. Extractive answers have no use for them.
            examples: Pairs of a question and its answer, for the model to follow.
            context_tokens: The most tokens of the prompt; the lowest sources are left out to stay below it.
            max_tokens: The most tokens of the answer.

        Returns:
            An `Answer`, or a list of them in the order of the questions.

        Raises:
            InvalidInput: An invalid option, or no question.
            UnsupportedModality: The space of the index does not encode the question.
            MediaError: A file that cannot be decoded.
            AnswerError: The model or its server failed.
        """
        options = check_options(k, modality, where, instructions, examples, context_tokens, max_tokens)
        values, is_single = one_or_many(self._given(inputs, question))
        answers = [self._answer(value, image, audio, context, options) for value in values]
        return answers[0] if is_single else answers

    def stream(
        self,
        inputs: Any = None,
        *,
        question: Any = None,
        image: Any = None,
        audio: Any = None,
        context: Any = None,
        k: int = DEFAULT_K,
        modality: str | Iterable[str] | None = None,
        where: Mapping[str, Any] | None = None,
        instructions: str | None = None,
        examples: Sequence[tuple[str, str]] = (),
        context_tokens: int = DEFAULT_CONTEXT_TOKENS,
        max_tokens: int = DEFAULT_MAX_TOKENS,
    ) -> Iterator[AnswerPart]:
        """Answers one question part by part.

        Args:
            inputs: As for the call, a single question.
            question: As for the call.
            image: As for the call.
            audio: As for the call.
            context: As for the call.
            k: As for the call.
            modality: As for the call.
            where: As for the call.
            instructions: As for the call.
            examples: As for the call.
            context_tokens: As for the call.
            max_tokens: As for the call.

        Returns:
            An iterator over the words as they are written. They are unchecked; the last part holds the checked answer.
            With a moderation, the words come when the whole draft is allowed. If a stream is cut, the answer so far
            has `complete=False`.

        Raises:
            InvalidInput: As for the call, or a list of questions.
        """
        options = check_options(k, modality, where, instructions, examples, context_tokens, max_tokens)
        values, is_single = one_or_many(self._given(inputs, question))
        if not is_single:
            raise InvalidInput(
                f"stream answers one question, got {len(values)}: call the pipeline for several"
            )
        return self._parts(values[0], image, audio, context, options, stream=True)

    def to(self, device: str) -> Self:
        """Moves the encoders of the index's space, and a local model, to a device, in place.

        Args:
            device: As torch names it; "auto" is the accelerator, if any.

        Returns:
            The pipeline itself.
        """
        if self.index is not None:
            self.index.space.to(device)
        move = getattr(self.backend, "to", None)
        if move is not None:
            move(Runtime(device).torch_device)
        return self

    def _given(self, inputs: Any, question: Any) -> Any:
        if (inputs is None) == (question is None):
            raise InvalidInput("give one question, as the first argument or as question=")
        return question if inputs is None else inputs

    def _question(self, value: Any, image: Any, audio: Any) -> Question:
        item = as_question_item(value)
        attachments: list[Item] = [] if image is None else [as_media(image, Image)]
        attachments += [] if audio is None else [as_media(audio, Audio)]
        if isinstance(item, Audio):
            return Question(self._transcribe(item), item, tuple(attachments))
        if isinstance(item, Text):
            return Question(item.load(), None, tuple(attachments))
        words = VIDEO_QUESTION if isinstance(item, Video) else IMAGE_QUESTION
        return Question(words, None, (item, *attachments))

    def _transcribe(self, spoken: Audio) -> str:
        words = self._describe("transcription", spoken).strip()
        if not words:
            raise InvalidInput(
                f"no words were recognised in {spoken!r}: give the question as text, or another transcriber="
            )
        return words

    def _describe(self, task: str, item: Item) -> str:
        """Words for an image, a video or audio, by another pipeline, which is loaded when it is first needed.

        One call at a time, while several threads may wait for the answers of a server.
        """
        model = self._transcriber if task == "transcription" else self._captioner
        with self._describing:
            if (task, model) not in self._pipelines:
                self._pipelines[task, model] = pipeline(task, model=model, offline=self._offline)
            text: str = self._pipelines[task, model](still(item)).text
        return text

    def _retrieve(self, question: Question, options: AnsweringOptions, context: Any) -> retrieval.Retrieved:
        if context is not None:
            if options.modality is not None or options.where is not None:
                raise InvalidInput(
                    "modality= and where= select sources of an index, and context= is given instead: leave them out"
                )
            space = None if self.index is None else self.index.space
            return retrieval.from_context(question, context, space, options.k)
        if self.index is None:
            raise InvalidInput(
                'there is nothing to answer from: give index= to multimodal.pipeline("answering", …), or context='
            )
        return retrieval.retrieve(self.index, question, options)

    def _answer(self, value: Any, image: Any, audio: Any, context: Any, options: AnsweringOptions) -> Answer:
        *_, last = self._parts(value, image, audio, context, options, stream=False)
        answer: Answer = last.answer
        return answer

    def _parts(
        self, value: Any, image: Any, audio: Any, context: Any, options: AnsweringOptions, *, stream: bool
    ) -> Iterator[Any]:
        if self.index is None and context is None and (image is not None or audio is not None):
            context = [as_media(image, Image)] if image is not None else []
            context += [as_media(audio, Audio)] if audio is not None else []
            image = audio = None
        question = self._question(value, image, audio)
        retrieved = self._retrieve(question, options, context)
        if self.backend is None:
            answer = quoting.quote(question, retrieved, self.min_relevance, self._moderate)
            return iter([AnswerPart(answer.text, answer)])
        writer = Writer(
            self.backend,
            SourceWriter(
                self.backend.name,
                self.backend.modalities,
                self.backend.reads_special_tokens,
                self._describe,
                retrieved.items,
                self.backend.special_tokens,
            ),
            self._moderate,
        )
        return writer.parts(question, retrieved, options, stream=stream)


def _backend(
    name: str,
    runtime: Runtime,
    modalities: tuple[Modality, ...] | None,
    offline: bool,
    revision: str | None,
    timeout_s: float,
) -> AnsweringBackend | None:
    """The language model of a name; None for quotations."""
    if name in EXTRACTIVE_NAMES:
        return None
    if addresses.is_remote(name):
        remote = addresses.parse_address(name)
        if offline:
            addresses.refuse_offline(remote)
        return _remote_backend(remote, modalities, timeout_s)
    if modalities is not None:
        raise InvalidInput(f"inputs= is for models behind a server, which {name!r} is not; leave it out")
    if name == CHARTS_NAME:
        from multimodal.pipelines.answering.backends.omni_charts import OmniChartBackend

        return OmniChartBackend.load(runtime)
    if name.startswith("hf/"):
        from multimodal.pipelines.answering.backends.hf_chat import load_backend

        return load_backend(name.removeprefix("hf/"), runtime, offline=offline, revision=revision)
    hint = close_matches(name, [*EXTRACTIVE_NAMES, CHARTS_NAME, "openai/", "anthropic/", "hf/"])
    raise UnknownModel(
        f"no answering model is called {name!r}; {hint}write 'extractive', 'openai/<model>', 'anthropic/<model>', "
        f"'hf/<owner>/<name>', or a server and its model as {addresses.EXAMPLE!r}"
    )


def _remote_backend(
    remote: addresses.RemoteModel, modalities: tuple[Modality, ...] | None, timeout_s: float
) -> AnsweringBackend:
    default = (Modality.TEXT, Modality.IMAGE) if remote.is_official else (Modality.TEXT,)
    taken = modalities or default
    if remote.protocol == "anthropic":
        from multimodal.pipelines.answering.backends.anthropic_messages import AnthropicBackend

        if Modality.AUDIO in taken:
            raise InvalidInput(
                f"{remote.name!r} takes no audio; leave it out of inputs=, and it is transcribed"
            )
        return AnthropicBackend(remote, taken, timeout_s)
    from multimodal.pipelines.answering.backends.openai_chat import OpenAIBackend

    return OpenAIBackend(remote, taken, timeout_s)
