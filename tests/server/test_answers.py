"""Answers over an index, in the form of OpenAI's chat completions and responses."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from multimodal.server.config import ServerConfig
from multimodal.server.mcp.tools import item_id
from tests.server.conftest import GALLERY, Api, running

KEYS = {"role": "user", "content": "Where were the lost keys last time?"}
QUOTE = "Last time they were in the fridge."


@pytest.fixture(scope="module")
def client(server: Api) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")


def test_a_chat_with_an_index_answers_with_citations_as_annotations(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model="index:gallery", messages=[KEYS])  # type: ignore[list-item]
    message = completion.choices[0].message
    assert QUOTE in str(message.content) and message.refusal is None
    annotations = [annotation.url_citation for annotation in message.annotations or ()]
    cited = [str(message.content)[one.start_index : one.end_index] for one in annotations]
    assert QUOTE in cited
    assert {one.title for one in annotations} == {"lost-keys.txt"}
    assert item_id(annotations[0].url) == str(GALLERY / "notes/lost-keys.txt")
    assert completion.model_extra["answer"]["verified"] is True  # type: ignore[index]
    *_, last = client.chat.completions.create(model="index:", messages=[KEYS], stream=True)  # type: ignore[list-item]
    assert last.choices[0].finish_reason == "stop"
    assert len(last.choices[0].delta.annotations) == len(annotations)  # type: ignore[attr-defined]


def test_a_response_has_flat_annotations_whole_and_in_its_events(client: openai.OpenAI) -> None:
    response = client.responses.create(model="index:gallery", input=KEYS["content"])
    content: Any = response.output[0].content[0]  # type: ignore[union-attr]
    assert QUOTE in response.output_text
    assert {annotation.type for annotation in content.annotations} == {"url_citation"}
    events = list(client.responses.create(model="index:gallery", input=KEYS["content"], stream=True))
    added = [event for event in events if event.type == "response.output_text.annotation.added"]
    shown = [event.annotation.model_dump() for event in added]  # type: ignore[union-attr, attr-defined]
    assert shown == [annotation.model_dump() for annotation in content.annotations]


def test_a_question_without_an_answer_says_so(server: Api) -> None:
    messages = [{"role": "user", "content": "Which horse won the derby in Lisbon?"}]
    content = server.post("/v1/chat/completions", {"model": "index:gallery", "messages": messages}).json()
    assert content["choices"][0]["message"]["content"] == "The sources do not answer the question."
    assert (content["answer"]["refused"], content["answer"]["reason"]) == (True, "not found")


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"model": "index:none", "messages": [KEYS]}, 404, "index"),
        (
            {"model": "index:gallery", "messages": [KEYS, {"role": "assistant", "content": "x"}]},
            400,
            "messages",
        ),
        ({"model": "index:gallery", "messages": [{"role": "user", "content": " "}]}, 400, "messages"),
        ({"model": "index:gallery", "messages": ["x"]}, 400, "messages[0]"),
        ({"model": "index:gallery", "messages": [{"role": "user", "content": 7}]}, 400, "messages"),
    ],
)
def test_a_question_that_cannot_be_is_refused_naming_the_field(
    server: Api, body: dict[str, Any], status: int, param: str
) -> None:
    reply = server.post("/v1/chat/completions", body)
    assert (reply.status, reply.error["param"]) == (status, param)


def test_a_model_of_another_server_answers_with_the_turns_and_instructions_of_the_chat(
    gallery: Any, starter: Any
) -> None:
    from tests.pipelines.answering import model_server

    with model_server.running() as upstream:
        upstream.script({"text": f'In the fridge: "{QUOTE}" [1] [8].'})
        config = ServerConfig(indexes=(gallery,), port=0, preloaded={"starter": starter},
                              task_models={"answering": (f"{upstream.url}/v1#llama",)})  # fmt: skip
        with running(config) as api:
            turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi?"},
                     {"role": "assistant", "content": "Hello."}, KEYS]  # fmt: skip
            content = api.post("/v1/chat/completions", {"model": "index:", "messages": turns}).json()
            assert content["choices"][0]["message"]["content"] == f'In the fridge: "{QUOTE}" [1].'
            assert content["answer"]["dropped"] == {"citations": 1, "quotes": 0}
            system, *earlier, _ = upstream.sent["messages"]
            assert system["content"].endswith("\n\nBe kind.")
            assert [turn["content"] for turn in earlier] == ["Hi?", "Hello."]
            upstream.script({"text": None, "refusal": "I will not."})
            content = api.post("/v1/chat/completions", {"model": "index:", "messages": turns}).json()
            message = content["choices"][0]["message"]
            assert (message["content"], message["refusal"]) == (None, "I will not.")
            upstream.script({"status": 401, "error": {"message": "no"}})
            reply = api.post("/v1/chat/completions", {"model": "index:", "messages": turns})
            assert (reply.status, reply.error["code"]) == (502, "model_failed")
            assert "127.0.0.1" not in json.dumps(reply.error)
