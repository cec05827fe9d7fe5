"""The table of a chart, and answers computed from it."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from multimodal.encoders.starter.omni.vocabulary import IS, PERCENT, ROW

LEAST_ALIKE = 0.66  # similarity (difflib) of a name and a part of the question
LARGEST = r"largest|highest|biggest|greatest|most|maximum|max|tallest|top"
SMALLEST = r"smallest|lowest|least|minimum|min|shortest|fewest|bottom"


@dataclass(frozen=True)
class ChartTable:
    """What a chart shows.

    Attributes:
        rows: Name in lower case and value of each item, in the order of the axis, or anticlockwise from the right.
        unit: "%" for a pie, else empty.
    """

    rows: tuple[tuple[str, int], ...]
    unit: str = ""

    @classmethod
    def parse(cls, text: str) -> ChartTable | None:
        """The table of the decoder's text; None if that is not a table."""
        header, *parts = text.split(ROW)
        rows = []
        for part in parts:
            name, _, value = part.partition(IS)
            if not name.strip() or not value.isdigit():
                return None
            rows.append((name.strip(), int(value)))
        return cls(tuple(rows), PERCENT if header == PERCENT else "") if rows else None

    def __str__(self) -> str:
        return "\n".join(f"{name}: {value}{self.unit}" for name, value in self.rows)

    def answer(self, question: str) -> str | None:
        """Answers a question about the table.

        Questions: the table itself, the value of an item, the largest or smallest item, the number of items, the sum
        or mean of all values, and the difference of two items.

        Args:
            question: In English.

        Returns:
            The answer; None for any other question, or one about an item that is not in the table.
        """
        words = re.findall(r"[a-z0-9']+", question.lower())
        asked = " ".join(words)
        named = self._named(words)
        if "table" in words or asked in {"read", "read the chart", "describe the chart"}:
            return str(self)
        if re.search(r"\b(difference|how much (more|less|higher|lower|larger|smaller))\b", asked):
            return self._shown(abs(named[0][1] - named[1][1])) if len(named) == 2 else None
        if len(named) == 1:
            return self._shown(named[0][1])
        if re.search(rf"\b({LARGEST})\b", asked):
            return max(self.rows, key=lambda row: row[1])[0]
        if re.search(rf"\b({SMALLEST})\b", asked):
            return min(self.rows, key=lambda row: row[1])[0]
        values = [value for _, value in self.rows]
        if re.search(r"\b(how many|number of|count)\b", asked):
            return str(len(values))
        if re.search(r"\b(sum|total|altogether)\b", asked):
            return self._shown(sum(values))
        if re.search(r"\b(mean|average)\b", asked):
            return self._shown(round(sum(values) / len(values), 2))
        return None

    def _shown(self, value: float) -> str:
        return f"{value:g}{self.unit}"

    def _named(self, words: list[str]) -> list[tuple[str, int]]:
        """The rows that a question names; a name with a wrong letter counts if no name is written exactly."""
        spans = {
            " ".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, min(i + 3, len(words)) + 1)
        }
        content = {span for span in spans if not set(span.split()) & COMMON}
        exact = [row for row in self.rows if row[0] in content]
        if exact:
            return exact
        alike = [
            (max(difflib.SequenceMatcher(None, row[0], span).ratio() for span in content), row)
            for row in self.rows
            if content
        ]
        likeness, row = max(alike, key=lambda pair: pair[0], default=(0.0, self.rows[0]))
        return [row] if likeness >= LEAST_ALIKE else []


COMMON_WORDS = (
    "what is the value of for a an which are how many much was in at to has have does do show shows chart bar line pie "
    "slice item items and between difference than more less higher lower largest highest biggest greatest most maximum "
    "smallest lowest least minimum sum total mean average number count read table percentage percent share"
)
COMMON = frozenset(COMMON_WORDS.split(" "))
