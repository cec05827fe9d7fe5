"""Citations are checked: numbers resolve to sources that were sent, and quotations stand in them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.core.modality import Modality
from multimodal.index import Hit
from multimodal.pipelines.answering.citations import check, find_markers, stands_in, verbatim
from multimodal.pipelines.answering.result import Sent

TEXTS = {
    1: "The tower stands 47 metres high. It was painted green.",
    2: "Fry six onions.\nServe  hot with “fresh” bread.",
}
SENT = [
    *(Sent(n, Hit(str(n), None, 0.5, Modality.TEXT, text=text), "text", text) for n, text in TEXTS.items()),
    Sent(3, Hit("3", None, 0.5, Modality.IMAGE), "image"),
]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("a [1] b [1,2] c", [(1,), (1, 2)]),
        ("a [12]", [(12,)]),
        ("a [[1]] b [1][3]", [(1,), (1, 3)]),
        ("a [1-3] b [2–3]", [(1, 2, 3), (2, 3)]),
        ("a [source 2; Source 1]", [(2, 1)]),
        ("`a[1]` and ```x = y[2]\nz[3]``` end [1]", [(1,)]),
        ("[1](http://x.org) [0] [2024] [x] []", []),
        ("1] [ 2", []),
    ],
)
def test_numbers_in_brackets_are_citations_but_not_in_code_and_links(
    text: str, numbers: list[tuple[int, ...]]
) -> None:
    assert [marker.numbers for marker in find_markers(text)] == numbers


@pytest.mark.parametrize(
    ("draft", "text", "cited", "removed"),
    [
        ("It is 47 m high [1].", "It is 47 m high [1].", [(1, "", "It is 47 m high [1]")], (0, 0)),
        ("It is high [9].", "It is high.", [], (1, 0)),
        ("Old. It is high [1, 9].", "Old. It is high [1].", [(1, "", "It is high [1]")], (1, 0)),
        ('So "47 metres high" [1].', 'So "47 metres high" [1].',
         [(1, "47 metres high", 'So "47 metres high" [1]')], (0, 0)),
        ("So “Fry six onions” [1].", "So Fry six onions.", [], (1, 1)),
        ('So "made of solid gold" [1].', "So made of solid gold.", [], (1, 1)),
        ('It says "The tower … painted green." [1]', 'It says "The tower … painted green." [1]',
         [(1, TEXTS[1], 'It says "The tower … painted green." [1]')], (0, 0)),
        ('On it: "serve HOT, it says here" [3].', 'On it: "serve HOT, it says here" [3].',
         [(3, "", 'On it: "serve HOT, it says here" [3]')], (0, 0)),
        ('Then "Fry six onions" first.', 'Then "Fry six onions" first.', [(2, "Fry six onions", '"Fry six onions"')],
         (0, 0)),
    ],
)  # fmt: skip
def test_what_does_not_hold_is_removed_and_counted(
    draft: str, text: str, cited: list[tuple[int, str, str]], removed: tuple[int, int]
) -> None:
    checked = check(draft, SENT)
    assert checked.text == text
    assert [(c.number, c.quote, checked.text[c.start : c.end]) for c in checked.citations] == cited
    assert (checked.n_citations, checked.n_quotes) == removed
    assert all(citation.verified == bool(citation.quote) for citation in checked.citations)


def test_a_quotation_is_compared_word_for_word_save_for_white_space_and_typography() -> None:
    assert verbatim('serve hot with "fresh" bread', TEXTS[2]) == "Serve  hot with “fresh” bread"
    assert stands_in("Fry … onions", TEXTS[2])
    assert not stands_in("Fry ten onions", TEXTS[2])
    assert not stands_in("onions … Fry", TEXTS[2])
    assert not stands_in(" … ", TEXTS[2])


PIECES = st.sampled_from(
    ["It is high", " [1]", " [2, 9]", "[7]", ' "47 metres high"', ' "gold and silver too"', ". ", "\n", "`a[1]`", "“",
     '"', " [1-3]", " ä…", " [[2]]", "[1](x)"]
)  # fmt: skip


@settings(max_examples=20)
@given(st.lists(PIECES, max_size=9).map("".join))
def test_after_checking_every_citation_resolves_and_every_quotation_is_verbatim(draft: str) -> None:
    checked = check(draft, SENT)
    by_id = {source.hit.id: source for source in SENT}
    for citation in checked.citations:
        assert 0 <= citation.start <= citation.end <= len(checked.text)
        assert by_id[citation.hit.id].number == citation.number
        assert citation.quote in by_id[citation.hit.id].text
    assert all(set(marker.numbers) <= {1, 2, 3} for marker in find_markers(checked.text))
    again = check(checked.text, SENT)
    assert (again.text, again.n_citations) == (checked.text, 0)
