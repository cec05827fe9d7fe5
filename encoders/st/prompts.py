"""What a text is for: many models put different words before a question and before what answers it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import InvalidInput

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

ROUTERS = ("Router", "Asym")
DOCUMENT_NAMES = ("document", "passage", "corpus")  # the first of them that a model has


@dataclass(frozen=True)
class Role:
    """prompt: what is put before a text, or None. task: "query" or "document", by which a model with a router picks a
    tower, or None."""

    prompt: str | None = None
    task: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def routing(self) -> dict[str, str]:
        """The keyword arguments of upstream's `preprocess` and `forward`."""
        return {} if self.task is None else {"task": self.task}


def check_prompts(prompts: object) -> None:
    """Raises InvalidInput if these are not texts by name."""
    if prompts is not None and not (
        isinstance(prompts, Mapping) and all(isinstance(one, str) for pair in prompts.items() for one in pair)
    ):
        raise InvalidInput(f"prompts must be texts by name, {{'query': 'query: '}}, got {prompts!r}")


def roles(model: SentenceTransformer, prompt: str | None, name: str) -> tuple[Role, Role | None]:
    """The role of what is encoded, and of what searches it where that is another.

    None is upstream's `encode`: the default prompt, if the model has one. "query" is its `encode_query`. "document" is
    its `encode_document`, searched by `encode_query`. Any other is one of the model's prompts, by name.
    Raises InvalidInput for a prompt the model does not have.
    """
    known = {key: text for key, text in model.prompts.items() if text}
    if prompt is None:
        if _needs_task(model):
            raise InvalidInput(
                f"{name!r} has one tower for queries and one for documents: say which with prompt='document' (queries "
                "then search it) or prompt='query'"
            )
        return Role(model.prompts.get(model.default_prompt_name or "") or None), None
    if prompt not in ("query", "document"):
        if prompt not in known:
            raise InvalidInput(f"{name!r} has no prompt called {prompt!r}; {_what_it_has(known)}")
        return Role(known[prompt]), None
    document = next((known[key] for key in DOCUMENT_NAMES if key in known), None)
    query = known.get("query")
    if query is None and document is None and not _has_routes(model):
        raise InvalidInput(
            f"{name!r} tells no queries from documents, so prompt={prompt!r} would do nothing; {_what_it_has(known)}"
        )
    asking = Role(query, "query")
    return (asking, None) if prompt == "query" else (Role(document, "document"), asking)


def _what_it_has(known: Mapping[str, str]) -> str:
    has = ", ".join(map(repr, known)) or "none"
    return f"its prompts are: {has}; leave prompt out, or give prompts={{'query': …, 'document': …}}"


def _has_routes(model: SentenceTransformer) -> bool:
    """Whether a router in the model picks towers by task."""
    return any({"query", "document"} & set(_tasks(module)) for module in model.modules())


def _needs_task(model: SentenceTransformer) -> bool:
    """Whether a router in the model has no way for what is neither a query nor a document."""
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
