"""Answers of models behind a server, by both protocols: what is sent, and what goes wrong."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

import multimodal
from multimodal.core.errors import (
    AnswerError,
    InvalidInput,
    MissingExtra,
    TruncatedPromptWarning,
    UnknownModel,
)
from multimodal.index import Index
from multimodal.pipelines.answering import prompt
from multimodal.pipelines.answering.backends import remote as remote_module
from multimodal.pipelines.answering.pipeline import AnsweringPipeline
from tests.pipelines.answering.conftest import NOTES
from tests.pipelines.answering.model_server import ModelServer

QUESTION = "How high is the water tower?"
OPENAI, ANTHROPIC = "openai/gpt-x", "anthropic/claude-x"
BOTH = pytest.mark.parametrize("model", [OPENAI, ANTHROPIC])


OPENED: dict[tuple[str, Path], AnsweringPipeline] = {}  # making a client takes longer than a request


def open_model(
    model: str, index: Index, server: ModelServer, *, fresh: bool = False, **options: Any
) -> AnsweringPipeline:
    name = model if "/" in model else f"{server.url}/v1#{model}"
    key = (name, index.path)
    if fresh or options or key not in OPENED:
        made: AnsweringPipeline = multimodal.pipeline("answering", model=name, index=index, **options)
        if fresh or options:
            return made
        OPENED[key] = made
    return OPENED[key]


@pytest.mark.parametrize("model", [OPENAI, ANTHROPIC, "llama"])
def test_a_model_answers_with_checked_citations_at_once_and_in_a_stream(
    model: str, index: Index, server: ModelServer
) -> None:
    server.script({"text": 'It is high: "It stands 47 metres high" [1]. It is old [99].'})
    ask = open_model(model, index, server)
    answer = ask(QUESTION)
    assert answer.text == 'It is high: "It stands 47 metres high" [1]. It is old.'
    (citation,) = answer.citations
    assert (citation.quote, citation.verified, citation.number) == ("It stands 47 metres high", True, 1)
    assert citation.hit.text == NOTES["tower"]
    assert answer.dropped.citations == 1
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (900, 5)  # type: ignore[union-attr]
    assert answer.sent[0].hit == citation.hit and answer.sent[0].form == "text"
    *parts, last = ask.stream(QUESTION)
    assert "".join(part.text for part in parts) == server.replies[0]["text"]
    assert (last.answer.text, last.answer.citations) == (answer.text, answer.citations)  # type: ignore[union-attr]


def test_instructions_and_examples_arrive_in_order_and_byte_for_byte(
    index: Index, server: ModelServer
) -> None:
    instructions = "Answer  in verse,\n\tplease: <|x|> “ä”"
    examples = [("How old?", "Ten [1]."), ("How new?", "Not [2].")]
    open_model(OPENAI, index, server)(QUESTION, instructions=instructions, examples=examples)
    system, *turns, last = server.sent["messages"]
    assert system == {"role": "system", "content": f"{prompt.SYSTEM}\n\n{instructions}"}
    expected = [words for pair in examples for words in pair]
    assert [turn["content"] for turn in turns] == expected
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * 2
    assert last["role"] == "user" and last["content"].endswith(f"Question:\n{QUESTION}")
    open_model(ANTHROPIC, index, server)(QUESTION, instructions=instructions, examples=examples)
    assert server.sent["system"] == f"{prompt.SYSTEM}\n\n{instructions}"
    assert [turn["content"] for turn in server.sent["messages"][:-1]] == expected


def test_claude_cites_by_its_own_citations_sentence_by_sentence(index: Index, server: ModelServer) -> None:
    server.script(
        {
            "text": "It is 47 m high.",
            "citations": [(0, "It stands 47 metres high."), (0, "It is of gold."), (77, "x")],
        }
    )
    answer = open_model(ANTHROPIC, index, server)(QUESTION)
    (citation,) = answer.citations
    assert citation.quote == "It stands 47 metres high."
    assert answer.text[citation.start : citation.end] == answer.text
    assert answer.dropped.citations == 2
    block = server.sent["messages"][-1]["content"][0]
    assert block["type"] == "search_result" and block["citations"] == {"enabled": True}
    assert [part["text"] for part in block["content"]] == [
        "The old water tower stands behind the station.",
        "It stands 47 metres high.",
        "It was painted green in 1987.",
    ]


@BOTH
def test_a_citation_of_what_was_not_sent_and_an_invented_quotation_are_removed(
    model: str, index: Index, server: ModelServer
) -> None:
    server.script({"text": 'It says "it is made of solid gold" [1]. See [9].'})
    answer = open_model(model, index, server)(QUESTION)
    assert answer.text == "It says it is made of solid gold. See."
    assert (answer.citations, answer.verified, answer.refused) == ((), False, False)
    assert (answer.dropped.citations, answer.dropped.quotes) == (2, 1)
    assert str(answer).endswith("(not verified: no citation of a source)")


# --- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "reply", "reason", "text"),
    [
        (OPENAI, {"refusal": "I cannot help.", "text": None}, "model", "I cannot help."),
        (OPENAI, {"text": "", "finish": "content_filter"}, "filter", "The answer was withheld by a filter."),
        (ANTHROPIC, {"text": None, "finish": "refusal"}, "model", "The model declined to answer."),
        (OPENAI, {"text": "NOT FOUND"}, "not found", "The sources do not answer the question."),
        (ANTHROPIC, {"text": "**Not found.**"}, "not found", "The sources do not answer the question."),
    ],
)
def test_a_refusal_is_told_with_its_reason(
    model: str, reply: dict[str, Any], reason: str, text: str, index: Index, server: ModelServer
) -> None:
    server.script(reply)
    ask = open_model(model, index, server)
    *_, last = ask.stream(QUESTION)
    for answer in (ask(QUESTION), last.answer):
        assert answer is not None
        assert (answer.refused, answer.reason, answer.text, answer.citations) == (True, reason, text, ())


def test_without_a_source_nothing_is_sent(index: Index, server: ModelServer) -> None:
    answer = open_model(OPENAI, index, server)(QUESTION, where={"year": 1900})
    assert (answer.refused, answer.reason, server.requests) == (True, "not found", [])
    assert answer.sent == ()


# --- what goes wrong --------------------------------------------------------------------------------

HTML = {"body": "<html><body>Please log in</body></html>"}
ERROR_400 = {"status": 400, "error": {"type": "invalid_request_error", "message": "images are not supported"}}
FAILURES = [
    (OPENAI, HTML, "returned something that is no answer.*Please log in.*no proxy", 1),
    (ANTHROPIC, HTML, "returned something that is no answer.*no proxy", 1),
    (OPENAI, {"choices": None}, "returned something that is no answer", 1),
    (OPENAI, {"status": 401, "error": {"message": "bad key sk-secret-openai"}},
     r"status 401, request req-7: bad key …; check the key in OPENAI_API_KEY", 1),
    (ANTHROPIC, {"status": 401, "error": {"message": "bad key"}}, "check the key in ANTHROPIC_API_KEY", 1),
    (OPENAI, {"status": 404, "error": {"message": "no model"}}, "check that the server has a model 'gpt-x'", 1),
    (OPENAI, {"status": 429, "error": {"message": "slow down"}}, "status 429.*tried 3 times", 3),
    (ANTHROPIC, {"status": 429, "error": {"message": "slow down"}}, "status 429.*tried 3 times", 3),
    (OPENAI, {"status": 503, "error": {"message": "busy"}}, "status 503.*the server failed", 3),
    (OPENAI, ERROR_400, "status 400.*images are not supported.*inputs=", 1),
    (OPENAI, {"redirect": "http://127.0.0.1:1/"}, "redirects are not followed", 1),
    (ANTHROPIC, {"redirect": "http://127.0.0.1:1/"}, "redirects are not followed", 1),
    (OPENAI, {"text": "", "finish": "length"}, "returned an empty answer: raise max_tokens=", 1),
]  # fmt: skip


@pytest.mark.parametrize(("model", "reply", "message", "n_requests"), FAILURES)
def test_a_failure_names_the_host_the_status_and_the_cure(
    model: str, reply: dict[str, Any], message: str, n_requests: int, index: Index, server: ModelServer
) -> None:
    server.script(reply)
    with pytest.raises(AnswerError, match=message) as caught:
        open_model(model, index, server)(QUESTION)
    assert "sk-secret" not in str(caught.value)
    if reply.get("status"):
        assert (caught.value.status, caught.value.request_id) == (reply["status"], "req-7")
        assert "127.0.0.1" in str(caught.value)
    assert len(server.requests) == n_requests


def test_a_server_that_failed_once_is_asked_again(index: Index, server: ModelServer) -> None:
    server.script({"status": 500, "error": {"message": "oops"}}, {"text": "It is 47 metres high [1]."})
    assert open_model(OPENAI, index, server)(QUESTION).verified


@BOTH
def test_a_server_that_hangs_is_given_up(
    model: str, index: Index, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_module, "MAX_RETRIES", 0)
    for module in ("openai_chat", "anthropic_messages"):
        monkeypatch.setattr(f"multimodal.pipelines.answering.backends.{module}.MAX_RETRIES", 0)
    server.script({"hang": True})
    with pytest.raises(AnswerError, match="did not answer in time"):
        open_model(model, index, server, timeout_s=0.3)(QUESTION)


def test_a_server_that_is_not_there_is_named(index: Index) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/v1#llama"
        ask = multimodal.pipeline("answering", model=address, index=index)
        with pytest.raises(AnswerError, match=r"127\.0\.0\.1:\d+ cannot be reached"):
            ask(QUESTION)


@BOTH
def test_a_stream_that_is_cut_keeps_its_words_and_is_incomplete(
    model: str, index: Index, server: ModelServer
) -> None:
    server.script({"text": "It is 47 metres [1]", "cut": True})
    *parts, last = open_model(model, index, server).stream(QUESTION)
    assert "".join(part.text for part in parts) == "It is 47 metres [1]"
    assert last.answer is not None
    assert (last.answer.complete, last.answer.text) == (False, "It is 47 metres [1]")
    assert "[…]" in str(last.answer)


@BOTH
def test_an_answer_without_a_reason_to_stop_is_an_error(
    model: str, index: Index, server: ModelServer
) -> None:
    server.script({"text": "It is", "finish": None})
    with pytest.raises(AnswerError, match="ended its answer without saying why"):
        open_model(model, index, server)(QUESTION)


@BOTH
def test_an_error_in_the_middle_of_a_stream_is_raised(model: str, index: Index, server: ModelServer) -> None:
    server.script({"text": "It is", "error_event": "Overloaded", "cut": True})
    with pytest.raises(AnswerError, match="Overloaded"):
        list(open_model(model, index, server).stream(QUESTION))


@BOTH
def test_html_instead_of_a_stream_is_an_error(model: str, index: Index, server: ModelServer) -> None:
    server.script(HTML)
    with pytest.raises(AnswerError, match="no answer"):
        list(open_model(model, index, server).stream(QUESTION))


@BOTH
def test_max_tokens_cuts_an_answer_which_says_so(model: str, index: Index, server: ModelServer) -> None:
    server.script({"text": "It is [1]", "finish": {OPENAI: "length", ANTHROPIC: "max_tokens"}[model]})
    answer = open_model(model, index, server)(QUESTION, max_tokens=3)
    assert (answer.complete, answer.refused) == (False, False)
    assert (server.sent.get("max_completion_tokens") or server.sent["max_tokens"]) == 3


def test_the_name_of_the_limit_follows_the_server(index: Index, server: ModelServer) -> None:
    refused = {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."}
    server.script({"status": 400, "error": refused}, {"text": "It is high [1]."})
    assert open_model("llama", index, server)(QUESTION).verified
    assert [
        {"max_tokens", "max_completion_tokens"} & set(request["body"]) for request in server.requests
    ] == [
        {"max_tokens"},
        {"max_completion_tokens"},
    ]


def test_what_a_model_thinks_before_it_answers_is_not_shown(index: Index, server: ModelServer) -> None:
    server.script({"text": "<think>Tower? See [7].</think>\n\nIt is high [1]."})
    ask = open_model("llama", index, server)
    assert (ask(QUESTION).text, ask(QUESTION).dropped.citations) == ("It is high [1].", 0)
    *parts, last = ask.stream(QUESTION)
    assert "".join(part.text for part in parts) == "It is high [1]." == last.answer.text  # type: ignore[union-attr]
    server.script({"text": "<think>Tower? See", "finish": "length"})
    with pytest.raises(AnswerError, match="returned an empty answer: raise max_tokens="):
        ask(QUESTION)
    server.script({"text": "<3 it is high [1]."})
    assert ask(QUESTION).text == "<3 it is high [1]."


def test_a_server_that_ignores_the_limit_is_stopped(index: Index, server: ModelServer) -> None:
    server.script({"text": "la " * 5000})
    *parts, last = open_model("llama", index, server).stream(QUESTION, max_tokens=10)
    assert sum(len(part.text) for part in parts) < 300
    assert last.answer is not None and not last.answer.complete


OVERFLOWS = {
    OPENAI: {
        "message": "This model's maximum context length is 100 tokens",
        "code": "context_length_exceeded",
    },
    ANTHROPIC: {"type": "invalid_request_error", "message": "prompt is too long: 9 tokens > 8 maximum"},
}


@BOTH
def test_an_overflow_is_sent_once_more_with_half_of_the_sources(
    model: str, index: Index, server: ModelServer
) -> None:
    overflow = {"status": 400, "error": OVERFLOWS[model]}
    server.script(overflow, {"text": "It is high [1]."})
    context = [f"The water tower number {n} is high." for n in range(4)]
    answer = open_model(model, index, server)(QUESTION, context=context)
    assert (len(answer.sent), len(answer.dropped.hits), len(server.requests)) == (2, 2, 2)
    server.script(overflow)
    with pytest.raises(AnswerError, match="also with half of the sources"):
        open_model(model, index, server)(QUESTION, context=context)
    assert len(server.requests) == 2


def test_the_lowest_sources_are_left_out_to_stay_within_the_budget(index: Index, server: ModelServer) -> None:
    context = [f"The water tower {n} is high. " + "It is made of old red bricks. " * 20 for n in range(6)]
    ask = open_model(OPENAI, index, server)
    answer = ask(QUESTION, context=context, context_tokens=1_000)
    assert 1 <= len(answer.sent) < 6
    assert len(answer.sent) + len(answer.dropped.hits) == 6
    assert str(server.sent).count("red bricks") == 20 * len(answer.sent)
    with pytest.raises(InvalidInput, match="the best source does not fit: raise context_tokens="):
        ask(QUESTION, context=context, context_tokens=300)
    assert len(server.requests) == 1


def test_claude_is_asked_for_the_exact_number_of_tokens_before_a_source_is_left_out(
    index: Index, server: ModelServer
) -> None:
    context = [f"The water tower {n} is high. " + "It is made of old red bricks. " * 20 for n in range(6)]
    server.script({"text": "High [1].", "count": 900})
    answer = open_model(ANTHROPIC, index, server)(QUESTION, context=context, context_tokens=1_000)
    assert [request["path"] for request in server.requests] == ["/v1/messages/count_tokens", "/v1/messages"]
    assert (len(answer.sent), answer.dropped.hits) == (6, ())


def test_a_prompt_that_the_server_cut_is_noticed(index: Index, server: ModelServer) -> None:
    server.script({"text": "It is high [1].", "usage": 40})
    with pytest.warns(TruncatedPromptWarning, match=r"counted 40 tokens .* num_ctx"):
        open_model("llama", index, server)(QUESTION, context=[NOTES["tower"] * 20])


# --- addresses and keys -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("http://example.org/v1#m", InvalidInput, "unencrypted: write https://"),
        ("http://localhost:1/v1", InvalidInput, "names no model; write it after '#'"),
        ("https://me:pw@example.org/v1#m", InvalidInput, "an address holds no password"),
        ("http://localhost:99999999/v1#m", InvalidInput, "is not the address of a server"),
        ("openai/", InvalidInput, "names no model; write 'openai/<model>'"),
        ("gpt-4", UnknownModel, "no answering model is called 'gpt-4'"),
    ],
)
def test_an_address_that_is_not_safe_or_not_complete_is_refused(
    name: str, error: type[Exception], message: str, index: Index
) -> None:
    with pytest.raises(error, match=message):
        multimodal.pipeline("answering", model=name, index=index)


@BOTH
def test_a_missing_key_is_named_before_anything_is_sent(
    model: str, index: Index, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = {OPENAI: "OPENAI_API_KEY", ANTHROPIC: "ANTHROPIC_API_KEY"}[model]
    monkeypatch.delenv(variable)
    with pytest.raises(InvalidInput, match=f"set the environment variable {variable}"):
        open_model(model, index, server, fresh=True)
    assert server.requests == []


def test_a_compatible_server_gets_neither_the_key_nor_the_account_of_openai(
    index: Index, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-secret")
    open_model("llama", index, server, fresh=True)(QUESTION)
    assert "secret" not in str(server.requests[-1]["headers"])
    monkeypatch.setenv("MULTIMODAL_ANSWER_KEY", "own-key")
    open_model("llama", index, server, fresh=True)(QUESTION)
    assert server.requests[-1]["headers"]["authorization"] == "Bearer own-key"


@pytest.mark.parametrize("model", [OPENAI, ANTHROPIC, "http://localhost:9/v1#m", "https://example.org/v1#m"])
def test_offline_refuses_a_remote_model_before_any_socket(
    model: str, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(InvalidInput, match="offline=True, and"):
        multimodal.pipeline("answering", model=model, index=index, offline=True)
    with pytest.raises(InvalidInput, match="offline=True, and"):
        multimodal.pipeline(
            "answering", index=index, offline=True, safety=model.replace("anthropic", "openai")
        )


def test_a_missing_sdk_is_named_with_its_extra(
    index: Index, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"needs openai: pip install 'multimodal\[answers\]'"):
        open_model(OPENAI, index, server, fresh=True)
