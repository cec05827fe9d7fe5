"""Clients that people have already, unchanged, against the running server: what they return is what the space gives.

All Python clients run in one process, and all of npm in one of node. Those of npm are installed into a cache folder by
the test itself; without node or the registry they are skipped, except where CI=true.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from filelock import FileLock

import multimodal as mm
from tests.server.conftest import GALLERY, Api, gallery, server, starter

__all__ = ["gallery", "server", "starter"]  # fixtures

HERE = Path(__file__).parent
IMAGE, AUDIO = GALLERY / "pictures" / "cat-at-home.jpg", GALLERY / "sounds" / "pizza.flac"
TEXTS = ["a red apple", "a cat"]
CLOSE = 1e-5
INSTALL_S, RUN_S = 180, 280
IN_CI = os.environ.get("CI") == "true"
# Clients that would otherwise download tables or report their use; the script refuses other hosts too
QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True", "HAYSTACK_TELEMETRY_ENABLED": "False", "DO_NOT_TRACK": "1",
    "AI_SDK_LOG_WARNINGS": "false", "NO_PROXY": "*",
}  # fmt: skip
PYTHON = (
    "cohere",
    "dspy",
    "haystack",
    "langchain_openai",
    "litellm",
    "llama_index",
    "ollama",
    "openai",
    "voyageai",
)
Results = dict[str, Any]


def run(command: list[str], server: Api, output: Path, **environment: str) -> Results:
    """What a script of clients wrote: {name: value, or {"error": …}}."""
    folder = output.parent
    more = QUIET | {"DSPY_CACHEDIR": str(folder / "dspy"), "HOME": str(folder)} | environment
    subprocess.run(
        [*command, server.url, str(IMAGE), str(AUDIO), str(output)],
        env=os.environ | more, cwd=folder, check=True, timeout=RUN_S, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    results: Results = json.loads(output.read_text(encoding="utf-8"))["results"]
    return results


@pytest.fixture(scope="module")
def python(server: Api, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What the clients of Python returned."""
    missing = [name for name in PYTHON if importlib.util.find_spec(name) is None]
    if missing:
        _unavailable(f"the extra clients is not installed: {', '.join(missing)}")
    output = tmp_path_factory.mktemp("python") / "results.json"
    return run([sys.executable, "-W", "ignore", str(HERE / "python_clients.py")], server, output)


@pytest.fixture(scope="module")
def javascript(server: Api, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What the clients of npm returned."""
    output = tmp_path_factory.mktemp("javascript") / "results.json"
    folder = _packages()
    return run(["node", str(HERE / "javascript_clients.mjs")], server, output, CLIENTS_FOLDER=str(folder))


def _packages() -> Path:
    """The folder with the packages of npm, installed once for each package.json. Skips where that cannot be."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "multimodal-test-clients"
    content = (HERE / "package.json").read_bytes()
    folder = cache / hashlib.sha256(content).hexdigest()[:16]
    if not shutil.which("node") or not shutil.which("npm"):
        _unavailable("node and npm are not installed")
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{folder.name}.lock"):
        if (folder / "done").exists():
            return folder
        (folder / "package.json").write_bytes(content)
        command = ["npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"]
        try:
            subprocess.run(command, cwd=folder, check=True, timeout=INSTALL_S, capture_output=True)
        except (subprocess.SubprocessError, OSError) as error:
            _unavailable(f"npm cannot install the clients: {error}")
        (folder / "done").touch()
    return folder


def _unavailable(reason: str) -> None:
    if IN_CI:
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def expected(starter: mm.Space) -> dict[str, np.ndarray]:
    """The vectors of the texts, of the image, and of the first text and the image as one."""
    texts, image = starter.encode(TEXTS), starter.encode(mm.Image(IMAGE))
    both = texts[0] + image
    return {"texts": texts, "image": image, "fused": both / np.linalg.norm(both)}


def value_of(results: Results, name: str) -> Any:
    value = results[name]
    if isinstance(value, dict) and "error" in value:
        pytest.fail(value["error"])
    return value


def is_image(b64: str) -> bool:
    with PIL.Image.open(io.BytesIO(base64.b64decode(b64))) as image:
        return image.size == (64, 64)


# --- Python --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["openai_embeddings", "langchain_embeddings", "llama_index_embeddings", "haystack_embeddings", "dspy_embeddings",
     "ollama_embeddings"],
)  # fmt: skip
def test_a_client_gets_the_vectors_of_texts(
    python: Results, expected: dict[str, np.ndarray], name: str
) -> None:
    assert np.allclose(value_of(python, name), expected["texts"], atol=CLOSE)


def test_litellm_gets_the_vectors_by_openais_and_by_infinitys_paths(
    python: Results, expected: dict[str, np.ndarray]
) -> None:
    for rows in value_of(python, "litellm_embeddings"):
        assert np.allclose(rows, expected["texts"], atol=CLOSE)


def test_openai_gets_the_vector_of_an_image(python: Results, expected: dict[str, np.ndarray]) -> None:
    assert np.allclose(value_of(python, "openai_embeddings_of_an_image"), expected["image"], atol=CLOSE)


@pytest.mark.parametrize("part", ["texts", "image", "fused"])
def test_cohere_gets_vectors_of_texts_images_and_both(
    python: Results, expected: dict[str, np.ndarray], part: str
) -> None:
    assert np.allclose(value_of(python, "cohere_embeddings")[part], expected[part], atol=CLOSE)


def test_voyageai_gets_vectors_of_texts_and_of_a_text_with_an_image(
    python: Results, expected: dict[str, np.ndarray]
) -> None:
    given = value_of(python, "voyageai_embeddings")
    assert np.allclose(given["texts"], expected["texts"], atol=CLOSE)
    assert (
        float(np.dot(given["fused"], expected["fused"])) > 0.98
    )  # it sends the image as WebP, which is lossy


def test_the_models_are_listed(python: Results) -> None:
    assert value_of(python, "openai_models")[:2] == ["starter", "text-embedding-3-small"]
    assert value_of(python, "ollama_models")[0] == "starter:latest"


@pytest.mark.parametrize(("name", "order"), [("cohere_rerank", [1]), ("litellm_rerank", [0, 1])])
def test_a_client_orders_documents(python: Results, name: str, order: list[int]) -> None:
    assert value_of(python, name) == order


def test_langchain_is_told_how_to_send_text_instead_of_token_ids(python: Results) -> None:
    assert "check_embedding_ctx_length=False" in value_of(python, "langchain_with_token_ids")


def test_a_client_transcribes(python: Results) -> None:
    assert value_of(python, "openai_transcription") == {"text": "pizza", "words": ["pizza"], "n": 1}
    assert value_of(python, "litellm_transcription") == "pizza"
    assert value_of(python, "openai_transcription_stream") == [
        "transcript.text.delta",
        "transcript.text.done",
    ]


def test_a_client_draws(python: Results) -> None:
    images = [
        *value_of(python, "openai_image_edit"),
        *(value_of(python, n) for n in ("openai_image", "litellm_image")),
    ]
    assert len(set(images)) == 4
    assert all(map(is_image, images))


def test_a_client_has_images_and_sounds_described(python: Results) -> None:
    assert value_of(python, "langchain_chat") == value_of(python, "litellm_chat") == "cat"
    assert value_of(python, "openai_chat_stream") == {"text": "pizza", "tokens": 1}
    response = value_of(python, "openai_response")
    assert (response["text"], response["events"][-1]) == ("cat", "response.completed")


# --- JavaScript ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["openai_js_embeddings", "ai_sdk_embeddings"])
def test_a_client_of_npm_gets_the_vectors_of_texts(
    javascript: Results, expected: dict[str, np.ndarray], name: str
) -> None:
    assert np.allclose(value_of(javascript, name), expected["texts"], atol=CLOSE)


@pytest.mark.parametrize(
    "name", ["openai_js_chat", "openai_js_response", "ai_sdk_chat", "ai_sdk_response", "ai_sdk_stream"]
)
def test_a_client_of_npm_has_an_image_described(javascript: Results, name: str) -> None:
    assert value_of(javascript, name) == "cat"


@pytest.mark.parametrize("name", ["openai_js_transcription", "ai_sdk_transcription"])
def test_a_client_of_npm_transcribes(javascript: Results, name: str) -> None:
    assert value_of(javascript, name) == "pizza"


@pytest.mark.parametrize("name", ["openai_js_image", "ai_sdk_image"])
def test_a_client_of_npm_draws(javascript: Results, name: str) -> None:
    assert is_image(value_of(javascript, name))


def test_every_client_is_checked(python: Results, javascript: Results) -> None:
    """A result that no test reads would be a client that nothing checks."""
    read = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in (*python, *javascript) if f'"{name}"' not in read] == []
