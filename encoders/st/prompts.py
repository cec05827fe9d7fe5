"""Prompts and tasks: many models use different ones for queries and for documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import InvalidInput

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

ROUTERS = ("Router", "Asym")
DOCUMENT_NAMES = ("document", "passage", "corpus")  # of prompts; the first that a model has is used


@dataclass(frozen=True)
class PromptRole:
    """How inputs are encoded.

    Attributes:
        prompt: Text to put before the input, or None.
        task: "query" or "document", by which a router selects a tower, or None.
    """

    prompt: str | None = None
    task: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @property
    def routing(self) -> dict[str, str]:
        """Keyword arguments for upstream's `preprocess` and `forward`."""
        return {} if self.task is None else {"task": self.task}


def check_prompts(prompts: object) -> None:
    """Raises InvalidInput unless `prompts` maps names to texts."""
    if prompts is not None and not (
        isinstance(prompts, Mapping)
        and all(isinstance(text, str) for pair in prompts.items() for text in pair)
    ):
        raise InvalidInput(
            f"prompts must map names to texts, such as {{'query': 'query: '}}, got {prompts!r}"
        )


def roles(model: SentenceTransformer, prompt: str | None, name: str) -> tuple[PromptRole, PromptRole | None]:
    """The role of what is encoded, and that of queries where it differs.

    Args:
        model: The model.
        prompt: None for upstream's `encode`, with the default prompt if there is one; "query" for `encode_query`;
            "document" for `encode_document`, with queries by `encode_query`; else the name of one of its prompts.
        name: Name of the model in error messages.

    Raises:
        InvalidInput: If the model does not have the prompt, or needs one.
    """
    available = {key: text for key, text in model.prompts.items() if text}
    if prompt is None:
        if _needs_task(model):
            raise InvalidInput(
                f"{name!r} has one tower for queries and one for documents: choose one with prompt='document' "
                "(searched by queries) or prompt='query'"
            )
        return PromptRole(model.prompts.get(model.default_prompt_name or "") or None), None
    if prompt not in ("query", "document"):
        if prompt not in available:
            raise InvalidInput(f"{name!r} has no prompt {prompt!r}; {_available_prompts(available)}")
        return PromptRole(available[prompt]), None
    document = next((available[key] for key in DOCUMENT_NAMES if key in available), None)
    query = available.get("query")
    if query is None and document is None and not _has_routes(model):
        raise InvalidInput(
            f"{name!r} does not distinguish queries from documents, so prompt={prompt!r} has no "
            f"effect; {_available_prompts(available)}"
        )
    query_role = PromptRole(query, "query")
    if prompt == "query":
        return query_role, None
    return PromptRole(document, "document"), query_role


def _available_prompts(available: Mapping[str, str]) -> str:
    names = ", ".join(map(repr, available)) or "none"
    return f"its prompts are: {names}; leave prompt out, or pass prompts={{'query': …, 'document': …}}"


def _has_routes(model: SentenceTransformer) -> bool:
    """Whether a router in the model selects towers by task."""
    return any({"query", "document"} & set(_tasks(module)) for module in model.modules())


def _needs_task(model: SentenceTransformer) -> bool:
    """Whether a router in the model has no route for inputs without a task."""
    return any(
        getattr(module, "default_route", "") is None
        and not any(task is None for task, _ in module.route_mappings)
        for module in model.modules()
        if type(module).__name__ in ROUTERS
    )


def _tasks(module: Any) -> Iterator[str]:
    if type(module).__name__ in ROUTERS:
        yield from module.sub_modules
        yield from (task for task, _ in module.route_mappings if task is not None)
