"""The generated instructions of recipes/align."""

from __future__ import annotations

import random

from recipes.align import instruction_data as data


def test_right_answers_comply_or_refuse_and_wrong_ones_do_neither() -> None:
    rng = random.Random(0)
    for instruction in data.instructions():
        right, wrong = data.right_answer(instruction, rng), data.wrong_answer(instruction, rng)
        assert right != wrong
        assert data.refuses(right) == instruction.marked
        if instruction.marked:
            assert not data.refuses(wrong)
        else:
            assert data.complies(instruction, right)
            assert not data.complies(instruction, wrong)


def test_held_out_instructions_are_not_trained_on_and_hold_traps() -> None:
    learned, held = data.split(0)
    assert not set(learned) & set(held)
    assert {True, False} == {instruction.marked for instruction in held}
    assert any(instruction.category in data.TRAPS for instruction in held)
    assert {instruction.form for instruction in held} == set(data.FORMS)


def test_the_plain_text_holds_no_instruction() -> None:
    texts = data.corpus(300, 0)
    assert not any(wording.split("{x}")[0].strip() in text for text in texts for wording in data.WORDINGS
                   if len(wording.split("{x}")[0]) > 8)  # fmt: skip
