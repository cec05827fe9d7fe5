"""`multimodal mcp` and the real client of the `mcp` package: one conversation over stdio, whose answers are checked."""

from __future__ import annotations

import base64
import io
import os
import sys
from pathlib import Path
from typing import Any

import anyio
import PIL.Image
import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.shared.exceptions import MCPError

import multimodal as mm
from multimodal.index import Index
from multimodal.server.mcp.facets import facets
from multimodal.server.mcp.tools import IndexTools, item_id, resource_uri

ROOT = Path(__file__).resolve().parents[2]
GALLERY = ROOT / "assets" / "gallery"
PIZZA, CAT, SPOKEN = (
    str(GALLERY / name)
    for name in ("pictures/pizza-on-table.jpg", "pictures/cat-at-home.jpg", "sounds/pizza.flac")
)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Two pictures, a spoken word and a text, with metadata."""
    index = Index.create(tmp_path_factory.mktemp("mcp") / "memories.lance", "starter")
    index.add(
        [
            (Path(PIZZA), {"place": "Rome", "year": 2024}),
            (Path(CAT), {"place": "Oslo", "year": 2022, "indoors": True}),
            (Path(SPOKEN), {"place": "Rome"}),
            (mm.Text("a recipe for pizza", uri="notes/pizza"), {"year": 1}),
        ]
    )
    return index


@pytest.fixture(scope="module")
def answers(index: Index) -> dict[str, Any]:
    """The answers of one server to one client, by the name of the question."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "multimodal", "mcp", str(index.path)],
        env={**os.environ, "PYTHONPATH": path},
    )

    async def talk() -> dict[str, Any]:
        async with stdio_client(server) as (reader, writer), ClientSession(reader, writer) as session:
            answers: dict[str, Any] = {"initialize": await session.initialize()}
            answers["tools"] = (await session.list_tools()).tools
            answers["templates"] = (await session.list_resource_templates()).resource_templates
            answers["describe"] = await session.call_tool("describe_index", {})
            answers["search"] = await session.call_tool("search", {"query": "a slice of pizza", "k": 3})
            answers["page 2"] = await session.call_tool(
                "search", {"query": "a slice of pizza", "k": 3, "offset": 3}
            )
            where = {"place": "Rome", "year": {">=": 2000}}
            answers["filter"] = await session.call_tool("search", {"query": "a cat", "where": where})
            answers["ask"] = await session.call_tool("ask", {"question": "Where is the recipe for pizza?"})
            answers["image"] = await session.call_tool("get_item", {"id": PIZZA})
            answers["audio"] = await session.call_tool("get_item", {"id": SPOKEN})
            answers["caption"] = await session.call_tool("caption", {"id": CAT})
            answers["transcribe"] = await session.call_tool("transcribe", {"id": SPOKEN})
            answers["transcribe image"] = await session.call_tool("transcribe", {"id": CAT})
            answers["wrong"] = await session.call_tool("search", {"k": 1000, "quary": "x"})
            answers["unknown id"] = await session.call_tool("get_item", {"id": "/etc/passwd"})
            answers["unknown tool"] = await session.call_tool("delete", {})
            answers["resource"] = await session.read_resource(resource_uri(PIZZA))
            try:
                await session.read_resource(resource_uri("/etc/passwd"))
            except MCPError as error:
                answers["unknown resource"] = error
            return answers

    return anyio.run(talk)


def test_the_server_names_itself_and_its_six_read_only_tools(answers: dict[str, Any]) -> None:
    assert answers["initialize"].server_info.name == "multimodal"
    assert "describe_index" in answers["initialize"].instructions
    names = [tool.name for tool in answers["tools"]]
    assert names == ["search", "ask", "get_item", "describe_index", "caption", "transcribe"]
    assert all(tool.annotations.read_only_hint for tool in answers["tools"])
    assert [template.uri_template for template in answers["templates"]] == ["multimodal://item/{id}"]


def test_the_index_is_described_with_the_values_that_filters_take(answers: dict[str, Any]) -> None:
    described = answers["describe"].structured_content
    assert described["items_by_modality"] == {"text": 1, "image": 2, "audio": 1}
    assert described["metadata"]["place"]["values"] == {"Rome": 2, "Oslo": 1}
    year = described["metadata"]["year"]
    assert (year["min"], year["max"], year["types"], year["items"]) == (1, 2024, ["int"], 3)
    assert described["metadata"]["indoors"]["values"] == {"true": 1}


def test_a_search_gives_hits_beside_small_thumbnails_and_links(answers: dict[str, Any]) -> None:
    search = answers["search"]
    found = search.structured_content
    assert {hit["id"] for hit in found["hits"]} >= {PIZZA, SPOKEN}
    assert (found["count"], found["offset"], found["next_offset"], found["items_searched"]) == (3, 0, 3, 4)
    images = [block for block in search.content if block.type == "image"]
    assert found["thumbnails_of"][0] == resource_uri(PIZZA)
    assert len(images) == len(found["thumbnails_of"])
    with PIL.Image.open(io.BytesIO(base64.b64decode(images[0].data))) as thumbnail:
        assert thumbnail.format == "JPEG"
        assert max(thumbnail.size) == 256
    links = [block.uri for block in search.content if block.type == "resource_link"]
    assert links == [hit["resource"] for hit in found["hits"]]


def test_the_last_page_says_that_there_is_no_further_one(answers: dict[str, Any]) -> None:
    page = answers["page 2"].structured_content
    assert (page["count"], page["next_offset"]) == (1, None)
    shown = {hit["id"] for hit in answers["search"].structured_content["hits"]}
    assert page["hits"][0]["id"] not in shown


def test_a_search_is_filtered_by_metadata(answers: dict[str, Any]) -> None:
    found = answers["filter"].structured_content
    assert ([hit["id"] for hit in found["hits"]], found["items_searched"]) == ([PIZZA], 1)


def test_an_item_comes_with_its_picture_or_sound(answers: dict[str, Any]) -> None:
    image, audio = answers["image"], answers["audio"]
    assert image.structured_content["metadata"] == {"place": "Rome", "year": 2024}
    assert [block.type for block in image.content] == ["text", "image", "resource_link"]
    assert [block.type for block in audio.content] == ["text", "audio", "resource_link"]
    assert base64.b64decode(audio.content[1].data)[:4] == b"fLaC"


def test_a_question_is_answered_with_the_item_that_it_is_from(answers: dict[str, Any]) -> None:
    answer = answers["ask"].structured_content
    assert (answer["answer"], answer["refused"], answer["model"]) == (
        "a recipe for pizza",
        False,
        "extractive",
    )
    (citation,) = answer["citations"]
    assert (citation["quote"], citation["uri"], citation["verified"]) == (
        "a recipe for pizza",
        "notes/pizza",
        True,
    )


def test_items_are_captioned_and_transcribed(answers: dict[str, Any]) -> None:
    assert "cat" in answers["caption"].structured_content["caption"]
    assert answers["transcribe"].structured_content["text"] == "pizza"


def test_a_resource_is_read_by_its_address(answers: dict[str, Any]) -> None:
    (content,) = answers["resource"].contents
    assert content.mime_type == "image/jpeg"
    assert base64.b64decode(content.blob)[:2] == b"\xff\xd8"


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("wrong", "k: Input should be less than or equal to 50; quary: Extra inputs are not permitted"),
        ("unknown id", "no item has the id '/etc/passwd'; take an id from the hits of search"),
        ("unknown tool", "no tool 'delete'"),
        ("transcribe image", "image given to transcribe, which takes audio and video"),
    ],
)
def test_a_wrong_call_is_an_error_that_the_assistant_can_read(
    answers: dict[str, Any], question: str, message: str
) -> None:
    assert answers[question].is_error
    assert message in answers[question].content[0].text


def test_a_path_outside_the_index_is_no_resource(answers: dict[str, Any]) -> None:
    assert "no item has the id '/etc/passwd'" in str(answers["unknown resource"])


def test_an_item_whose_file_is_gone_is_described_without_it(index: Index, tmp_path: Path) -> None:
    photo = tmp_path / "gone.png"
    PIL.Image.new("RGB", (8, 8)).save(photo)
    other = Index.create(tmp_path / "other.lance", index.space)
    other.add([photo])
    photo.unlink()
    tools = IndexTools({"other": lambda: other}, lambda item: {}, lambda item: {})
    answer = tools.get_item(str(photo))
    assert answer.media == ()
    assert answer.data["note"] == "the file of this item is not on this machine any more"
    assert tools.search("black").data["thumbnails_of"] == []


def test_an_id_survives_its_address() -> None:
    assert item_id(resource_uri("/a b/ä#page=3&x=%2F")) == "/a b/ä#page=3&x=%2F"


def test_metadata_beyond_the_limit_is_not_read(index: Index) -> None:
    assert facets(index, max_rows=2)["rows_read"] == 2
