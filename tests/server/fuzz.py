"""Random requests after the schema of a server: python -m tests.server.fuzz URL [--cases 2000]

Each operation gets as many cases. No answer may have a status of 500 or above (but 503, which says to try again), and
every refusal must have the shape of OpenAI's errors.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.request
import warnings
from collections import Counter
from typing import Any

MAX_S = 120


def check(case: Any, url: str, statuses: Counter[int]) -> None:
    """Sends a case, and raises AssertionError for an answer that no request may get."""
    answer = case.call(base_url=url, timeout=MAX_S)
    statuses[answer.status_code] += 1
    described = (
        f"{case.method} {case.formatted_path} {case.body!r:.300}: {answer.status_code} {answer.text[:300]}"
    )
    assert answer.status_code < 500 or answer.status_code == 503, described
    if answer.status_code >= 400 and case.method != "HEAD":
        assert answer.headers["content-type"] == ["application/json"], described
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}, described
        assert "Traceback" not in answer.text, described


def run(url: str, n_cases: int, skip: tuple[str, ...] = ("/mcp",)) -> Counter[int]:
    """Fuzzes a running server.

    Args:
        url: Where it listens.
        n_cases: In all, spread over the operations.
        skip: Paths that are left out; MCP has a protocol and errors of its own.

    Returns:
        How often each status was answered.
    """
    import hypothesis
    import schemathesis

    with urllib.request.urlopen(f"{url}/openapi.json") as answer:
        schema = schemathesis.openapi.from_dict(json.load(answer))
    operations = [result.ok() for result in schema.get_all_operations()]
    operations = [operation for operation in operations if operation.path not in skip]
    statuses: Counter[int] = Counter()
    settings = hypothesis.settings(
        max_examples=max(1, n_cases // len(operations)), deadline=None, database=None, derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck), phases=[hypothesis.Phase.generate],
    )  # fmt: skip
    for operation in operations:
        test = hypothesis.given(case=operation.as_strategy())(lambda case: check(case, url, statuses))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            settings(test)()
    return statuses


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--cases", type=int, default=2000)
    parsed = parser.parse_args()
    counted = run(parsed.url, parsed.cases)
    print(f"{counted.total():,} cases: {dict(sorted(counted.items()))}")
    sys.exit(0)
