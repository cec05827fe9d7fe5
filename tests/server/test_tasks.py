"""Transcripts, images and captions over HTTP, in OpenAI's formats, and MCP at /mcp."""

from __future__ import annotations

import base64
import io
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import PIL.Image
import pytest
from mcp import Client

from multimodal.pipelines.generation.result import Generation
from tests.server.conftest import GALLERY, Api, Reply, png

SPOKEN = (GALLERY / "sounds" / "pizza.flac").read_bytes()
CAT = (GALLERY / "pictures" / "cat-at-home.jpg").read_bytes()
DataUri = Callable[..., str]


def form(
    fields: dict[str, Any], files: list[tuple[str, str, bytes]] | None = None
) -> tuple[bytes, dict[str, str]]:
    """A multipart body of fields, which may be lists, and (name, filename, content) files."""
    parts = []
    for name, value in fields.items():
        for element in value if isinstance(value, list) else [value]:
            parts.append(
                f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{element}\r\n'.encode()
            )
    for name, filename, content in files or []:
        head = f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n\r\n'
        parts.append(head.encode() + content + b"\r\n")
    return b"".join(parts) + b"--b--\r\n", {"content-type": "multipart/form-data; boundary=b"}


def transcribe(server: Api, audio: bytes = SPOKEN, **fields: Any) -> Reply:
    named = {key.replace("granularities", "granularities[]"): value for key, value in fields.items()}
    body, headers = form({"model": "starter"} | named, [("file", "../../talk.flac", audio)])
    return server.call("POST", "/v1/audio/transcriptions", body, headers)


def events(reply: Reply) -> list[dict[str, Any]]:
    """The JSON events of a stream, without comments and the closing [DONE]."""
    assert reply.status == 200, reply.body
    assert reply.headers["content-type"].startswith("text/event-stream")
    lines = [
        line.removeprefix("data: ") for line in reply.body.decode().split("\n") if line.startswith("data: ")
    ]
    return [json.loads(line) for line in lines if line != "[DONE]"]


# --- transcripts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response_format", "expected"),
    [
        ("text", "pizza\n"),
        ("srt", "1\n00:00:00,100 --> 00:00:00,500\npizza\n\n"),
        ("vtt", "WEBVTT\n\n00:00:00.100 --> 00:00:00.500\npizza\n"),
        ("json", '{"text":"pizza","usage":{"type":"duration","seconds":1}}'),
    ],
)
def test_a_transcript_comes_in_each_format(server: Api, response_format: str, expected: str) -> None:
    reply = transcribe(server, response_format=response_format)
    assert (reply.status, reply.body.decode()) == (200, expected)


def test_a_verbose_transcript_has_the_times_that_were_asked_for(server: Api) -> None:
    both = transcribe(
        server, response_format="verbose_json", timestamp_granularities=["word", "segment"], language="en"
    ).json()
    assert both["words"] == [{"word": "pizza", "start": 0.1, "end": 0.5}]
    assert [(segment["start"], segment["text"]) for segment in both["segments"]] == [(0.1, "pizza")]
    assert (both["language"], both["duration"]) == ("en", pytest.approx(0.672, abs=1e-3))
    words = transcribe(server, response_format="verbose_json", timestamp_granularities="word").json()
    assert "segments" not in words


def test_a_transcript_streams_deltas_that_add_up_to_the_text(server: Api) -> None:
    *deltas, done = events(transcribe(server, stream="true"))
    assert {delta["type"] for delta in deltas} == {"transcript.text.delta"}
    assert "".join(delta["delta"] for delta in deltas) == done["text"] == "pizza"
    assert done["type"] == "transcript.text.done"


@pytest.mark.parametrize(
    ("fields", "audio", "status", "param", "message"),
    [
        ({"model": "whisper-9"}, SPOKEN, 404, "model", "served: starter"),
        ({"response_format": "lrc"}, SPOKEN, 400, "response_format", "input should be 'json'"),
        ({"temperature": "hot"}, SPOKEN, 400, "temperature", "valid number"),
        ({"language": "de"}, SPOKEN, 400, None, "takes no language"),
        ({}, b"", 400, "file", "empty"),
        ({}, png(4, 4), 400, "file", "file is image; a transcript needs an audio or a video"),
        ({}, b"fLaC" + bytes(100), 400, None, "cannot be decoded"),
    ],
)
def test_a_transcript_that_cannot_be_is_refused_naming_the_field(
    server: Api, fields: dict[str, str], audio: bytes, status: int, param: str | None, message: str
) -> None:
    reply = transcribe(server, audio, **fields)
    assert (reply.status, reply.error["param"]) == (status, param)
    assert message in reply.error["message"]
    assert transcribe(server, audio, stream="true", **fields).status == status


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nstarter", "must be one uploaded file"),
        (b"--c\r\n\r\nx", "cannot be read"),
        (form({"model": "starter"})[0], "file must be one uploaded file, got 0"),
        (form({f"x{number}": "" for number in range(201)})[0], "Too many fields"),
        (form({"model": "x" * 2_000_000})[0], "exceeded maximum size"),
    ],
)  # fmt: skip
def test_a_malformed_form_is_refused(server: Api, body: bytes, message: str) -> None:
    reply = server.call("POST", "/v1/audio/transcriptions", body, form({})[1])
    assert reply.status == 400
    assert message in reply.error["message"]


# --- images --------------------------------------------------------------------------------------


def pixels(image: dict[str, Any]) -> PIL.Image.Image:
    with PIL.Image.open(io.BytesIO(base64.b64decode(image["b64_json"]))) as opened:
        return opened.copy()


def test_an_image_is_drawn_from_a_prompt_and_its_seed_draws_it_again(server: Api) -> None:
    prompt = {"prompt": "a blue heart", "steps": 2, "seed": 3}
    (first,) = server.post("/v1/images/generations", prompt).json()["data"]
    second, further = server.post(
        "/images/generations",
        prompt | {"n": 2, "size": "96x96", "output_format": "webp", "response_format": "url"},
    ).json()["data"]
    assert (first["seed"], further["seed"]) == (3, 4)
    assert pixels(first).size == (64, 64)
    kind, _, b64 = second["url"].partition(";base64,")
    assert kind == "data:image/webp"
    assert pixels({"b64_json": b64}).size == (96, 96)


def test_images_and_sounds_are_edited_and_varied(server: Api) -> None:
    fields = {"model": "starter", "prompt": "a dog", "steps": 2, "seed": 1}
    one = form(fields, [("image", "cat.jpg", CAT)])
    both = form(fields, [("image[]", "cat.jpg", CAT), ("image[]", "pizza.flac", SPOKEN)])
    varied = form({"steps": 2, "seed": 1}, [("image", "pizza.flac", SPOKEN)])
    made = [
        server.call("POST", path, *request).json()["data"][0]["b64_json"]
        for path, request in (("/v1/images/edits", one), ("/v1/images/edits", both),
                              ("/v1/images/variations", varied))
    ]  # fmt: skip
    assert len(set(made)) == 3


def test_the_command_line_keeps_the_image_of_a_server_with_its_metadata(server: Api, tmp_path: Path) -> None:
    from tests.server.test_cli_server import run

    file = tmp_path / "cat.jpg"
    (tmp_path / "pizza.flac").write_bytes(SPOKEN)
    common = ("--seed", 1, "--json", "--force")
    for given in (["a cat"], ["--from", tmp_path / "pizza.flac"]):
        code, stdout, _ = run("--server", server.url, "generate", *given, "-o", file, *common)
        (made,) = json.loads(stdout)["made"]
        saved = Generation.load(file)
        assert (code, saved.seed, saved.model, made["width"]) == (0, 1, "starter", 64)
        assert saved.prompt == (given[0] if len(given) == 1 else None)
    refused = run("--server", server.url, "generate", "a cat", "-o", tmp_path / "cat.wav")
    assert (refused[0], "a server generates images" in refused[2]) == (2, True)


def test_a_drawing_streams_its_steps_and_then_the_image(server: Api) -> None:
    reply = server.post("/v1/images/generations", {"prompt": "a cat", "steps": 3, "seed": 1, "stream": True})
    (image,) = events(reply)
    assert image["type"] == "image_generation.completed"
    assert pixels(image).size == (64, 64)
    comments = [
        json.loads(line[11:]) for line in reply.body.decode().split("\n") if line.startswith(": progress ")
    ]
    assert comments[-1] == {"done": 3, "total": 3}


@pytest.mark.parametrize("stream", [True, False])
def test_a_drawing_whose_client_leaves_stops_at_its_next_step(server: Api, stream: bool) -> None:
    body = json.dumps({"prompt": "a cat", "steps": 1000, "n": 10, "stream": stream}).encode()
    head = f"POST /v1/images/generations HTTP/1.1\r\nHost: {server.host}:{server.port}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    lane = server.app.state.extras["task_models"].lanes["generation"]

    def is_running() -> bool:
        return bool(lane._running)

    with socket.create_connection((server.host, server.port)) as client:
        client.sendall(head.encode() + body)
        wait_until(is_running)
        if stream:
            while b": progress" not in client.recv(4096):
                pass
    wait_until(lambda: not is_running())  # 10,000 steps take minutes


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("content", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x", "n": 11}, "n"),
        ({"prompt": "x", "size": "9x99999"}, "size"),
        ({"prompt": "x", "guidance": "NaN"}, "guidance"),
        ({"prompt": "x", "steps": 10**6}, "steps"),
    ],
)
def test_a_drawing_that_cannot_be_is_refused_naming_the_field(
    server: Api, content: dict[str, Any], param: str
) -> None:
    reply = server.post("/v1/images/generations", content)
    assert (reply.status, reply.error["param"]) == (400, param)


def test_a_mask_is_refused_rather_than_ignored(server: Api) -> None:
    request = form({"prompt": "x"}, [("image", "a.jpg", CAT), ("mask", "m.png", png(4, 4))])
    assert server.call("POST", "/v1/images/edits", *request).error["param"] == "mask"


# --- captions ------------------------------------------------------------------------------------


def question(url: str, words: str = "What is this?", kind: str = "image_url") -> list[dict[str, Any]]:
    media = {"type": kind, kind: {"url": url} if kind == "image_url" else {"data": url, "format": "flac"}}
    return [{"role": "user", "content": [{"type": "text", "text": words}, media]}]


def test_an_image_and_a_sound_are_described(server: Api, data_uri: DataUri) -> None:
    image = server.post(
        "/v1/chat/completions", {"messages": question(data_uri("pictures/cat-at-home.jpg"))}
    ).json()
    assert image["choices"][0]["message"]["content"] == "cat"
    assert image["choices"][0]["finish_reason"] == "stop"
    assert image["usage"]["completion_tokens"] == 1
    sound = question(base64.b64encode(SPOKEN).decode(), kind="input_audio")
    content = server.post("/v1/chat/completions", {"messages": sound, "model": "starter"}).json()
    assert content["choices"][0]["message"]["content"] == "pizza"


def test_an_item_of_the_index_is_described_by_its_address(server: Api) -> None:
    (hit,) = server.post("/v1/search", {"query": "a slice of pizza", "k": 1, "modality": "image"}).json()[
        "hits"
    ]
    from multimodal.server.mcp.tools import resource_uri

    reply = server.post("/v1/chat/completions", {"messages": question(resource_uri(hit["id"]))})
    assert reply.json()["choices"][0]["message"]["content"] == "pizza"
    missing = server.post("/v1/chat/completions", {"messages": question("multimodal://item/%2Fetc%2Fpasswd")})
    assert (missing.status, missing.error["code"]) == (404, "item_not_found")


def test_a_chat_streams_chunks_and_ends_with_done(server: Api, data_uri: DataUri) -> None:
    content = {"messages": question(data_uri("pictures/cat-at-home.jpg")), "stream": True}
    reply = server.post("/v1/chat/completions", content | {"stream_options": {"include_usage": True}})
    chunks = events(reply)
    assert reply.body.endswith(b"data: [DONE]\n\n")
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"]) == "cat"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] > 0
    assert "usage" not in events(server.post("/v1/chat/completions", content))[-1]


def test_a_response_has_the_events_of_openai_in_order(server: Api, data_uri: DataUri) -> None:
    image = {"type": "input_image", "image_url": data_uri("pictures/cat-at-home.jpg")}
    content = {"model": "starter", "input": [{"role": "user", "content": [image]}]}
    whole = server.post("/v1/responses", content).json()
    assert whole["output"][0]["content"][0]["text"] == "cat"
    streamed = events(server.post("/v1/responses", content | {"stream": True}))
    assert [entry["sequence_number"] for entry in streamed] == list(range(9))
    assert streamed[0]["type"] == "response.created"
    assert streamed[-1]["type"] == "response.completed"
    assert streamed[-1]["response"]["output"][0]["content"] == whole["output"][0]["content"]


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([{"role": "user", "content": "hello"}], "messages"),
        (["hello"], "messages"),
        (question("/etc/passwd"), "messages[0].content[1]"),
        (question("file:///etc/passwd"), "messages[0].content[1]"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "video_url"}]}], "messages[0].content[0]"),
    ],
)
def test_messages_without_readable_media_are_refused_naming_the_part(
    server: Api, messages: list[Any], param: str
) -> None:
    for stream in (False, True):
        reply = server.post("/v1/chat/completions", {"messages": messages, "stream": stream})
        assert (reply.status, reply.error["param"]) == (400, param)


# --- assistants ----------------------------------------------------------------------------------


def test_an_assistant_searches_over_http(server: Api) -> None:
    async def talk() -> tuple[Any, Any, Any]:
        async with Client(f"{server.url}/mcp") as client:
            found = await client.call_tool(
                "search", {"query": "a slice of pizza", "k": 2, "modality": "image"}
            )
            id_ = found.structured_content["hits"][0]["id"]
            caption = await client.call_tool("caption", {"id": id_})
            return found, caption, await client.call_tool("search", {"k": 1000})

    found, caption, refused = anyio.run(talk)
    assert [block.type for block in found.content].count("image") == 2
    assert caption.structured_content["caption"] == "pizza"
    assert refused.is_error


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"host": "evil.example"}, 421),
        ({"content-type": "text/plain"}, 400),
    ],
)
def test_a_page_of_another_site_cannot_use_the_tools(
    server: Api, headers: dict[str, str], status: int
) -> None:
    assert server.post("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, headers).status == status
