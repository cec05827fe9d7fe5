"""/v1/embeddings in the shapes of its clients."""

from __future__ import annotations

import base64
import copy
import dataclasses
from collections.abc import Callable

import numpy as np

import multimodal as mm
from multimodal.server.config import ServerConfig
from tests.server.conftest import GALLERY, Api, running

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


def test_vectors_are_cut_to_lengths_that_the_card_of_the_model_allows(starter: mm.Space) -> None:
    nested = copy.copy(starter)
    assert starter.card is not None
    nested.card = dataclasses.replace(starter.card, matryoshka=(128, 64))
    short = starter.encode("a cat")[:64]
    short /= np.linalg.norm(short)
    with running(ServerConfig(spaces=("starter",), port=0, preloaded={"starter": nested})) as api:
        requests = [
            ("/v1/embeddings", {"input": "a cat", "dimensions": 64}),
            ("/v2/embed", {"texts": ["a cat"], "output_dimension": 64}),
            ("/api/embed", {"input": "a cat", "dimensions": 64}),
            ("/v1/multimodalembeddings", {"inputs": [{"content": [{"type": "text", "text": "a cat"}]}],
                                          "output_dimension": 64}),
        ]  # fmt: skip
        for path, body in requests:
            answer = api.post(path, body).json()
            rows = answer.get("embeddings") or vectors(answer)
            assert np.allclose(rows["float"] if isinstance(rows, dict) else rows, [short], atol=CLOSE), path
        assert api.get("/v1/models/starter").json()["matryoshka"] == [64, 128]
        refused = api.post("/v1/embeddings", {"input": "a cat", "dimensions": 32})
        assert (refused.status, "64 to 256" in refused.error["message"]) == (400, True)
