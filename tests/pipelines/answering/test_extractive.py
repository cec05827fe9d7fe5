"""Extractive answers: quotations of the best source, offline."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

import multimodal
from multimodal.core.errors import InvalidInput
from multimodal.core.space import Space
from multimodal.index import Index
from multimodal.pipelines.answering import extractive
from multimodal.pipelines.answering.evidence import answer_types, answerability, semantics
from multimodal.pipelines.answering.pipeline import AnsweringPipeline
from tests.pipelines.answering.conftest import NOTES


@pytest.fixture(scope="module")
def ask(index: Index) -> AnsweringPipeline:
    return AnsweringPipeline(index)


@pytest.mark.parametrize(
    ("question", "note", "words"),
    [
        ("How high is the water tower?", "tower", "47 metres"),
        ("Where does the spare key of the shed hang?", "keys", "behind the blue door"),
        ("Why must the pressure of the boiler stay low?", "boiler", "because the valve leaks"),
        ("Who will order the projector?", "minutes", "Yusuf will order"),
    ],
)
def test_the_best_source_is_quoted_word_for_word(
    ask: AnsweringPipeline, question: str, note: str, words: str
) -> None:
    answer = ask(question)
    assert words in answer.text
    assert not answer.refused and answer.complete and answer.verified and answer.model == "extractive"
    for citation in answer.citations:
        assert Path(str(citation.hit.uri)).stem == note
        assert citation.quote in NOTES[note]
        assert answer.text[citation.start : citation.end] == citation.quote
        assert citation.verified


def test_a_question_that_no_source_answers_is_refused_with_the_nearest_sources(
    ask: AnsweringPipeline,
) -> None:
    answer = ask("Which horse won the derby in Lisbon?")
    assert (answer.refused, answer.reason, answer.citations) == (True, "not found", ())
    assert answer.text == "The sources do not answer the question."
    assert len(answer.hits) == 8
    assert ask("Which bus won the derby?").refused  # a source has one of its words
    assert answer.sent == ()


@pytest.mark.parametrize("word", ["water", "wall", "day"])
def test_a_single_common_word_is_no_question_and_gets_no_quotation(ask: AnsweringPipeline, word: str) -> None:
    assert ask(word).refused


def test_nothing_is_sent_anywhere(ask: AnsweringPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    assert "47 metres" in ask("How high is the water tower?").text


def test_several_questions_give_an_answer_each_and_a_stream_ends_with_the_answer(
    ask: AnsweringPipeline,
) -> None:
    first, second = ask(["How high is the water tower?", "Who won the derby in Lisbon?"])
    assert (first.refused, second.refused) == (False, True)
    *_, last = ask.stream("How high is the water tower?")
    assert last.answer == first


def test_an_answer_is_plain_json_and_names_its_sources(ask: AnsweringPipeline) -> None:
    answer = ask("How high is the water tower?")
    values = answer.to_dict()
    assert values["citations"][0]["hit"]["id"] == answer.citations[0].hit.id
    assert (values["verified"], values["usage"], values["dropped"]["citations"]) == (True, None, 0)
    assert str(answer).endswith("\n[1] tower.txt")


def test_a_filter_limits_the_sources(ask: AnsweringPipeline) -> None:
    assert ask("How high is the water tower?", where={"year": 1900}).hits == []
    assert ask("How high is the water tower?", modality="image").refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": "  "}, "the question is empty"),
        ({"inputs": None}, "give one question"),
        ({"inputs": "a", "question": "b"}, "give one question"),
        ({"inputs": "a", "k": 0}, "k must be a whole number of at least 1"),
        ({"inputs": "a", "context_tokens": 5}, "context_tokens=5 holds no source"),
        ({"inputs": "a", "examples": "q"}, "examples must be"),
        ({"inputs": "a", "examples": [("q", "")]}, "each example must be a pair"),
        ({"inputs": "a", "instructions": 3}, "instructions must be a str"),
        ({"inputs": "a", "context": []}, "context is empty"),
        ({"inputs": "a", "context": "b", "where": {"c": 1}}, "where= select sources of an index"),
    ],
)
def test_an_invalid_argument_is_refused_with_the_cure(
    ask: AnsweringPipeline, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        ask(**arguments)


@pytest.mark.parametrize("task", ["answering", "question-answering", "document-question-answering",
                                  "visual-question-answering"])  # fmt: skip
def test_it_is_found_by_each_of_its_task_names(index: Index, task: str) -> None:
    made = multimodal.pipeline(task, index=index.path, space=index.space)
    assert type(made) is AnsweringPipeline and made.index.path == index.path
    assert multimodal.pipeline(task, model=index).index is index


def test_it_answers_from_a_given_context_without_an_index() -> None:
    ask = multimodal.pipeline("question-answering")
    answer = ask(
        question="How long is the bridge?", context=["The bridge is 800 m long.", "The hall is old."]
    )
    assert answer.text == "The bridge is 800 m long."
    with pytest.raises(InvalidInput, match="there is nothing to answer from"):
        ask("How long is the bridge?")


def test_an_empty_index_refuses(index: Index, tmp_path: Path) -> None:
    empty = Index.create(tmp_path / "empty", index.space)
    answer = AnsweringPipeline(empty)("How high is the water tower?")
    assert (answer.refused, answer.reason, list(answer.hits)) == (True, "not found", [])


# --- the functions --------------------------------------------------------------------------------


def test_terms_are_stems_without_function_words_and_accents() -> None:
    assert extractive.tokenise("How many apples did the parseHeader_function count at Café?") == [
        "appl", "parsehead", "pars", "header", "function", "count", "cafe",
    ]  # fmt: skip
    assert extractive.tokenise("The ship sank and was left") == extractive.tokenise("ships sink, leave")
    assert extractive.language_of("Wo ist der Schlüssel?") == "german"
    assert extractive.tokenise("Wo sind die Häuser?", "german") == ["haus"]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It rained. It snowed!", ["It rained.", "It snowed!"]),
        ("Dr. Holm paid 3.50 euros. Why?", ["Dr. Holm paid 3.50 euros.", "Why?"]),
        ("- milk\n- eggs\n\nEnd", ["- milk", "- eggs", "End"]),
        ("雨が降る。雪も降る。", ["雨が降る。", "雪も降る。"]),
        ("no full stop", ["no full stop"]),
        ("  \n ", []),
    ],
)
def test_a_text_is_split_into_sentences(text: str, sentences: list[str]) -> None:
    assert [text[start:end] for start, end in extractive.split_sentences(text)] == sentences


def test_rare_words_count_more_and_unknown_ones_count_against() -> None:
    idf = extractive.inverse_frequencies([["tower", "high"], ["tower"], ["tower", "soup"]])
    assert extractive.coverage(["soup"], ["tower"], idf) == 0
    assert extractive.coverage(["soup", "tower"], ["soup"], idf) > 0.5
    assert extractive.coverage(["soup", "zebra"], ["soup"], idf) < 0.5
    assert extractive.coverage([], ["soup"], idf) == 0


@pytest.mark.parametrize(
    ("question", "kind", "answer", "other"),
    [
        ("When was it painted?", "time", "It was painted in 1987.", "It was painted green."),
        ("How many onions?", "number", "Fry six of them.", "Fry them for six minutes, since 1990."),
        ("How much stock?", "number", "Add 300 grams.", "Add four eggs."),
        ("How much does it cost?", "money", "It is 20 a month.", "It weighs 20 kilos."),
        ("How long does it take?", "duration", "Ten minutes.", "It takes an onion."),
        ("How long is the bridge?", "duration", "from one end to the other", "It is made of 3 arches."),
        ("How long is the wall?", "duration", "It has 900 metres.", "It has 900 bricks."),
        ("How old is Emma?", "age", "Emma is seven years old.", "Emma has seven cats."),
        ("Where is the bench?", "place", "It is behind the shed.", "It is painted at most once."),
        ("How heavy is it?", "mass", "It has 3 tonnes.", "It has 3 wheels."),
        ("At what temperature?", "temperature", "Bake it at 180 degrees.", "Bake it in the oven."),
        ("How often?", "frequency", "Twice in winter.", "In winter."),
        ("What colour is it?", "colour", "The door is green.", "The door is open."),
        ("Who called?", "name", "It was Tom.", "It was in May."),
        ("Why is it closed?", "reason", "It is closed because of rain.", "It is closed."),
        ("Is it open?", None, "", "It is open."),
    ],
)
def test_the_words_of_a_question_say_what_kind_of_answer_it_wants(
    question: str, kind: str | None, answer: str, other: str
) -> None:
    assert answer_types.answer_type(question) == kind
    assert answer_types.has_answer_type(answer, kind, question) is (kind is not None)
    assert not answer_types.has_answer_type(other, kind, question)


def test_the_number_of_a_count_stands_before_its_noun() -> None:
    assert answer_types.counts_the_noun("It has seven small windows.", "How many windows are there?") is True
    assert answer_types.counts_the_noun("It is seven metres high.", "How many windows are there?") is False
    assert answer_types.counts_the_noun("It has seven windows.", "How high is it?") is None


def test_two_sentences_that_answer_together_are_chosen() -> None:
    text = (
        "The bicycle computer is grey. Hold the left key to erase a trip. Rinse it. The battery is a CR2032."
    )
    idf = extractive.inverse_frequencies([extractive.tokenise(text), ["trip"], ["key"]])
    spans = extractive.choose_sentences("What battery does the bicycle computer need?", text, idf)
    quotes = [text[start:end] for start, end in spans]
    assert quotes == ["The bicycle computer is grey.", "The battery is a CR2032."]


def test_sentences_without_what_is_asked_for_are_less_relevant() -> None:
    chunk = extractive.RankedChunk(0, 0.8, 0.8, words=0.8, coverage_margin=0.5)
    question, idf = "How much did the vessel cost?", {"": 1.0}

    def relevance(quote: str) -> float:
        return answerability.relevance(answerability.gather_evidence(question, [quote], chunk, idf))

    assert 0 < relevance("The vessel was new.") < relevance("The vessel was 20 euros.") < 1


@pytest.mark.parametrize(
    ("question", "answer", "other"),
    [
        ("How many members does the club have?", "The club has 40 members.", "Members of the club pay 40."),
        (
            "What does error 05 of the lens mean?",
            "Error 05 of the lens: clean it.",
            "Error 02 of the lens: clean it.",
        ),
        ("When was the tower painted?", "The tower was painted in 1987.", "The tower was climbed in 1987."),
    ],
)
def test_another_count_number_or_verb_than_asked_for_is_less_relevant(
    question: str, answer: str, other: str
) -> None:
    chunk = extractive.RankedChunk(0, 0.8, 0.8, words=0.8, coverage_margin=0.5)

    def relevance(quote: str) -> float:
        return answerability.relevance(answerability.gather_evidence(question, [quote], chunk, {"": 1.0}))

    assert relevance(other) < relevance(answer)


def test_a_name_counts_less_where_the_verb_is_missing_and_a_number_where_nothing_says_it_is_money() -> None:
    chunk = extractive.RankedChunk(0, 0.8, 0.8, words=0.8, coverage_margin=0.5)

    def evidence(question: str, quote: str) -> answerability.Evidence:
        return answerability.gather_evidence(question, [quote], chunk, {"": 1.0})

    lacking = evidence("Who repaired the tower?", "The tower is known to Tom Brown.")
    assert (lacking.lacks_first, lacking.lacks_two) == (1, 0)
    assert evidence("Who repaired the tower?", "Tom Brown repaired the tower.").lacks_first == 0
    assert evidence("Who repaired the clock of the tower?", "It is known to Tom Brown.").lacks_two == 1
    assert evidence("What does the ticket cost?", "The ticket is 20 euros.").states_money == 1
    assert evidence("What does the ticket cost?", "The ticket is for 20.").states_money == 0
    assert evidence("How old is the ticket?", "It costs 20 euros.").states_money == 0


def test_words_that_a_text_says_otherwise_lose_more_similarity_than_words_it_does_not_say(
    space: Space,
) -> None:
    text = "a photo of a red apple"
    missing = semantics.similarity_lost(space, "a red apple with a violin", "a red apple", text)
    present = semantics.similarity_lost(space, "a red apple with a violin", "with a violin", text)
    assert missing < present and present > 0
    assert semantics.similarity_lost(space, "an apple", "an apple", text) == 0
    assert semantics.similarity_lost(None, "an apple", "apple", text) == 0


def test_the_kind_of_a_space_is_measured_and_decides_by_which_coefficients_an_answer_is_judged(
    space: Space,
) -> None:
    assert not semantics.semantics_of(space).is_semantic  # the starter
    assert not semantics.NONE.is_semantic and semantics.Semantics(0.0, 0.1, 6.3).is_semantic
    chunk = extractive.RankedChunk(0, 0.8, 0.8, words=0.8, coverage_margin=0.5, affinity=9.0)
    question, quotes = "When was the tower painted?", ["The tower was painted in 1987."]
    evidence = answerability.gather_evidence(question, quotes, chunk, {"": 1.0}, space=space)
    assert evidence.is_semantic is False
    nearer = evidence._replace(affinity=2.0, affinity_margin=3.0)
    assert answerability.relevance(nearer) == answerability.relevance(evidence)  # words alone
    semantic = evidence._replace(is_semantic=True)
    assert answerability.relevance(semantic) != answerability.relevance(
        semantic._replace(affinity=2.0, affinity_margin=3.0)
    )


def test_an_affinity_is_measured_from_the_cosines_of_unrelated_texts(space: Space) -> None:
    measured = semantics.semantics_of(space)
    assert semantics.semantics_of(space) is measured
    assert measured.spread is not None and measured.affinity(measured.unrelated) == 0
    assert measured.affinity(measured.unrelated + 2 * measured.spread) == pytest.approx(2)
    assert measured.affinity(1.0) > 4  # of a text with itself
    images = space.select("image")
    assert semantics.semantics_of(images).affinity(1.0) == 0


def test_a_chunk_in_other_words_comes_first_by_a_high_affinity_alone() -> None:
    chunks = ["The doctor prescribed antibiotics.", "A physician is a doctor.", "It rained."]
    question, equal = "How did the physician cure it?", [0.0, 0.0, 0.0]
    assert extractive.rank_chunks(question, chunks, equal).chunks[0].position == 1
    best = extractive.rank_chunks(question, chunks, equal, [10.0, 3.0, 0.0]).chunks[0]
    assert (best.position, best.affinity_margin) == (0, 7.0)
    assert best.coverage_margin < 0  # another chunk has more of the question's words
