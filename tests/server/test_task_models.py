"""Models of other people behind the endpoints of tasks: a Whisper and a vision language model, tiny, as checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import multimodal as mm
from multimodal.server.config import ServerConfig
from tests.pipelines.captioning import captioners
from tests.pipelines.transcription import transcription_models
from tests.server.conftest import GALLERY, Api, running
from tests.server.test_tasks import events, form

WHISPER, EYES = "hf/./tiny-whisper", "hf/./tiny-llava"
SPOKEN = GALLERY / "sounds" / "pizza.flac"
CAT = GALLERY / "pictures" / "cat-at-home.jpg"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, starter: mm.Space) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("checkpoints")
    transcription_models.whisper(folder / "tiny-whisper")
    captioners.write("llava", folder / "tiny-llava")
    config = ServerConfig(
        spaces=("starter",), port=0, preloaded={"starter": starter}, aliases={"whisper-1": WHISPER},
        task_models={"transcription": (WHISPER,), "captioning": (EYES,)},
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with running(config) as api:
            yield api


def test_models_of_tasks_are_listed_with_their_tasks(api: Api) -> None:
    listed = {model["id"]: model.get("tasks") for model in api.get("/v1/models").json()["data"]}
    assert listed == {
        "starter": None,
        "whisper-1": ["transcription"],
        WHISPER: ["transcription"],
        EYES: ["captioning"],
    }
    assert api.get("/v1/models/whisper-1").json()["tasks"] == ["transcription"]
    assert api.post("/v1/embeddings", {"input": "a", "model": "whisper-1"}).error["code"] == "model_not_found"


def transcribed(api: Api, **fields: Any) -> Any:
    body, headers = form(fields, [("file", "talk.flac", SPOKEN.read_bytes())])
    return api.call("POST", "/v1/audio/transcriptions", body, headers)


def test_a_whisper_transcribes_with_times_of_words_and_in_a_stream(api: Api) -> None:
    with mm.connect(api.url) as client:
        spoken = client.transcription(SPOKEN, words=True)
    expected = mm.pipeline("transcription", model=WHISPER)(SPOKEN, timestamps="word")
    assert spoken.text == expected.text != ""
    assert [word.text for word in spoken.words] == [word.text for word in expected.words]
    plain = transcribed(api, model="whisper-1", language="en").json()["text"]
    written = events(transcribed(api, model=WHISPER, language="en", stream="true"))
    assert "".join(event.get("delta", "") for event in written) == written[-1]["text"] == plain
    refused = transcribed(api, model=WHISPER, language="xx")
    assert (refused.status, refused.error["type"]) == (400, "invalid_request_error")


def test_a_vision_language_model_answers_about_an_image(api: Api, data_uri: Callable[..., str]) -> None:
    def ask(words: str, **options: Any) -> dict[str, Any]:
        parts = [{"type": "text", "text": words}] if words else []
        image = {"type": "image_url", "image_url": {"url": data_uri("pictures/cat-at-home.jpg")}}
        content = {"messages": [{"role": "user", "content": [*parts, image]}], "max_tokens": 8}
        reply = api.post("/v1/chat/completions", content | options)
        assert reply.status == 200, reply.body
        return dict(json.loads(reply.body)["choices"][0])

    seen = mm.pipeline("captioning", model=EYES)
    for words in ("What is it?", "How many cats are there?"):
        expected = seen(mm.Image(CAT), prompt=words, max_tokens=8)
        choice = ask(words)
        assert choice["message"]["content"] == expected.text
        assert choice["finish_reason"] == ("stop" if expected.complete else "length")
    assert ask("What is it?", model="starter")["message"]["content"] == "cat"
