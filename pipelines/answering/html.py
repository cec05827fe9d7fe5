"""HTML of an answer for notebooks: the text, then each cited source with its quotation, image or player."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from multimodal.core.modality import Modality
from multimodal.index.html import media_html
from multimodal.pipelines.answering.labels import source_label

if TYPE_CHECKING:
    from multimodal.index import Hit
    from multimodal.pipelines.answering.result import Answer, Citation

QUOTE_CHARS = 400
STYLE = (
    "display:flex;gap:12px;align-items:flex-start;margin:8px 0;padding:8px 12px;border:1px solid #8884;"
    "border-radius:8px"
)
TEXT = "margin:6px 0 10px;white-space:pre-wrap;font-size:15px"
NUMBER = "min-width:1.6em;text-align:center;border-radius:1em;background:#2f6fd6;color:#fff;font-size:12px"


def answer_html(answer: Answer) -> str:
    """The answer and its sources; everything that is not of this package is escaped."""
    state = "" if not answer.refused else f" <small>(refused: {html.escape(answer.reason)})</small>"
    cut = "" if answer.complete else " <small>(incomplete)</small>"
    question = f'<div style="opacity:.7">{html.escape(answer.question)}</div>'
    text = f'<p style="{TEXT}">{html.escape(answer.text)}{state}{cut}</p>'
    sources = "".join(_source(number, group) for number, group in _by_number(answer).items())
    return f'<div style="max-width:760px">{question}{text}{sources}{_notes(answer)}</div>'


def _by_number(answer: Answer) -> dict[int, list[Citation]]:
    groups: dict[int, list[Citation]] = {}
    for citation in answer.citations:
        groups.setdefault(citation.number, []).append(citation)
    return groups


def _source(number: int, citations: list[Citation]) -> str:
    hit = citations[0].hit
    quotes = "".join(
        f'<blockquote style="margin:4px 0;padding-left:8px;border-left:3px solid #8886">'
        f"{html.escape(_short(citation.quote))}</blockquote>"
        for citation in citations
        if citation.quote
    )
    label = f'<div style="font-size:13px;overflow-wrap:anywhere" title="{html.escape(hit.uri or hit.id)}">'
    label += f"{html.escape(source_label(hit))}</div>"
    return (
        f'<div style="{STYLE}"><span style="{NUMBER}">{number}</span>'
        f"<div>{label}{_media(hit)}{quotes}</div></div>"
    )


def _media(hit: Hit) -> str:
    return "" if hit.modality is Modality.TEXT else media_html(hit)


def _short(quote: str) -> str:
    return quote if len(quote) <= QUOTE_CHARS else quote[:QUOTE_CHARS] + "…"


def _notes(answer: Answer) -> str:
    notes = [answer.model]
    if not answer.refused and not answer.verified:
        notes.append("not verified: no citation of a source")
    if answer.dropped.citations:
        notes.append(_count(answer.dropped.citations, "citation", "removed"))
    if answer.dropped.hits:
        notes.append(_count(len(answer.dropped.hits), "source", "left out"))
    replaced = [source.form for source in answer.sent if source.form in ("caption", "transcript")]
    if replaced:
        notes.append(f"{len(replaced)} media sent as words")
    return f'<small style="opacity:.7">{html.escape(" · ".join(notes))}</small>'


def _count(number: int, noun: str, done: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'} {done}"
