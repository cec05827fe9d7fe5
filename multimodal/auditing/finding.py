"""What an audit finds: each finding has a measured value beside a control."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from multimodal.core.items import Item

Verdict = Literal["warn", "fine", "info"]
ORDER: dict[str, int] = {"warn": 0, "info": 1, "fine": 2}


@dataclass(frozen=True)
class Example:
    """One item of a finding, before and after.

    Attributes:
        before: The item as it was, or None.
        after: The item as it was shown to the model.
        answer_before: What the model answered to the first.
        answer_after: What it answered to the second.
    """

    before: Item | None = field(compare=False, repr=False)
    after: Item | None = field(compare=False, repr=False)
    answer_before: str
    answer_after: str


@dataclass(frozen=True)
class Finding:
    """One thing that was measured.

    Attributes:
        name: As "image: rotation".
        check: The kind of check: "corruption", "typographic", "association", "inheritance", "probe", "geometry",
            "groups", "joint failure", "transfer".
        verdict: "warn" if beyond the limit, "fine" if not, "info" where there is no limit.
        claim: One sentence for people.
        measured: The value.
        low: The lower end of its 95 % interval, or None.
        high: The upper end.
        control: What it is compared with, in words.
        control_value: The value of the control.
        limit: When it warns, in words.
        n: The number of items.
        cure: What to do about it.
        examples: At most three.
        details: Further numbers.
    """

    name: str
    check: str
    verdict: Verdict
    claim: str
    measured: float
    low: float | None
    high: float | None
    control: str
    control_value: float
    limit: str
    n: int
    cure: str = ""
    examples: tuple[Example, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Converts the finding to plain values; of examples, the answers.

        Returns:
            JSON values.
        """
        values = {name: value for name, value in vars(self).items() if name != "examples"}
        numbers = ("measured", "low", "high", "control_value")
        values |= {name: _rounded(values[name]) for name in numbers}
        answers = [{"before": own.answer_before, "after": own.answer_after} for own in self.examples]
        return values | {"examples": answers}


@dataclass(frozen=True)
class AuditReport:
    """The result of `multimodal.audit`.

    Attributes:
        model: The name of the model.
        fingerprint: Identifies its weights.
        data: What it was tested on.
        findings: Warnings first.
        untested: {what: why}: what this report says nothing about.
        lineage: Sentences about the models this one is made from.
        shared_by: Models that share weights or vectors with it, and so its failures.
        seed: Of everything random; the same seed gives the same report.
        grade: "quick" or "full".
        seconds: Wall-clock time.
    """

    model: str
    fingerprint: str
    data: str
    findings: tuple[Finding, ...]
    untested: dict[str, str]
    lineage: tuple[str, ...] = ()
    shared_by: tuple[str, ...] = ()
    seed: int = 0
    grade: str = "quick"
    seconds: float = field(default=0.0, compare=False)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that are beyond their limits."""
        return tuple(finding for finding in self.findings if finding.verdict == "warn")

    def finding(self, name: str) -> Finding:
        """The finding of a name.

        Args:
            name: As in `findings`.

        Returns:
            The finding.

        Raises:
            KeyError: There is none.
        """
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(f"no finding {name!r}; found: {', '.join(own.name for own in self.findings)}")

    def to_dict(self) -> dict[str, Any]:
        """Converts the report to plain values, the same for the same seed.

        Returns:
            JSON values.
        """
        return {
            "model": self.model,
            "fingerprint": self.fingerprint,
            "data": self.data,
            "grade": self.grade,
            "seed": self.seed,
            "warnings": len(self.warnings),
            "findings": [finding.to_dict() for finding in self.findings],
            "untested": self.untested,
            "lineage": list(self.lineage),
            "shared_by": list(self.shared_by),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the report: JSON if the name ends in .json, otherwise a page.

        Args:
            path: The file.
        """
        target = Path(path)
        if target.suffix.lower() == ".json":
            text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        else:
            from multimodal.auditing.page import audit_page

            text = audit_page(self)
        target.write_text(text, encoding="utf-8")

    def __repr__(self) -> str:
        n = len(self.warnings)
        return f"AuditReport({self.model!r}: {n} of {len(self.findings)} findings are warnings)"


def in_order(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Warnings first, otherwise in the order of the checks."""
    return tuple(sorted(findings, key=lambda finding: ORDER[finding.verdict]))


def _rounded(value: float | None) -> float | None:
    return None if value is None or value != value else round(float(value), 4)
