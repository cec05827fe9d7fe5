"""The tools of `tools.py` as an MCP server: schemas of their arguments, content blocks, and resources."""

from __future__ import annotations

import base64
import logging
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from multimodal import __version__
from multimodal.core.errors import MultimodalError
from multimodal.server.mcp.tools import (
    DEFAULT_K,
    DEFAULT_SOURCES,
    MAX_K,
    SCHEME,
    Answer,
    IndexTools,
    Link,
    Media,
)

logger = logging.getLogger("multimodal.mcp")

Run = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs a blocking function away from the event loop."""

INSTRUCTIONS = (
    "Searches the user's own images, audio, video and texts by meaning. Call describe_index first to learn what there "
    "is and which metadata `where` can filter by. Scores are cosines; `probability` says how likely a hit is relevant. "
    "Take ids from hits; an item can also be read as a resource. Nothing can be changed."
)
READ_ONLY = types.ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
IndexName = Annotated[str | None, Field(description="Which index; the first one by default.")]
ItemId = Annotated[str, Field(description="The id of an item, from the hits of search.")]


class SearchArguments(BaseModel):
    """Arguments of `search`."""

    model_config = ConfigDict(extra="forbid")

    query: Annotated[
        str | None, Field(description="What to look for, in words, such as 'a dog on a beach'.")
    ] = None
    similar_to: Annotated[list[str], Field(description="Find what resembles these items, by their ids.")] = []
    without: Annotated[str | None, Field(description="What hits should not resemble, in words.")] = None
    keywords: Annotated[
        str | None,
        Field(description='Words that texts, captions or file names contain; "in quotes" for a phrase.'),
    ] = None
    modality: Annotated[
        Literal["text", "image", "audio", "video"] | None, Field(description="Only items of this kind.")
    ] = None
    where: Annotated[
        dict[str, Any] | None,
        Field(
            description='A filter by metadata: {"album": "x"}, {"place": ["Rome", "Oslo"]}, '
            '{"year": {">=": 2020, "<": 2024}}. describe_index lists the keys.'
        ),
    ] = None
    k: Annotated[int, Field(ge=1, le=MAX_K, description="The most hits.")] = DEFAULT_K
    offset: Annotated[int, Field(ge=0, description="Hits to skip: next_offset of the answer before.")] = 0
    min_probability: Annotated[
        float | None, Field(ge=0, le=1, description="Leave out hits that are less likely to be relevant.")
    ] = None
    index: IndexName = None


class AskArguments(BaseModel):
    """Arguments of `ask`."""

    model_config = ConfigDict(extra="forbid")

    question: Annotated[
        str, Field(description="The question in words, such as 'When is the boiler serviced?'.")
    ]
    k: Annotated[int, Field(ge=1, le=MAX_K, description="The most sources.")] = DEFAULT_SOURCES
    modality: Annotated[
        Literal["text", "image", "audio", "video"] | None, Field(description="Only sources of this kind.")
    ] = None
    where: Annotated[
        dict[str, Any] | None, Field(description="Only sources with this metadata, as of search.")
    ] = None
    index: IndexName = None


class ItemArguments(BaseModel):
    """Arguments of the tools on one item."""

    model_config = ConfigDict(extra="forbid")

    id: ItemId


class IndexArguments(BaseModel):
    """Arguments of `describe_index`."""

    model_config = ConfigDict(extra="forbid")

    index: IndexName = None


class _Tool:
    """A tool: its arguments, and the method of IndexTools that it calls."""

    def __init__(
        self, name: str, title: str, description: str, arguments: type[BaseModel], call: Callable[..., Answer]
    ) -> None:
        self.arguments, self.call = arguments, call
        self.description = types.Tool(
            name=name,
            title=title,
            description=description,
            input_schema=arguments.model_json_schema(),
            annotations=READ_ONLY,
        )


def build_server(tools: IndexTools, run: Run) -> Server[Any]:
    """An MCP server on indexes.

    Args:
        tools: What it serves.
        run: Runs a blocking call, such as a search, away from the event loop.

    Returns:
        The server, for any transport of the `mcp` package.
    """
    by_name = {tool.description.name: tool for tool in _tools(tools)}

    async def list_tools(context: ServerRequestContext[Any], parameters: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[tool.description for tool in by_name.values()])

    async def call_tool(
        context: ServerRequestContext[Any], parameters: types.CallToolRequestParams
    ) -> types.CallToolResult:
        tool = by_name.get(parameters.name)
        if tool is None:
            return _refused(f"no tool {parameters.name!r}; the tools are {', '.join(by_name)}")
        try:
            arguments = tool.arguments.model_validate(parameters.arguments or {})
            values = {name: getattr(arguments, name) for name in type(arguments).model_fields}
            return _result(await run(lambda: tool.call(**values)))
        except ValidationError as error:
            return _refused("; ".join(_problem(dict(detail)) for detail in error.errors()))
        except (MultimodalError, TypeError) as error:
            return _refused(str(error))

    async def list_resources(
        context: ServerRequestContext[Any], parameters: Any
    ) -> types.ListResourcesResult:
        return types.ListResourcesResult(resources=[])  # an index may hold millions: search lists them

    async def list_templates(
        context: ServerRequestContext[Any], parameters: Any
    ) -> types.ListResourceTemplatesResult:
        template = types.ResourceTemplate(
            uri_template=f"{SCHEME}{{id}}",
            name="item",
            title="An item of the index",
            description="A text, a picture as JPEG, or the beginning of an audio as FLAC; the id percent-encoded.",
        )
        return types.ListResourceTemplatesResult(resource_templates=[template])

    async def read_resource(
        context: ServerRequestContext[Any], parameters: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        uri = str(parameters.uri)
        try:
            media = await run(lambda: tools.read(uri))
        except MultimodalError as error:
            raise MCPError(code=types.INVALID_PARAMS, message=str(error), data={"uri": uri}) from error
        return types.ReadResourceResult(contents=[_contents(media, uri)])

    return Server(
        "multimodal",
        version=__version__,
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
    )


def _tools(tools: IndexTools) -> list[_Tool]:
    return [
        _Tool(
            "search", "Search",
            "Finds items by meaning, across text, images, audio and video, and returns them with thumbnails of the "
            "first pictures. Give at least one of query, similar_to and keywords.",
            SearchArguments, tools.search,
        ),
        _Tool(
            "ask", "Ask the index",
            "Answers a question from the sources of the index, with quotations and the items they are from; refuses if "
            "no source answers it.",
            AskArguments, tools.ask,
        ),
        _Tool(
            "get_item", "Look at an item",
            "All that is stored of an item, with the picture itself, the beginning of its sound, or its whole text.",
            ItemArguments, tools.get_item,
        ),
        _Tool(
            "describe_index", "Describe the index",
            "How many items of each kind there are, and the metadata keys, with their values, that can be filtered by.",
            IndexArguments, tools.describe_index,
        ),
        _Tool(
            "caption", "Caption an item", "A short description of an image, audio or text of the index, by a model.",
            ItemArguments, tools.caption_item,
        ),
        _Tool(
            "transcribe", "Transcribe an item",
            "The words that are spoken in an audio or video of the index, with their times, by a model.",
            ItemArguments, tools.transcribe_item,
        ),
    ]  # fmt: skip


def _result(answer: Answer) -> types.CallToolResult:
    content: list[types.ContentBlock] = [types.TextContent(type="text", text=answer.text)]
    content += [_block(media) for media in answer.media]
    content += [_resource_link(link) for link in answer.links]
    return types.CallToolResult(content=content, structured_content=answer.data)


def _block(media: Media) -> types.ContentBlock:
    data = base64.b64encode(media.content).decode()
    if media.is_image:
        return types.ImageContent(type="image", data=data, mime_type=media.mime_type)
    return types.AudioContent(type="audio", data=data, mime_type=media.mime_type)


def _resource_link(link: Link) -> types.ContentBlock:
    return types.ResourceLink(type="resource_link", uri=link.uri, name=link.name, mime_type=link.mime_type)


def _contents(media: Media, uri: str) -> types.TextResourceContents | types.BlobResourceContents:
    if media.mime_type == "text/plain":
        return types.TextResourceContents(uri=uri, text=media.content.decode(), mime_type=media.mime_type)
    blob = base64.b64encode(media.content).decode()
    return types.BlobResourceContents(uri=uri, blob=blob, mime_type=media.mime_type)


def _refused(message: str) -> types.CallToolResult:
    """An error that the assistant reads and can correct."""
    logger.info("refused: %r", message)
    return types.CallToolResult(content=[types.TextContent(type="text", text=message)], is_error=True)


def _problem(detail: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in detail["loc"])
    return f"{where}: {detail['msg']}" if where else str(detail["msg"])
