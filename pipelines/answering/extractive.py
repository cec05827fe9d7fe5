"""Extractive answers: the chunk that answers a question, and the sentences of it to quote. Nothing is written.

Pure functions over texts, without an index and without a model. The chunk is chosen first: among sentences alone, one
that repeats the question often outranks the one beside it that answers. `COSINE_WEIGHT`, `TYPE_BONUS` and
`MIN_RELEVANCE` are the tuned constants; benchmarks/answers.py measures them.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

COSINE_WEIGHT = 0.25  # of the standardised cosine beside the coverage
TYPE_BONUS = 0.2  # for a sentence that contains what the question asks for, such as a number
NEIGHBOUR_SHARE = 0.5  # of the coverage of a sentence counts for the one after it
MIN_RELEVANCE = 0.5  # coverage below which a chunk is taken not to answer
MAX_SENTENCES = 2
CODE_LINES = 12  # quoted of a function

_STOP_WORDS = """
    a about above after again all also am an and any are as at be because been before being below between both but
    by can could did do does doing down during each few for from further get gets got had has have having he her here
    hers him his how i if in into is it its itself just know me mean more most my no nor not of off on once only or
    other our out over own please s same say says she should so some such t tell than that the their them then there
    these they this those through to too under until up us very was we were what when where which while who whom whose
    why will with would you your
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
SUFFIXES = (
    ("ational", "ate"), ("ization", "ize"), ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"),
    ("ations", "ate"), ("ation", "ate"), ("ments", ""), ("ment", ""), ("nesses", ""), ("ness", ""),
    ("ies", "y"), ("ied", "y"), ("sses", "ss"), ("ingly", ""), ("edly", ""), ("ings", ""), ("ing", ""), ("ed", ""),
    ("ers", ""), ("er", ""), ("ly", ""), ("es", ""), ("s", ""),
)  # fmt: skip
MIN_STEM = 3
_ABBREVIATIONS = (
    "mr mrs ms dr prof st no nos vs e.g i.e etc fig p pp vol jr sr approx dept inc ltd co a.m p.m"
)
ABBREVIATIONS = frozenset(_ABBREVIATIONS.split())
BOUNDARY = re.compile(
    r"""(?P<end>[.!?…]+["'”’)\]]*)(?=\s+["'“‘(\[]*[\w#*-])|(?P<wide>[。！？]+[」』”）]*)|(?P<break>\n\s*\n|\n(?=\s*(?:[-*•#]|\d+[.)])\s))"""
)
WORD = re.compile(r"[^\W_]+")
CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")

NUMBER_WORDS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|hundred|thousand|million|half|twice"
)
MONTHS = (
    "january|february|march|april|may|june|july|august|september|october|november|december|"
    "monday|tuesday|wednesday|thursday|friday|saturday|sunday"
)
QUESTIONS = (
    ("time", r"\bwhen\b|\b(what|which) (year|date|day|month|time|century|weekday)\b|\bhow long ago\b"),
    (
        "number",
        r"\bhow (many|much|tall|high|long|old|far|heavy|big|wide|deep|fast|hot|cold|often|large|thick|warm|loud)\b|"
        r"\b(what|which) (is |was |are )?(the )?(number|price|cost|percentage|temperature|size|weight|height|length|"
        r"distance|age|amount|speed|width|depth|ratio|score|total)\b",
    ),
    ("name", r"\bwho\b|\bwhose\b|\bwhom\b|\b(what|which) (is|was) (the )?name\b|\bnamed\b|\bcalled\b"),
    ("place", r"\bwhere\b|\b(what|which) (city|town|country|place|street|room|village|shop|station)\b"),
    ("reason", r"\bwhy\b|\bwhat for\b|\bhow come\b"),
)
ANSWERS: Mapping[str, re.Pattern[str]] = {
    "time": re.compile(rf"\d{{1,2}}[:.]\d\d|\b\d{{4}}\b|\b\d{{1,2}} ?(am|pm)\b|\b({MONTHS})\b|"
                       r"\b\d{1,2}(st|nd|rd|th)\b|"
                       r"\b(morning|noon|afternoon|evening|night|yesterday|today|tomorrow|week)\b", re.I),
    "number": re.compile(rf"\d[\d.,]*|\b({NUMBER_WORDS})\b", re.I),
    "name": re.compile(r"(?<=[\w,;:] )[\"“]?[A-Z][\w'’-]+|^[A-Z][\w'’-]+ [A-Z]"),
    "place": re.compile(r"\b(in|at|on|near|to|from|behind|under|above|beside|inside|outside|between|next to) "
                        r"(the |a |an |our |my |his |her |their )?\w+", re.I),
    "reason": re.compile(r"\b(because|since|due to|so that|in order to|to (avoid|prevent|keep|stop)|as a result|"
                         r"therefore|otherwise|owing to)\b", re.I),
}  # fmt: skip


@dataclass(frozen=True)
class RankedChunk:
    """A chunk and how well it fits a question.

    Attributes:
        position: Of the chunk in the given order.
        score: By which chunks are ordered.
        coverage: The share of the question's words in the chunk, weighted by their rarity; 0 to 1.
    """

    position: int
    score: float
    coverage: float


def tokenise(text: str) -> list[str]:
    """The terms of a text: stems without case and accents, without stop words; camelCase and snake_case split.

    >>> tokenise("How many apples did parseHeader count?")
    ['many', 'appl', 'pars', 'head', 'count']
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    terms = []
    for word in WORD.findall(CAMEL.sub(" ", UNSPACED.sub(r" \g<0> ", plain))):
        term = word.lower()
        if term not in STOP_WORDS:
            terms.append(stem(term))
    return terms


def stem(word: str) -> str:
    """A word without its inflection, in lower case; short words stay as they are."""
    if len(word) <= MIN_STEM or not word.isascii() or not word.isalpha():
        return word
    for suffix, replacement in SUFFIXES:
        if word.endswith(suffix) and not word.endswith(("ss", "us", "is")):
            root = word[: len(word) - len(suffix)] + replacement
            if len(root) >= MIN_STEM:
                if (
                    suffix in ("ing", "ings", "ed", "er", "ers")
                    and len(root) > MIN_STEM
                    and root[-1] == root[-2]
                ):
                    root = root[:-1] if root[-1] not in "lsz" else root
                word = root
                break
    return word[:-1] if word.endswith("e") and len(word) > MIN_STEM else word


def inverse_frequencies(chunks: Sequence[Iterable[str]]) -> dict[str, float]:
    """The inverse document frequency of each term: log(1 + n / n_with_term).

    Args:
        chunks: The terms of each chunk. A term of none of them is weighted as one of half a chunk; see `coverage`.
    """
    counts: dict[str, int] = {}
    for chunk in chunks:
        for term in set(chunk):
            counts[term] = counts.get(term, 0) + 1
    weights = {term: math.log(1 + len(chunks) / count) for term, count in counts.items()}
    return weights | {"": math.log(1 + 2 * max(1, len(chunks)))}


def coverage(question: Iterable[str], chunk: Iterable[str], idf: Mapping[str, float]) -> float:
    """The share of a question's terms that a chunk contains, weighted by their rarity.

    Args:
        question: The terms of the question.
        chunk: The terms of the chunk.
        idf: From `inverse_frequencies`; the weight under "" is that of unknown terms.

    Returns:
        0 to 1; 0 for a question without terms.
    """
    wanted, present = set(question), set(chunk)
    unknown = idf.get("", 1.0)
    total = sum(idf.get(term, unknown) for term in wanted)
    return sum(idf.get(term, unknown) for term in wanted & present) / total if total else 0.0


def rank_chunks(question: str, chunks: Sequence[str], cosines: Sequence[float]) -> list[RankedChunk]:
    """Orders chunks by how well they fit a question, best first.

    Args:
        question: The question.
        chunks: The texts of the candidates.
        cosines: Of the question and each candidate in the space; equal numbers where there are none.
    """
    terms = [tokenise(chunk) for chunk in chunks]
    idf = inverse_frequencies(terms)
    wanted = tokenise(question)
    standardised = _standardise(cosines)
    ranked = []
    for position, (chunk_terms, cosine) in enumerate(zip(terms, standardised, strict=True)):
        share = coverage(wanted, chunk_terms, idf)
        ranked.append(RankedChunk(position, share + COSINE_WEIGHT * cosine, share))
    return sorted(ranked, key=lambda chunk: -chunk.score)


def relevance(best: RankedChunk) -> float:
    """How likely the best chunk answers the question, as a score that is compared with `MIN_RELEVANCE`."""
    return best.coverage


def answer_type(question: str) -> str | None:
    """What a question asks for: "time", "number", "name", "place" or "reason"; None if its words do not say."""
    lowered = question.lower()
    return next((kind for kind, pattern in QUESTIONS if re.search(pattern, lowered)), None)


def has_answer_type(sentence: str, kind: str | None, question: str = "") -> bool:
    """Whether a sentence contains what a question asks for. Numbers and names of the question do not count."""
    if kind is None:
        return False
    known = {word.lower() for word in WORD.findall(question)}
    return any(
        not {word.lower() for word in WORD.findall(match[0])} <= known
        for match in ANSWERS[kind].finditer(sentence)
    )


def split_sentences(text: str) -> list[tuple[int, int]]:
    """The (start, end) of each sentence in a text, without surrounding white space."""
    spans, start = [], 0
    for match in BOUNDARY.finditer(text):
        if match["end"] is not None and _is_abbreviation(text[start : match.start()], match["end"]):
            continue
        spans.append((start, match.start() if match["break"] is not None else match.end()))
        start = match.end()
    spans.append((start, len(text)))
    return [trimmed for span in spans if (trimmed := _trim(text, *span)) is not None]


def choose_sentences(
    question: str, chunk: str, idf: Mapping[str, float] | None = None
) -> list[tuple[int, int]]:
    """The spans of at most two sentences of a chunk to quote, in their order in the text.

    Args:
        question: The question.
        chunk: The text of the chunk.
        idf: Weights of the terms; equal ones by default.
    """
    spans = split_sentences(chunk)
    if len(spans) <= 1:
        return spans
    wanted, kind = tokenise(question), answer_type(question)
    weights = idf or {}
    shares = [coverage(wanted, tokenise(chunk[start:end]), weights) for start, end in spans]
    scores = []
    for position, (start, end) in enumerate(spans):
        before = shares[position - 1] if position else 0.0
        bonus = TYPE_BONUS if has_answer_type(chunk[start:end], kind, question) else 0.0
        scores.append(max(shares[position], NEIGHBOUR_SHARE * before) + bonus)
    best = sorted(range(len(spans)), key=lambda position: (-scores[position], position))[:MAX_SENTENCES]
    return [spans[position] for position in sorted(best)]


def code_lines(code: str) -> tuple[int, int]:
    """The span of the first lines of a function, which are quoted instead of sentences."""
    lines = code.splitlines(keepends=True)
    shown = "".join(lines[:CODE_LINES]).rstrip()
    start = len(shown) - len(shown.lstrip("\n"))
    return start, len(shown)


def _is_abbreviation(before: str, end: str) -> bool:
    if end != ".":
        return False
    word = before.rpartition(" ")[2].lstrip("(\"'“").lower()
    return word in ABBREVIATIONS or (len(word) == 1 and word.isalpha() and word != "i")


def _trim(text: str, start: int, end: int) -> tuple[int, int] | None:
    part = text[start:end]
    start += len(part) - len(part.lstrip())
    end -= len(part) - len(part.rstrip())
    return (start, end) if start < end else None


def _standardise(values: Sequence[float]) -> list[float]:
    """Zero mean and unit deviation; zeros if all are equal."""
    mean = sum(values) / max(1, len(values))
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / max(1, len(values)))
    return [(value - mean) / deviation if deviation > 1e-9 else 0.0 for value in values]
