"""Step 17: the model card. All figures come from figures.json and the weights, none is typed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TOWERS = ("audio", "image", "text")


def table(recall: dict[str, dict[str, float]]) -> str:
    """Recall, one row per kind of query and gallery, with intervals where the figures have them."""
    lines = ["| query → gallery | R@1 | R@5 | R@10 |", "|---|---:|---:|---:|"]
    has_intervals = any("R@1 low" in figures for figures in recall.values())
    if has_intervals:
        lines = [f"{lines[0]} 95 % interval of R@1 |", f"{lines[1]}---|"]
    for title, figures in recall.items():
        values = [str(figures[f"R@{k}"]) for k in (1, 5, 10)]
        if "R@1 low" in figures:
            values.append(f"{figures['R@1 low']} – {figures['R@1 high']}")
        elif has_intervals:
            values.append("")
        lines.append(f"| {title.replace('->', '→')} | {' | '.join(values)} |")
    return "\n".join(lines)


def phrases(answers: dict[str, list[str]], sensible: set[str]) -> str:
    """Free phrases with their five nearest images, and whether the judge rated one as sensible."""
    lines = ["| phrase | five nearest images | sensible |", "|---|---|---|"]
    for phrase, names in answers.items():
        lines.append(f"| {phrase} | {', '.join(names)} | {'yes' if phrase in sensible else 'no'} |")
    return "\n".join(lines)


def by_class(sounds: dict[str, Any]) -> str:
    """Percent of the sounds of each class with their name first, and what the others are taken for."""
    taken: dict[str, list[str]] = {}
    for pair in sounds["confused"]:
        taken.setdefault(pair["sound"], []).append(f"{pair['taken for']} {pair['percent']}")
    perfect = [name for name, share in sounds["by class"].items() if share == 100]
    lines = ["| class | named correctly, % | taken for, % |", "|---|---:|---|"]
    for name, share in sounds["by class"].items():
        if share < 100:
            lines.append(f"| {name} | {share} | {', '.join(taken.get(name, []))} |")
    lines.append(f"| the other {len(perfect)} | 100 | |")
    return "\n".join(lines) + f"\n\nThe other {len(perfect)}: {', '.join(perfect)}."


def captions(shares: dict[str, float]) -> str:
    """The share of exact captions, one row per input."""
    lines = ["| caption of | exact, % |", "|---|---:|"]
    return "\n".join([*lines, *(f"| {title} | {share} |" for title, share in shares.items())])


def reading(figures: dict[str, dict[str, float]]) -> str:
    """Character error rates and accuracy, one row per group of voices."""
    lines = [
        "| names spoken by | clips | wrong letters, open, % | letters alone, % | correct names, closed, % |",
        "|---|---:|---:|---:|---:|",
    ]
    keys = ("clips", "open CER", "open CER, letters alone", "closed")
    for title, row in figures.items():
        lines.append(" | ".join([f"| {title}", *(str(row[key]) for key in keys)]) + " |")
    return "\n".join(lines)


def minutes(log: Path) -> str:
    """The duration of a training run, from the last line of its log."""
    return f"{json.loads(log.read_text().splitlines()[-1])['seconds'] / 60:.0f}"


def decoders(work: Path, folder: Path) -> dict[str, str]:
    """The marks of captions and transcripts."""
    caption_figures = json.loads((folder / "caption_figures.json").read_text())
    transcription_figures = json.loads((folder / "transcription_figures.json").read_text())
    return {
        "CAPTIONS": captions(caption_figures["exact captions, percent"]),
        "CAPTION SIZE": f"{(folder / 'caption.safetensors').stat().st_size / 1e6:.2f} MB",
        "CAPTION PARAMETERS": f"{caption_figures['parameters'] / 1e6:.1f} M",
        "CAPTION MINUTES": minutes(work / "captions.log.jsonl"),
        "CAPTION MILLISECONDS": str(caption_figures["milliseconds a caption"]),
        "READING": reading(
            {title: row for title, row in transcription_figures.items() if isinstance(row, dict)}
        ),
    }


def audit(folder: Path) -> dict[str, str]:
    """The marks of the audit."""
    report = json.loads((folder / "audit.json").read_text())
    warnings = [finding for finding in report["findings"] if finding["verdict"] == "warn"]
    lines = ["| finding | value | 95 % interval | control |", "|---|---:|---|---:|"]
    for finding in warnings:
        interval = "none" if finding["low"] is None else f"{finding['low']:.2f} – {finding['high']:.2f}"
        value, control = f"{finding['measured']:.2f}", f"{finding['control_value']:.2f}"
        lines.append(f"| {finding['name']} | {value} | {interval} | {control} |")
    return {
        "AUDIT": "\n".join(lines),
        "AUDIT WARNINGS": str(len(warnings)),
        "AUDIT FINDINGS": str(len(report["findings"])),
        **shared_failures(folder),
    }


def shared_failures(folder: Path) -> dict[str, str]:
    """The marks of the models that were compared with the starter."""
    figures = json.loads((folder / "homogenization.json").read_text())
    lines = [
        "| model | base in common | fails, % | same wrong answer, % of the items that both get wrong "
        "| joint failures, × independence, at matched accuracy |",
        "|---|---|---:|---|---|",
    ]
    for name, row in figures["models"].items():
        same = "{:.0f} [{:.0f}, {:.0f}]".format(*(100 * end for end in row["same wrong answer"]))
        matched = "{:.2f} [{:.2f}, {:.2f}]".format(*row["ratio at matched accuracy"])
        base = "yes" if row["shares the base"] else "no"
        lines.append(f"| {name} | {base} | {100 * row['fail']:.1f} | {same} | {matched} |")
    return {
        "SHARED FAILURES": "\n".join(lines),
        "SHARED ITEMS": f"{figures['items']:,}",
        "SHARED PICTURES": str(figures["pictures"]),
        "SHARED OWN": f"{100 * figures['starter fails']:.1f}",
        **{
            f"ALL FAIL {title.upper()}": f"{100 * row['observed']:.1f} % "
            f"({100 * row['independent within strata']:.1f} % if independent within kinds of damage)"
            for title, row in figures["all fail"].items()
        },
    }


def drawings(work: Path, folder: Path) -> dict[str, str]:
    """The marks of the generator."""
    figures = json.loads((folder / "figures.json").read_text())
    rows = [
        "| generated from | tower R@1, % | tower R@5, % | pixels R@1, % |",
        "|---|---:|---:|---:|",
        *(
            f"| {title} | {row['tower R@1']} | {row['tower R@5']} | {row['pixels R@1']} |"
            for title, row in figures["re-encoded, percent"].items()
        ),
    ]
    combinations = ["| unseen combination | correct | % | artist's own images, % |", "|---|---|---:|---:|"]
    for title in ("colour + thing", "two things"):
        own = figures["combinations, percent"][f"{title}, the artists' own"]
        combinations += [
            f"| {title} | {criterion} | {share} | {own[criterion]} |"
            for criterion, share in figures["combinations, percent"][title].items()
        ]
    weights = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    return {
        "DRAWN": "\n".join(rows),
        "MIXED": "\n".join(combinations),
        "DRAW SIZE": f"{weights / 1e6:.1f} MB",
        "DRAW PARAMETERS": " and ".join(
            f"{n / 1e6:.1f} M ({part})" for part, n in figures["parameters"].items()
        ),
        "DRAW SECONDS": str(figures["seconds a drawing"]),
        "SEEDS DIFFER": str(figures["mean difference"]["two seeds"]),
        "THINGS DIFFER": str(figures["mean difference"]["two things"]),
        "CODEC MINUTES": minutes(work / "draw_codec.log.jsonl"),
        "DECODER MINUTES": minutes(work / "draw_decoder.log.jsonl"),
        "PRIOR MINUTES": minutes(work / "draw_prior.log.jsonl"),
        "FLOW MINUTES": minutes(work / "draw_flow.log.jsonl"),
    }


def run(work: Path, folder: Path) -> None:
    """Fills card.md and writes it as README.md of the space folder."""
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
        "PHOTOGRAPHS": table(figures["photographs"]),
        "SOUNDS": table(figures["sounds"]["recall"]),
        "SOUNDS SILENT": str(figures["sounds"]["empty transcripts, percent"]),
        "SOUND CLASSES": by_class(figures["sounds"]),
        "JOINT MINUTES": minutes(work / "meet_image.log.jsonl"),
        "ACCENTS": minutes(work / "accents.log.jsonl"),
        "SIZES": ", ".join(f"{tower} {size:.2f} MB" for tower, size in sizes.items()),
        "TOTAL": f"{sum(sizes.values()):.2f} MB",
        **decoders(work, folder / "decoders"),
        **drawings(work, folder / "decoders" / "draw"),
        **audit(folder),
    }.items():
        text = text.replace("{" + mark + "}", value)
    (folder / "README.md").write_text(text)
