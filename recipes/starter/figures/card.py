"""Step 14: the model card, its figures taken from figures.json and from the files themselves, never typed by hand."""

from __future__ import annotations

import json
from pathlib import Path

HERE = Path(__file__).parent
TOWERS = ("audio", "image", "text")


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


def captions(found: dict[str, float]) -> str:
    """The share of exact captions of each kind."""
    lines = ["| caption of | exact, % |", "|---|---:|"]
    return "\n".join([*lines, *(f"| {title} | {share} |" for title, share in found.items())])


def reading(found: dict[str, dict[str, float]]) -> str:
    """Letters wrong and names right for each kind of voice."""
    lines = [
        "| names said by | clips | letters wrong, open, % | letters alone, % | names right, closed, % |",
        "|---|---:|---:|---:|---:|",
    ]
    keys = ("clips", "open CER", "open CER, letters alone", "closed")
    for title, figures in found.items():
        lines.append(" | ".join([f"| {title}", *(str(figures[key]) for key in keys)]) + " |")
    return "\n".join(lines)


def minutes(log: Path) -> str:
    """How long a training took, by its last line."""
    return f"{json.loads(log.read_text().splitlines()[-1])['seconds'] / 60:.0f}"


def decoders(work: Path, folder: Path) -> dict[str, str]:
    """What card.md says of captions and transcripts."""
    told = json.loads((folder / "caption_figures.json").read_text())
    read = json.loads((folder / "transcription_figures.json").read_text())
    return {
        "CAPTIONS": captions(told["exact captions, percent"]),
        "CAPTION SIZE": f"{(folder / 'caption.safetensors').stat().st_size / 1e6:.2f} MB",
        "CAPTION PARAMETERS": f"{told['parameters'] / 1e6:.1f} M",
        "CAPTION MINUTES": minutes(work / "captions.log.jsonl"),
        "CAPTION MILLISECONDS": str(told["milliseconds a caption"]),
        "READING": reading({title: one for title, one in read.items() if isinstance(one, dict)}),
    }


def drawings(work: Path, folder: Path) -> dict[str, str]:
    """What card.md says of the generator."""
    told = json.loads((folder / "figures.json").read_text())
    rows = [
        "| drawn from | tower R@1, % | tower R@5, % | pixels R@1, % |",
        "|---|---:|---:|---:|",
        *(
            f"| {title} | {one['tower R@1']} | {one['tower R@5']} | {one['pixels R@1']} |"
            for title, one in told["re-encoded, percent"].items()
        ),
    ]
    mixed = ["| never together | what is right | % | of the artist's own, % |", "|---|---|---:|---:|"]
    for title in ("colour + thing", "two things"):
        own = told["combinations, percent"][f"{title}, the artists' own"]
        mixed += [
            f"| {title} | {what} | {share} | {own[what]} |"
            for what, share in told["combinations, percent"][title].items()
        ]
    weights = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    return {
        "DRAWN": "\n".join(rows),
        "MIXED": "\n".join(mixed),
        "DRAW SIZE": f"{weights / 1e6:.1f} MB",
        "DRAW PARAMETERS": " and ".join(
            f"{n / 1e6:.1f} M ({part})" for part, n in told["parameters"].items()
        ),
        "DRAW SECONDS": str(told["seconds a drawing"]),
        "SEEDS DIFFER": str(told["mean difference"]["two seeds"]),
        "THINGS DIFFER": str(told["mean difference"]["two things"]),
        "CODEC MINUTES": minutes(work / "draw_codec.log.jsonl"),
        "DECODER MINUTES": minutes(work / "draw_decoder.log.jsonl"),
        "PRIOR MINUTES": minutes(work / "draw_prior.log.jsonl"),
        "FLOW MINUTES": minutes(work / "draw_flow.log.jsonl"),
    }


def run(work: Path, folder: Path) -> None:
    """Fill card.md and write it as the space folder's README.md."""
    figures = json.loads((work / "figures.json").read_text())
    sensible = set((HERE.parent / "data" / "sensible.txt").read_text().splitlines())
    free, fresh = figures["free phrases"], figures["fresh phrases"]
    sizes = {tower: (folder / f"{tower}.safetensors").stat().st_size / 1e6 for tower in TOWERS}
    text = (HERE / "card.md").read_text()
    for mark, value in {
        "CONCEPTS": str(figures["concepts"]),
        "TABLE": table(figures["recall"]),
        "DISTORTIONS": ", ".join(f"{kind} {share:.0f}" for kind, share in figures["by distortion"].items()),
        "PHRASES": phrases(free, sensible),
        "SENSIBLE": f"{len(sensible & set(free))} of {len(free)}",
        "FRESH PHRASES": phrases(fresh, sensible),
        "FRESH SENSIBLE": f"{len(sensible & set(fresh))} of {len(fresh)}",
        "MEETING": minutes(work / "meet_image.log.jsonl"),
        "ACCENTS": minutes(work / "accents.log.jsonl"),
        "SIZES": ", ".join(f"{tower} {size:.2f} MB" for tower, size in sizes.items()),
        "TOTAL": f"{sum(sizes.values()):.2f} MB",
        **decoders(work, folder / "decoders"),
        **drawings(work, folder / "decoders" / "draw"),
    }.items():
        text = text.replace("{" + mark + "}", value)
    (folder / "README.md").write_text(text)
