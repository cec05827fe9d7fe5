"""Forms of words, function words, prefixes, identifiers, and scripts without spaces, in keyword search."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from multimodal.index import Index
from multimodal.index.search import languages
from multimodal.index.search.inverted_index import InvertedIndex, TextBatch
from multimodal.index.search.terms import query_terms_of, terms_of


def ids(hits: Any) -> list[str]:
    return [hit.id for hit in hits]


@pytest.mark.parametrize(
    ("token", "parts"),
    [
        ("readFile", ["read", "file"]),
        ("HTTPServerError", ["http", "server", "error"]),
        ("iPhone", ["phone"]),
        ("utf8Decoder", ["utf8", "decoder"]),
        ("plain", []),
        ("Title", []),
        ("UPPER", []),
        ("1234", []),
    ],
)
def test_identifiers_are_found_whole_and_by_their_parts(token: str, parts: list[str]) -> None:
    assert terms_of(token) == ([token.lower()], parts)
    assert query_terms_of(token) == [token.lower(), *parts]


def test_scripts_without_spaces_are_searched_by_pairs_of_characters() -> None:
    assert terms_of("東京都") == (["東", "京", "都"], ["東京", "京都"])
    assert query_terms_of("東京都") == ["東京", "京都"]
    assert query_terms_of("東") == ["東"]
    assert terms_of("학교에서") == (["학교에서"], ["학교", "교에", "에서"])
    assert terms_of("iPhone手机") == (["iphone", "手", "机"], ["phone", "手机"])


@pytest.fixture
def index(index: Index) -> Index:
    index.add(
        ["he was running past the houses", "the house of a runner", "def read_file(path): openStream()",
         "京都の寺", "東京の京料理", "학교에서 만나요", "it is what it is", "happiness is a warm room"],
        ids=["running", "house", "code", "kyoto", "tokyo", "school", "empty", "happy"],
    )  # fmt: skip
    return index


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("houses", {"running", "house"}),
        ("Ran runs run", {"running"}),
        ("the run of houses", {"running", "house"}),
        ("the", {"running", "house"}),  # nothing but function words: they count
        ('"what it is"', {"empty"}),
        ('"it is" house', {"empty"}),
        ("ho*", {"running", "house"}),
        ("hous* warm", {"running", "house", "happy"}),
        ("runn*", {"running", "house"}),
        ("stream", {"code"}),
        ("openstream", {"code"}),
        ("reading files", {"code"}),
        ("happy", {"happy"}),
        ("京都", {"kyoto"}),
        ("京", {"kyoto", "tokyo"}),
        ("학교", {"school"}),
    ],
)
def test_a_query_finds_forms_of_its_words(index: Index, query: str, expected: set[str]) -> None:
    assert set(ids(index.search(text=query))) == expected


def test_forms_are_those_of_the_languages_of_the_index(index: Index) -> None:
    assert ids(index.search(text="Läufen")) == []
    german = ["Die Häuser stehen an der Straße und sind alt", "Das Haus steht nicht mehr", "Läufe"]
    index.add(
        [*((text, {}) for text in german), ("Läufer", {"language": "de"})], ids=["d1", "d2", "d3", "d4"]
    )
    assert set(ids(index.search(text="Läufen"))) == {"d3", "d4"}
    assert set(ids(index.search(text="der Häusern"))) == {"d1", "d2"}
    assert set(ids(index.search(text="houses"))) >= {"running", "house"}


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"language": "de"}, "german"),
        ({"lang": "pt-BR"}, "portuguese"),
        ({"language": "French"}, "french"),
        ({"language": "python"}, None),
        ({"language": 3}, None),
        ({}, None),
    ],
)
def test_metadata_state_the_language_by_code_or_name(metadata: dict[str, Any], expected: str | None) -> None:
    assert languages.language_of(metadata) == expected


def test_rare_languages_are_left_out_and_english_is_assumed() -> None:
    assert languages.main_languages({"german": 50, "english": 48, "dutch": 2}) == ("german", "english")
    assert languages.main_languages({}) == ("english",)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The key hangs behind the door and nobody has another", "english"),
        ("Der Schlüssel hängt hinter der Tür, und niemand hat noch einen", "german"),
        ("La clé est derrière la porte et personne n'en a une autre", "french"),
        ("La llave está detrás de la puerta y nadie tiene otra", "spanish"),
        ("La chiave è dietro la porta e nessuno ne ha un'altra", "italian"),
        ("A chave está atrás da porta e ninguém tem outra", "portuguese"),
        ("De sleutel hangt achter de deur en niemand heeft er nog een", "dutch"),
        ("Nyckeln hänger bakom dörren och ingen har någon annan", "swedish"),
        ("Nøglen hænger bag døren, og ingen har en anden", "danish"),
        ("Ключ висит за дверью, и ни у кого нет другого", "russian"),
        ("Nykyaikaisten rakennusmateriaalien kestävyys", None),
    ],
)
def test_function_words_tell_the_language_of_a_text(text: str, language: str | None) -> None:
    built = InvertedIndex.build([TextBatch(np.array([0]), [text])], 1)
    assert built.language_counts == ({} if language is None else {language: 1})
