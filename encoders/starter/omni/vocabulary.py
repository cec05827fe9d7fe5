"""The tokens of the decoder: characters, marks of a table, and one token per task.

A chart is written as its axis and its rows, `0:100|may:25|june:40`; a pie with printed percentages as
`%|may:25|june:75`. While it writes, the decoder points at the image: `pointed` says at which characters.
"""

from __future__ import annotations

from multimodal.encoders.starter.parameters import ALPHABET

ROW, IS, PERCENT = "|", ":", "%"
CHARACTERS = ALPHABET + ROW + IS + PERCENT + "-.&+"  # the token of a character is 1 + its index
END = 0
TASKS = ("describe", "table", "transcribe")
FIRST_TASK = 1 + len(CHARACTERS)
N_TOKENS = FIRST_TASK + len(TASKS)
MARK = FIRST_TASK  # class of the chart eye: the top of a bar or a point of a line
N_CLASSES = FIRST_TASK + 1  # of the chart eye: 0 for nothing, the characters, MARK
MAX_TOKENS = 112

TOKEN_OF = {character: 1 + index for index, character in enumerate(CHARACTERS)}
TASK_TOKEN = {task: FIRST_TASK + index for index, task in enumerate(TASKS)}


def to_tokens(text: str) -> list[int]:
    """The tokens of a text; characters without one are left out."""
    return [TOKEN_OF[character] for character in text if character in TOKEN_OF]


def to_text(tokens: list[int]) -> str:
    """The text of tokens; tokens of tasks and the end are left out."""
    return "".join(CHARACTERS[token - 1] for token in tokens if 1 <= token < FIRST_TASK)


def pointed(text: str) -> bool:
    """Whether the decoder points at the image at the last character of a table's text.

    At digits of the axis, at letters of names, at the `:` behind a name if the chart has an axis (there it points at
    the top of the bar), and at the digits of printed percentages.
    """
    header, *rows = text.split(ROW)
    last = text[-1]
    if not rows:
        return last.isdigit() or last == "-"
    name, colon, value = rows[-1].partition(IS)
    if not name or last == " ":
        return False
    if not colon:
        return True
    is_pie = header == PERCENT
    return is_pie if value else not is_pie
