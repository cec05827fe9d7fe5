"""Reranking documents for a query, and classifying inputs into labels in words."""

from __future__ import annotations

from typing import Any

from pydantic import Field, JsonValue
from starlette.requests import Request
from starlette.responses import Response

from multimodal.core.classification.result import Classification
from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.pipelines.classification.pipeline import ZeroShotClassificationPipeline
from multimodal.server.endpoint import (
    Endpoint,
    JsonResponse,
    RequestModel,
    read_json,
    state_of,
    while_connected,
)
from multimodal.server.errors import invalid
from multimodal.server.inputs import check_inputs, count_tokens
from multimodal.server.media import Checked, too_many
from multimodal.server.spaces import ServedSpace, known_vectors
from multimodal.server.state import State


class RerankRequest(RequestModel):
    """A query and documents: texts, or {text}, {image}, {audio} or {video} objects."""

    query: JsonValue
    documents: list[JsonValue]
    model: str | None = None
    top_n: int | None = Field(default=None, ge=1)
    top_k: int | None = Field(default=None, ge=1, description="Another name of top_n.")
    return_documents: bool = False


class ClassifyRequest(RequestModel):
    """Inputs, and the labels to choose from."""

    input: JsonValue = Field(description="As in /v1/embeddings.")
    labels: list[str]
    model: str | None = None
    modality: Modality | None = None
    templates: list[str] | None = Field(
        default=None, description='Sentences with "{}" in place of the label.'
    )
    multi_label: bool = False
    top_k: int | None = Field(default=None, ge=1)


async def rerank(request: Request) -> Response:
    """Documents by their similarity to the query. The score is (1 + cosine) / 2."""
    state = state_of(request)
    body = await read_json(request, RerankRequest)
    model = state.model(body.model)
    query = await check_inputs(state, [body.query], "query", names=["query"])
    documents = await check_inputs(state, body.documents, "documents")
    scores = await while_connected(request, _scores(model, query, documents))
    order = sorted(range(len(scores)), key=lambda place: -scores[place])[: body.top_n or body.top_k]
    results: list[dict[str, Any]] = [
        {"index": place, "relevance_score": scores[place]}
        | ({"document": _document(body.documents[place], request)} if body.return_documents else {})
        for place in order
    ]
    n_tokens = count_tokens(query) + count_tokens(documents)
    return JsonResponse(
        {
            "id": request.scope["multimodal.request_id"],
            "object": "list",
            "results": results,
            "data": results,  # where Voyage looks for them
            "model": body.model or model.name,
            "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
            "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
        }
    )


async def _scores(model: ServedSpace, query: list[Checked], documents: list[Checked]) -> list[float]:
    query_rows = await model.encode(query, "query", lambda place: "query")
    rows = await model.encode(documents, "document", lambda place: f"documents[{place}]")
    return [float(score) for score in (1 + rows @ query_rows[0]) / 2]


def _document(document: Any, request: Request) -> Any:
    """A document as it is returned: at /rerank as Infinity has it, a text as a string; elsewhere as Jina has it."""
    is_object = request.scope["path"] != "/rerank"
    return {"text": document} if is_object and isinstance(document, str) else document


async def classify(request: Request) -> Response:
    """The probability of each label, for each input."""
    state = state_of(request)
    body = await read_json(request, ClassifyRequest)
    limit = state.config.ceilings.labels
    if len(body.labels) > limit:
        raise too_many(len(body.labels), limit, "labels", "labels")
    for place, label in enumerate(body.labels):
        state.media.text(label, f"labels[{place}]")
    n_prompts = len(body.labels) * max(1, len(body.templates or ()))
    if n_prompts > limit:
        raise invalid(f"labels times templates must be at most {limit:,}, got {n_prompts:,}", "templates")
    model = state.model(body.model)
    values: Any = body.input if isinstance(body.input, list) else [body.input]
    names = None if isinstance(body.input, list) else ["input"]
    checked = await check_inputs(state, values, "input", modality=body.modality, names=names)
    results = await while_connected(request, _classify(state, model, body, checked))
    return JsonResponse(
        {
            "object": "classify",
            "data": [result.to_dict()["scores"] for result in results],
            "model": body.model or model.name,
            "usage": {"prompt_tokens": count_tokens(checked), "total_tokens": count_tokens(checked)},
        }
    )


async def _classify(
    state: State, model: ServedSpace, body: ClassifyRequest, checked: list[Checked]
) -> list[Classification]:
    pipeline = state.extra(
        f"classification {model.name}", lambda: ZeroShotClassificationPipeline(model.space)
    )
    items: list[Item] = [element.item for element in checked]
    rows = await model.encode(checked, "document", lambda place: f"input[{place}]")

    def call() -> list[Classification]:
        with known_vectors(items, rows):
            results: list[Classification] = pipeline(
                items,
                labels=body.labels,
                templates=body.templates,
                multi_label=body.multi_label,
                top_k=body.top_k,
            )
            return results

    return await state.searches.run(call)


ENDPOINTS = [
    Endpoint(
        "/v1/rerank", rerank, summary="Order documents by a query.", request=RerankRequest, tag="ranking"
    ),
    Endpoint(
        "/v2/rerank",
        rerank,
        summary="Order documents by a query (Cohere).",
        request=RerankRequest,
        tag="ranking",
    ),
    Endpoint(
        "/v1/classify", classify, summary="Classify into labels.", request=ClassifyRequest, tag="ranking"
    ),
]
