"""The model and the index of a running server, used as a Space and an Index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlencode

from multimodal.client import payload, tasks
from multimodal.client.transport import Transport
from multimodal.core.classification.result import Classification, LabelScore
from multimodal.core.items import as_item
from multimodal.core.media.inputs import as_list
from multimodal.core.modality import Modality
from multimodal.index.results import Hits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.pipelines.answering.result import Answer
    from multimodal.pipelines.captioning.options import Caption
    from multimodal.pipelines.generation.result import Generation
    from multimodal.pipelines.transcription.result import Transcription

MAX_TEXTS, MAX_MEDIA = 512, 32  # of one request
MAX_CHARS = 24 << 20  # of the media of one request, as base64; servers take 32 MiB
PAGE = 500  # items listed by one request


def connect(url: str, api_key: str | None = None, *, timeout: float = 60.0) -> Client:
    """Connects to a running `multimodal serve`. Nothing is loaded here, and no torch imported.

    Args:
        url: The address that the server printed, such as "http://127.0.0.1:7997".
        api_key: A key, if the server asks for one.
        timeout: Seconds to wait for an answer.

    Returns:
        A client, with the server's default model as `.space` and its default index as `.index`.

    Raises:
        InvalidInput: The URL is not one of http or https.
        ServerError: The server cannot be reached, or refuses the key.
    """
    return Client(Transport(url, api_key, timeout))


class Client:
    """A connection to a server. Use `connect` to get one.

    Attributes:
        url: Of the server.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.url = transport.url
        self._models: list[dict[str, Any]] = transport.get("/v1/models")["data"]

    @property
    def models(self) -> list[str]:
        """The names of its models and their aliases; the first is the default."""
        return [model["id"] for model in self._models if model.get("dim")]

    @property
    def indexes(self) -> list[str]:
        """The names of its indexes; the first is the default."""
        prefix = "index:"
        return [model["id"].removeprefix(prefix) for model in self._models if model["id"].startswith(prefix)]

    @property
    def space(self) -> RemoteSpace:
        """Its default model."""
        return self.get_space()

    @property
    def index(self) -> RemoteIndex:
        """Its default index."""
        return self.get_index()

    def get_space(self, name: str | None = None) -> RemoteSpace:
        """One of its models.

        Args:
            name: A name of `models`; None for the default.

        Returns:
            The model, as a Space.

        Raises:
            UnknownModel: The server has no such model.
        """
        chosen = self.models[0] if name is None else name
        return RemoteSpace(self._transport, self._transport.get(f"/v1/models/{quote(chosen, safe='')}"))

    def get_index(self, name: str | None = None) -> RemoteIndex:
        """One of its indexes.

        Args:
            name: A name of `indexes`; None for the default.

        Returns:
            The index.

        Raises:
            IndexStateError: The server has no such index.
        """
        index = RemoteIndex(self._transport, name)
        index.name = index.info()["name"]
        return index

    def classify(
        self, inputs: Sequence[object], labels: Sequence[str], **options: Any
    ) -> list[Classification]:
        """Zero-shot classification.

        Args:
            inputs: Items, as `Space.encode` takes them.
            labels: Candidate labels.
            **options: `model`, `templates`, `multi_label`, `top_k`.

        Returns:
            The labels of each input with their probabilities, the most probable first.
        """
        content = {"input": [payload.as_input(value) for value in inputs], "labels": list(labels)}
        answer = self._transport.post("/v1/classify", content | options)
        return [Classification(tuple(LabelScore(**score) for score in scores)) for scores in answer["data"]]

    def caption(self, value: object, **options: Any) -> str:
        """A caption of an image, an audio or a video.

        Args:
            value: The item.
            **options: Of /v1/chat/completions, such as `model`, `max_tokens`, `temperature`.

        Returns:
            The caption.

        Raises:
            InvalidInput: A text.
        """
        return tasks.caption(self._transport, value, options).text

    def describe(self, value: object, **options: Any) -> Caption:
        """As `caption`, with its score and whether it is complete.

        Args:
            value: The item.
            **options: As of `caption`, and `prompt`, a question about the item.

        Returns:
            The caption, as `CaptioningPipeline` returns it.
        """
        return tasks.caption(self._transport, value, options)

    def transcription(self, value: object, **options: Any) -> Transcription:
        """As `transcribe`, with the type that `TranscriptionPipeline` returns.

        Args:
            value: A Path, or an item.
            **options: As of `transcribe`, and `words`, True for the times of each word.

        Returns:
            The transcript.
        """
        return tasks.transcription(self._transport, value, **options)

    def transcribe(self, value: object, **options: Any) -> dict[str, Any]:
        """The words of an audio or a video.

        Args:
            value: A Path, or an item. As for `TranscriptionPipeline`, a str is a path here.
            **options: Of /v1/audio/transcriptions, such as `model`, `language`.

        Returns:
            {"text", "language", "duration", "segments"}.
        """
        return tasks.transcript(self._transport, value, options)

    def generate(self, prompt: str | None = None, **options: Any) -> Generation:
        """Draws an image.

        Args:
            prompt: The prompt; None with `source`.
            **options: `source`, an image or audio whose vector is drawn instead of a prompt; `image`, an initial image;
                and those of /v1/images/generations, such as `model`, `seed`, `guidance`, `steps`, `size`.

        Returns:
            The image, as `GenerationPipeline` returns it.

        Raises:
            InvalidInput: Neither a prompt nor a source, or the server refuses an option.
        """
        return tasks.generation(self._transport, prompt, options)

    def ask(self, question: object, index: str | None = None, **options: Any) -> Answer:
        """Answers a question from an index of the server, by its answering model.

        Args:
            question: In words, or an Audio.
            index: A name of `indexes`; None for the default.
            **options: `image`, `audio`, `instructions`, `k`, `modality`, `where`, `context_tokens` and `max_tokens`, as
                of `AnsweringPipeline`.

        Returns:
            The answer with its checked citations, as `AnsweringPipeline` returns it.
        """
        return tasks.answer(self._transport, question, index, options)

    def close(self) -> None:
        """Closes its connections. A client is also a context manager that does so."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.url!r}, models={self.models}, indexes={self.indexes})"


class RemoteSpace:
    """A model of a server, used as a Space.

    Attributes:
        name: What the server calls it.
        dim: The length of its vectors.
        modalities: The modalities it encodes.
        fingerprint: Of its weights and preprocessing, as `Space.fingerprint`.
    """

    def __init__(self, transport: Transport, about: Mapping[str, Any], role: str | None = None) -> None:
        self._transport, self._about, self._role = transport, about, role
        self.name: str = about["id"]
        self.dim: int = about["dim"]
        self.modalities = tuple(map(Modality, about["modalities"]))
        self.fingerprint: str = about["fingerprint"]

    @property
    def query_space(self) -> RemoteSpace:
        """The same model, encoding queries; see `Space.query_space`."""
        return RemoteSpace(self._transport, self._about, "query")

    def encode(self, items: object) -> NDArray[np.float32]:
        """Encodes items of any of its modalities; files are sent to the server.

        Args:
            items: As of `Space.encode`.

        Returns:
            float32 rows of length one: (dim,) for one item, (n, dim) for a list.

        Raises:
            InvalidInput: A value that is no item, or that the server refuses.
            MediaError: A file that does not exist.
            ServerError: The server cannot be reached.
        """
        listed = as_list(items)
        values = [items] if listed is None else listed
        encoded: list[str] = []
        for batch in _batches([payload.as_input(as_item(value)) for value in values]):
            content = {
                "model": self.name,
                "input": batch,
                "encoding_format": "base64",
                "input_type": self._role,
            }
            answer = self._transport.post("/v1/embeddings", content)
            encoded += [row["embedding"] for row in answer["data"]]
        rows = payload.vectors_of(encoded, self.dim)
        return rows[0] if listed is None else rows

    def __repr__(self) -> str:
        return f"RemoteSpace({self.name!r} at {self._transport.url}, {' + '.join(self.modalities)}, dim={self.dim})"


class RemoteIndex:
    """An index of a server, used as an Index.

    Attributes:
        name: What the server calls it; None for its default.
    """

    def __init__(self, transport: Transport, name: str | None = None) -> None:
        self._transport, self.name = transport, name

    def search(self, query: object = None, k: int = 10, **options: Any) -> Hits | list[Hits]:
        """Finds the k items that match a query best; see `Index.search`.

        Args:
            query: As of `Index.search`; files are sent to the server.
            k: Number of hits.
            **options: As of `Index.search`.

        Returns:
            Hits, best first; for a list of queries, a list of Hits.

        Raises:
            InvalidInput: The server refuses an argument.
            ServerError: The server cannot be reached.
        """
        if payload.is_list_of_queries(query):
            return [self._search(one, k, options) for one in query]  # type: ignore[attr-defined]
        return self._search(query, k, options)

    def _search(self, query: object, k: int, options: Mapping[str, Any]) -> Hits:
        content = {"index": self.name, "parts": payload.as_parts(query), "k": k} | dict(options)
        answer = self._transport.post(
            "/v1/search", {key: value for key, value in content.items() if value is not None}
        )
        return Hits(map(payload.hit, answer["hits"]), answer["method"], answer["note"])

    def rows(
        self,
        *,
        ids: Sequence[str] | None = None,
        modality: str | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """The stored items, page by page; see `Index.rows`.

        Args:
            ids: Only these.
            modality: Only this modality.
            where: A filter by metadata.

        Yields:
            Rows with the keys of `Index.rows`, and the paths of their thumbnail and media as "links".
        """
        offset = 0
        while True:
            page = self._page(offset, PAGE, ids=ids, modality=modality, where=where)
            yield from page["data"]
            offset += len(page["data"])
            if not page["data"] or offset >= page["total"]:
                return

    def info(self) -> dict[str, Any]:
        """What the server says of the index.

        Returns:
            {"name", "items"}.
        """
        page = self._page(0, 1)
        return {"name": page["index"], "items": page["total"]}

    def __len__(self) -> int:
        return int(self.info()["items"])

    def __bool__(self) -> bool:
        """True even if the index is empty."""
        return True

    def _page(self, offset: int, limit: int, **filters: Any) -> dict[str, Any]:
        import json

        query: dict[str, Any] = {
            "offset": offset,
            "limit": limit,
            "index": self.name,
            "modality": filters.get("modality"),
        }
        for name in ("ids", "where"):
            value = filters.get(name)
            query[name] = None if value is None else json.dumps(value if name == "where" else list(value))
        given = {key: value for key, value in query.items() if value is not None}
        page: dict[str, Any] = self._transport.get(f"/v1/items?{urlencode(given)}")
        return page

    def __repr__(self) -> str:
        return f"RemoteIndex({self.name!r} at {self._transport.url})"


def _batches(inputs: list[dict[str, str]]) -> Iterator[list[dict[str, str]]]:
    """Inputs in order, in groups that one request may hold."""
    batch: list[dict[str, str]] = []
    n_media = n_chars = 0
    for element in inputs:
        size = sum(map(len, element.values()))
        is_media = "text" not in element
        if batch and (
            len(batch) == MAX_TEXTS or n_media + is_media > MAX_MEDIA or n_chars + size > MAX_CHARS
        ):
            yield batch
            batch, n_media, n_chars = [], 0, 0
        batch.append(element)
        n_media, n_chars = n_media + is_media, n_chars + size
    if batch:
        yield batch
