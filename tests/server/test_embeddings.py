"""/v1/embeddings in the shapes of its clients."""

from __future__ import annotations

import base64
from collections.abc import Callable

import numpy as np

import multimodal as mm
from tests.server.conftest import GALLERY, Api

CLOSE = 1e-5


def vectors(reply: dict[str, object]) -> np.ndarray:
    return np.array([row["embedding"] for row in reply["data"]], np.float32)  # type: ignore[attr-defined]


def test_texts_get_the_vectors_of_the_space(server: Api, starter: mm.Space) -> None:
    texts = ["a red apple", "two dogs on a beach", "x"]
    answer = server.post("/v1/embeddings", {"model": "starter", "input": texts}).json()
    assert np.allclose(vectors(answer), starter.encode(texts), atol=CLOSE)
    assert [row["index"] for row in answer["data"]] == [0, 1, 2]


def test_one_request_mixes_modalities_in_its_order(
    server: Api, starter: mm.Space, data_uri: Callable[..., str]
) -> None:
    apple, cat = "pictures/red-apple.jpg", "sounds/cat.flac"
    inputs = [
        {"image": data_uri(apple)},
        {"text": "a cat"},
        {"audio": data_uri(cat)},
        {"image": data_uri(apple)},
    ]
    answer = server.post("/v1/embeddings", {"input": inputs}).json()
    expected = starter.encode(
        [mm.Image(GALLERY / apple), "a cat", mm.Audio(GALLERY / cat), mm.Image(GALLERY / apple)]
    )
    assert np.allclose(vectors(answer), expected, atol=CLOSE)


def test_base64_holds_the_same_numbers(server: Api) -> None:
    floats = vectors(server.post("/embeddings", {"input": "a bee"}).json())[0]
    text = server.post("/v1/embeddings", {"input": "a bee", "encoding_format": "base64"}).json()["data"][0][
        "embedding"
    ]
    assert np.allclose(np.frombuffer(base64.b64decode(text), "<f4"), floats, atol=CLOSE)


def test_token_ids_are_refused_with_the_cure(server: Api) -> None:
    for tokens in ([[64, 2579, 24149]], [64, 2579]):
        reply = server.post("/v1/embeddings", {"input": tokens, "encoding_format": "base64"})
        assert reply.status == 400
        assert "check_embedding_ctx_length=False" in reply.error["message"]
