"""Step 11: the model card, its figures taken from figures.json and from the files themselves, never typed by hand."""

from __future__ import annotations

import json
from pathlib import Path

HERE = Path(__file__).parent


def table(found: dict[str, dict[str, float]]) -> str:
    """One line a figure."""
    lines = ["| query → gallery | R@1 | R@5 | R@10 |", "|---|---:|---:|---:|"]
    for title, figures in found.items():
        lines.append(
            f"| {title.replace('->', '→')} | {figures['R@1']} | {figures['R@5']} | {figures['R@10']} |"
        )
    return "\n".join(lines)


def phrases(answers: dict[str, list[str]], sensible: set[str]) -> str:
    """The free phrases with their top five, and whether the judge found a sensible answer among them."""
    lines = ["| phrase | five nearest pictures | sensible |", "|---|---|---|"]
    for phrase, found in answers.items():
        lines.append(f"| {phrase} | {', '.join(found)} | {'yes' if phrase in sensible else 'no'} |")
    return "\n".join(lines)


def run(work: Path, folder: Path) -> None:
    """Fill card.md and write it as the space folder's README.md."""
    figures = json.loads((work / "figures.json").read_text())
    sensible = set((HERE / "sensible.txt").read_text().splitlines())
    free, fresh = figures["free phrases"], figures["fresh phrases"]
    minutes = json.loads((work / "meet_image.log.jsonl").read_text().splitlines()[-1])["seconds"] / 60
    sizes = {file.stem: file.stat().st_size / 1e6 for file in sorted(folder.glob("*.safetensors"))}
    text = (HERE / "card.md").read_text()
    for mark, value in {
        "CONCEPTS": str(figures["concepts"]),
        "TABLE": table(figures["recall"]),
        "DISTORTIONS": ", ".join(f"{kind} {share:.0f}" for kind, share in figures["by distortion"].items()),
        "PHRASES": phrases(free, sensible),
        "SENSIBLE": f"{len(sensible & set(free))} of {len(free)}",
        "FRESH PHRASES": phrases(fresh, sensible),
        "FRESH SENSIBLE": f"{len(sensible & set(fresh))} of {len(fresh)}",
        "MEETING": f"{minutes:.0f}",
        "SIZES": ", ".join(f"{tower} {size:.2f} MB" for tower, size in sizes.items()),
        "TOTAL": f"{sum(sizes.values()):.2f} MB",
    }.items():
        text = text.replace("{" + mark + "}", value)
    (folder / "README.md").write_text(text)
