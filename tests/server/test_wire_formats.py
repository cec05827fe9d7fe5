"""Bodies of Cohere, Voyage, Ollama, Infinity and vLLM, and the answers that their clients read."""

from __future__ import annotations

import base64
from collections.abc import Callable

import numpy as np

import multimodal as mm
from tests.server.conftest import GALLERY, Api

CLOSE = 1e-5
APPLE, CAT = "pictures/red-apple.jpg", "sounds/cat.flac"


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_cohere_gets_types_by_name_and_fuses_the_parts_of_an_input(
    server: Api, starter: mm.Space, data_uri: Callable[..., str]
) -> None:
    texts = ["a red apple", "a cat"]
    answer = server.post("/v2/embed", {"model": "starter", "texts": texts, "input_type": "search_query",
                                       "embedding_types": ["float", "base64", "ubinary", "binary"]}).json()  # fmt: skip
    expected = starter.encode(texts)
    given = answer["embeddings"]
    assert np.allclose(given["float"], expected, atol=CLOSE)
    assert np.allclose(np.frombuffer(base64.b64decode(given["base64"][1]), "<f4"), expected[1], atol=CLOSE)
    assert (np.array(given["ubinary"]) == np.packbits(expected > 0, axis=1)).all()
    assert (np.array(given["binary"]) + 128 == given["ubinary"]).all()
    uri = data_uri(APPLE)
    parts = [{"type": "text", "text": "fruit"}, {"type": "image_url", "image_url": {"url": uri}}]
    fused = server.post("/v2/embed", {"inputs": [{"content": parts}], "output_dimension": starter.dim}).json()
    both = starter.encode(["fruit", mm.Image(GALLERY / APPLE)])
    assert np.allclose(fused["embeddings"]["float"][0], unit(both.mean(axis=0)), atol=CLOSE)
    images = server.post("/v2/embed", {"images": [uri], "input_type": "image"}).json()
    assert np.allclose(images["embeddings"]["float"][0], both[1], atol=CLOSE)
    assert images["meta"]["billed_units"]["images"] == 1


def test_voyage_reads_video_pixels_and_tolerates_null(
    server: Api, starter: mm.Space, data_uri: Callable[..., str]
) -> None:
    content = [{"type": "text", "text": "a cat"}, {"type": "image_base64", "image_base64": data_uri(APPLE)}]
    body = {
        "inputs": [{"content": content}],
        "model": "starter",
        "output_dimension": None,
        "input_type": None,
    }
    answer = server.post("/v1/multimodalembeddings", body).json()
    assert answer["usage"]["video_pixels"] == 0
    assert answer["usage"]["image_pixels"] > 0
    expected = unit(starter.encode(["a cat", mm.Image(GALLERY / APPLE)]).mean(axis=0))
    assert np.allclose(answer["data"][0]["embedding"], expected, atol=CLOSE)


def test_ollama_gets_lists_of_numbers(server: Api, starter: mm.Space) -> None:
    answer = server.post("/api/embed", {"model": "starter:latest", "input": ["a", "b"]}).json()
    assert np.allclose(answer["embeddings"], starter.encode(["a", "b"]), atol=CLOSE)
    one = server.post("/api/embeddings", {"model": "starter", "prompt": "a"}).json()
    assert np.allclose(one["embedding"], starter.encode("a"), atol=CLOSE)
    assert server.get("/api/tags").json()["models"][0]["name"] == "starter:latest"


def test_infinity_and_vllm_send_media_their_way(
    server: Api, starter: mm.Space, data_uri: Callable[..., str]
) -> None:
    sound = starter.encode(mm.Audio(GALLERY / CAT))
    by_modality = server.post("/embeddings", {"input": [data_uri(CAT)], "modality": "audio"}).json()
    assert np.allclose(by_modality["data"][0]["embedding"], sound, atol=CLOSE)
    raw = data_uri(CAT).partition(",")[2]
    message = {
        "role": "user",
        "content": [{"type": "input_audio", "input_audio": {"data": raw, "format": "flac"}}],
    }
    by_message = server.post("/v1/embeddings", {"messages": [message], "model": "starter"}).json()
    assert np.allclose(by_message["data"][0]["embedding"], sound, atol=CLOSE)


def test_a_data_uri_is_never_embedded_as_text(server: Api, data_uri: Callable[..., str]) -> None:
    assert "modality" in server.post("/v1/embeddings", {"input": data_uri(APPLE)}).error["message"]


def test_reranking_orders_documents_of_any_modality(
    server: Api, starter: mm.Space, data_uri: Callable[..., str]
) -> None:
    documents = ["a car", {"image": data_uri(APPLE)}, {"text": "a red apple"}]
    body = {
        "query": "an apple",
        "documents": documents,
        "top_n": 2,
        "return_documents": True,
        "model": "starter",
    }
    answer = server.post("/v2/rerank", body).json()
    assert [result["index"] for result in answer["results"]] == [2, 1]
    assert answer["results"][0]["document"] == {"text": "a red apple"}
    cosine = starter.similarity("an apple", "a red apple")[0, 0]
    assert abs(answer["results"][0]["relevance_score"] - (1 + cosine) / 2) < CLOSE
    assert server.post("/rerank", body).json()["data"] == answer["results"]  # where Voyage looks


def test_classification_is_that_of_the_pipeline(
    server: Api, starter: mm.Space, data_uri: Callable[..., str]
) -> None:
    labels = ["apple", "cat", "car"]
    inputs = [{"image": data_uri(APPLE)}, {"audio": data_uri(CAT)}, "a fast red car"]
    answer = server.post("/classify", {"input": inputs, "labels": labels}).json()
    classify = mm.pipeline("zero-shot-classification", model=starter)
    expected = classify(
        [mm.Image(GALLERY / APPLE), mm.Audio(GALLERY / CAT), mm.Text("a fast red car")], labels=labels
    )
    for given, own in zip(answer["data"], expected, strict=True):
        assert [row["label"] for row in given] == [row.label for row in own]
        assert np.allclose([row["score"] for row in given], [row.score for row in own], atol=1e-4)


def test_models_are_listed_with_their_aliases(server: Api, starter: mm.Space) -> None:
    listed = server.get("/v1/models").json()["data"]
    assert [model["id"] for model in listed][:2] == ["starter", "text-embedding-3-small"]
    assert listed[0]["dim"] == starter.dim
    assert listed[0]["fingerprint"] == starter.fingerprint
    assert server.get("/models/text-embedding-3-small").json()["modalities"] == ["text", "image", "audio"]
    reply = server.post("/v1/embeddings", {"model": "startr", "input": "a"})
    assert (reply.status, reply.error["code"]) == (404, "model_not_found")
    assert "did you mean 'starter'" in reply.error["message"]
