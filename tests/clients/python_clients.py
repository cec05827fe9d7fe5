"""Clients of other APIs against a running server, unchanged; one process, since their imports cost the most.

Usage: python python_clients.py BASE_URL IMAGE AUDIO OUTPUT. Writes the versions, and by name what each client returned
or {"error": …}, as JSON.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import json
import os
import sys
import traceback
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

BASE, IMAGE, AUDIO = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
V1 = f"{BASE}/v1"
URI = f"data:image/jpeg;base64,{base64.b64encode(IMAGE.read_bytes()).decode()}"
SOUND = base64.b64encode(AUDIO.read_bytes()).decode()
TEXTS = ["a red apple", "a cat"]
CHECKS: dict[str, Callable[[], Any]] = {}
PACKAGES = {
    "openai": "openai", "langchain": "langchain-openai", "llama_index": "llama-index-embeddings-openai",
    "haystack": "haystack-ai", "litellm": "litellm", "dspy": "dspy", "cohere": "cohere", "voyageai": "voyageai",
    "ollama": "ollama",
}  # fmt: skip


def refuse_network(event: str, args: tuple[Any, ...]) -> None:
    """Telemetry and downloads of a client would reach for other hosts."""
    if event == "socket.connect" and isinstance(args[1], tuple):
        with contextlib.suppress(ValueError):
            if not ipaddress.ip_address(args[1][0]).is_loopback:
                raise ConnectionError(f"a client reached for {args[1][0]}")
    elif event == "socket.getaddrinfo" and args[0] not in ("127.0.0.1", "localhost", None):
        raise ConnectionError(f"a client looked up {args[0]}")


def check(function: Callable[[], Any]) -> Callable[[], Any]:
    CHECKS[function.__name__] = function
    return function


def openai_client() -> Any:
    import openai

    return openai.OpenAI(base_url=V1, api_key="x")


def heard() -> tuple[str, bytes]:
    return "talk.flac", AUDIO.read_bytes()


# --- openai --------------------------------------------------------------------------------------


@check
def openai_embeddings() -> Any:
    return [row.embedding for row in openai_client().embeddings.create(model="starter", input=TEXTS).data]


@check
def openai_embeddings_of_an_image() -> Any:
    answer = openai_client().embeddings.create(model="starter", input=[URI], extra_body={"modality": "image"})
    return answer.data[0].embedding


@check
def openai_models() -> Any:
    return [model.id for model in openai_client().models.list()]


@check
def openai_transcription() -> Any:
    answer = openai_client().audio.transcriptions.create(
        model="starter",
        file=heard(),
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    return {"text": answer.text, "words": [word.word for word in answer.words], "n": len(answer.segments)}


@check
def openai_transcription_stream() -> Any:
    stream = openai_client().audio.transcriptions.create(model="starter", file=heard(), stream=True)
    return [event.type for event in stream]


@check
def openai_image() -> Any:
    answer = openai_client().images.generate(
        model="starter", prompt="a blue heart", extra_body={"seed": 3, "steps": 2}
    )
    return answer.data[0].b64_json


@check
def openai_image_edit() -> Any:
    steps = {"extra_body": {"steps": 2}}
    with IMAGE.open("rb") as first, IMAGE.open("rb") as second:
        both = openai_client().images.edit(model="starter", image=[first, second], prompt="both", **steps)
    with IMAGE.open("rb") as first:
        one = openai_client().images.edit(model="starter", image=first, prompt="a dog", **steps)
    return [both.data[0].b64_json, one.data[0].b64_json]


@check
def openai_chat_stream() -> Any:
    content = [{"type": "input_audio", "input_audio": {"data": SOUND, "format": "wav"}}]
    stream = openai_client().chat.completions.create(
        model="starter", messages=[{"role": "user", "content": content}], stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    return {"text": text, "tokens": chunks[-1].usage.completion_tokens}


@check
def openai_response() -> Any:
    content = [{"type": "input_image", "image_url": URI}]
    asked: Any = {"model": "starter", "input": [{"role": "user", "content": content}]}
    streamed = [event.type for event in openai_client().responses.create(stream=True, **asked)]
    return {"text": openai_client().responses.create(**asked).output_text, "events": streamed}


# --- frameworks ----------------------------------------------------------------------------------


@check
def langchain_embeddings() -> Any:
    from langchain_openai import OpenAIEmbeddings

    return OpenAIEmbeddings(
        model="starter", base_url=V1, api_key="x", check_embedding_ctx_length=False
    ).embed_documents(TEXTS)


@check
def langchain_with_token_ids() -> Any:
    import litellm
    from langchain_openai import OpenAIEmbeddings

    # The table of tokens that it would download; litellm carries the file
    os.environ["TIKTOKEN_CACHE_DIR"] = str(
        Path(litellm.__file__).parent / "litellm_core_utils" / "tokenizers"
    )
    try:
        OpenAIEmbeddings(model="starter", base_url=V1, api_key="x").embed_query("a red apple")
    except Exception as error:
        return str(error)
    return "no error"


@check
def langchain_chat() -> Any:
    from langchain_openai import ChatOpenAI

    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": URI}}]
    return (
        ChatOpenAI(model="starter", base_url=V1, api_key="x")
        .invoke([{"role": "user", "content": content}])
        .content
    )


@check
def llama_index_embeddings() -> Any:
    from llama_index.embeddings.openai import OpenAIEmbedding

    embedding = OpenAIEmbedding(model_name="starter", api_base=V1, api_key="x")
    return embedding.get_text_embedding_batch(TEXTS)


@check
def haystack_embeddings() -> Any:
    from haystack import Document
    from haystack.components.embedders import OpenAIDocumentEmbedder
    from haystack.utils import Secret

    embedder = OpenAIDocumentEmbedder(
        api_key=Secret.from_token("x"), model="starter", api_base_url=V1, progress_bar=False
    )
    return [
        document.embedding
        for document in embedder.run([Document(content=text) for text in TEXTS])["documents"]
    ]


@check
def litellm_embeddings() -> Any:
    import litellm

    named = litellm.embedding(model="openai/starter", input=TEXTS, api_base=V1, api_key="x")
    infinity = litellm.embedding(model="infinity/starter", input=TEXTS, api_base=BASE, api_key="x")
    return [[row["embedding"] for row in answer.data] for answer in (named, infinity)]


@check
def litellm_rerank() -> Any:
    import litellm

    answer = litellm.rerank(
        model="infinity/starter", query="a cat", documents=["a kitten", "a ship"], api_base=BASE, api_key="x"
    )
    return [result["index"] for result in answer.results]


@check
def litellm_chat() -> Any:
    import litellm

    content = [{"type": "image_url", "image_url": {"url": URI}}]
    answer = litellm.completion(
        model="openai/starter", messages=[{"role": "user", "content": content}], api_base=V1, api_key="x"
    )
    return answer.choices[0].message.content


@check
def litellm_transcription() -> Any:
    import litellm

    return litellm.transcription(model="openai/starter", file=heard(), api_base=V1, api_key="x").text


@check
def litellm_image() -> Any:
    import litellm

    answer = litellm.image_generation(model="openai/starter", prompt="a cat", api_base=V1, api_key="x")
    return answer.data[0].b64_json


@check
def dspy_embeddings() -> Any:
    import dspy

    return dspy.Embedder("openai/starter", api_base=V1, api_key="x", caching=False)(TEXTS).tolist()


# --- other APIs ----------------------------------------------------------------------------------


@check
def cohere_embeddings() -> Any:
    import cohere

    client = cohere.ClientV2(api_key="x", base_url=BASE)
    images = client.embed(model="starter", images=[URI], input_type="image", embedding_types=["float"])
    parts = [{"type": "text", "text": TEXTS[0]}, {"type": "image_url", "image_url": {"url": URI}}]
    fused = client.embed(
        model="starter", inputs=[{"content": parts}], input_type="search_document", embedding_types=["float"],
        output_dimension=256,
    )  # fmt: skip
    texts = client.embed(
        model="starter", texts=TEXTS, input_type="search_document", embedding_types=["float"]
    )
    return {"image": images.embeddings.float_[0], "fused": fused.embeddings.float_[0],
            "texts": texts.embeddings.float_}  # fmt: skip


@check
def cohere_rerank() -> Any:
    import cohere

    client = cohere.ClientV2(api_key="x", base_url=BASE)
    answer = client.rerank(model="starter", query="a cat", documents=["a ship", "a kitten"], top_n=1)
    return [result.index for result in answer.results]


@check
def voyageai_embeddings() -> Any:
    import PIL.Image
    import voyageai

    client = voyageai.Client(api_key="x", base_url=V1)
    with PIL.Image.open(IMAGE) as image:
        fused = client.multimodal_embed(
            [[TEXTS[0], image]], model="starter", input_type="document"
        ).embeddings[0]
    return {"fused": fused, "texts": client.embed(TEXTS, model="starter", input_type="document").embeddings}


@check
def ollama_embeddings() -> Any:
    import ollama

    return ollama.Client(host=BASE).embed(model="starter", input=TEXTS).embeddings


@check
def ollama_models() -> Any:
    import ollama

    return [model.model for model in ollama.Client(host=BASE).list().models]


def main() -> None:
    sys.addaudithook(refuse_network)
    results: dict[str, Any] = {}
    for name, function in CHECKS.items():
        try:
            results[name] = function()
        except Exception:
            results[name] = {"error": traceback.format_exc()}
    versions = {name: metadata.version(package) for name, package in PACKAGES.items()}
    Path(sys.argv[4]).write_text(json.dumps({"results": results, "versions": versions}), encoding="utf-8")


if __name__ == "__main__":
    main()
