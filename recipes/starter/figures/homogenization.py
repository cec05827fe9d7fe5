"""Failures that models share with the starter: its descendants, and models without a common base.

    python -m recipes.starter.figures.homogenization --work RUNS --wordnet /usr/share/wordnet

All name the damaged pictures of the gallery. For each pair of the starter with another model, the figures are the share
of the same wrong answer among the items that both get wrong, and the joint failures at matched accuracy. The answers of
each model are kept in the work folder, so that an interrupted run continues, until the towers of the starter change.
Without `--wordnet`, the comparison with an unrelated text model is left out. Writes homogenization.json and the chart.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import multimodal as mm
from multimodal.auditing.checks.answers import UNTRAINED, damaged_labels
from multimodal.auditing.checks.association import inheritance
from multimodal.auditing.checks.common import Subject
from multimodal.auditing.checks.joint import Answers, all_fail, joint_failure
from multimodal.auditing.material import gallery_material
from multimodal.core.space import Space
from recipes.starter.figures import homogenization_chart, relatives
from recipes.starter.figures.glosses import GlossEncoder

OWN = "starter"
ASSETS = Path(__file__).parents[3] / "assets" / "starter"
CHART = Path(__file__).parents[3] / "docs" / "images" / "homogenization.png"
FILE = "homogenization.json"
SEVERITIES = (3, 5)
CHILDREN: dict[str, Callable[[Space, relatives.Named, Path], Any]] = {
    "int8 export": lambda space, named, work: relatives.exported(space, work / "int8"),
    "4-bit weights": lambda space, named, work: relatives.rounded(space, 4),
    "adapter (LoRA)": lambda space, named, work: relatives.fine_tuned(space, named, "lora"),
    "fine-tuned": lambda space, named, work: relatives.fine_tuned(space, named, "full"),
    "few-shot probe": lambda space, named, work: relatives.probe(space, named),
    "distilled CNN": lambda space, named, work: relatives.SmallNet(named, space),
}
INDEPENDENT: dict[str, Callable[[Space, relatives.Named, Path], Any]] = {
    "CNN from scratch": lambda space, named, work: relatives.SmallNet(named),
    "colour histograms": lambda space, named, work: relatives.Colours(named),
}


def answers_of(name: str, make: Callable[[], Any], subject: Subject, work: Path) -> dict[str, Any]:
    """What a model answers to every damaged picture, from the work folder if it has answered before.

    Args:
        name: Of the model.
        make: Builds it.
        subject: The starter, with the pictures.
        work: The folder of the answers.

    Returns:
        {"labels", "undamaged", the share of undamaged pictures named right, "core seconds", "cosine with the starter"
        of the vectors of undamaged pictures, for spaces}.
    """
    towers = [subject.space.encoders[modality].fingerprint for modality in ("image", "text")]  # type: ignore[index]
    file = work / f"answers {name}.json"
    if file.exists():
        kept: dict[str, Any] = json.loads(file.read_text())
        if kept["towers"] == towers:
            return kept
    began = time.process_time()
    model = make()
    made = time.process_time() - began
    collected = damaged_labels({name: model}, subject, with_untrained=name == OWN)
    items = [mm.Image(pixels) for pixels in subject.material.images]
    names = [str(own) for own in subject.material.image_names]
    clean = mm.evaluate(
        model,
        [{"image": item, "label": label} for item, label in zip(items, names, strict=True)],
        "classification",
        draws=1,
    )
    result: dict[str, Any] = {
        "towers": towers,
        "labels": {key: values.tolist() for key, values in collected.given.items()},
        "undamaged": clean.figures["accuracy"].value,
        "core seconds": round(made, 1),
    }
    if isinstance(model, Space):
        cosines = (model.encode(items) * subject.clean_images()).sum(1)
        result["cosine with the starter"] = round(float(cosines.mean()), 4)
    file.write_text(json.dumps(result))
    print(json.dumps({name: result["undamaged"], "core seconds": result["core seconds"]}), flush=True)
    return result


def layout(subject: Subject) -> Answers:
    """The right answers, kinds of damage and pictures of the items that `damaged_labels` asks about."""

    def nothing(items: Any) -> list[str]:
        return [str(subject.material.image_names[0])] * len(items)

    return replace(damaged_labels({"": nothing}, subject, with_untrained=False), given={})


def pair_figures(answers: Answers, name: str) -> dict[str, Any]:
    """The joint failures of the starter with another model; shares and ratios with their 95 % intervals."""
    pair = joint_failure(answers, OWN, name)
    return {
        "fail": round(pair.fail_second, 4),
        "both fail": round(pair.both, 4),
        "both fail, expected within kinds": round(pair.expected_stratified, 4),
        "ratio within kinds": ends(pair.ratio, pair.ratio_low, pair.ratio_high),
        "ratio at matched accuracy": ends(pair.matched, pair.matched_low, pair.matched_high),
        "both wrong, items": pair.n_both,
        "same wrong answer": ends(pair.same_wrong, pair.same_low, pair.same_high),
        "same wrong answer by chance": round(pair.same_by_chance, 4),
    }


def ends(*values: float | None) -> list[float | None]:
    """A value and its interval, rounded."""
    return [None if value is None else round(value, 4) for value in values]


def inherited(subject: Subject, wordnet: Path) -> dict[str, Any]:
    """How much of its text tower's associations each tower repeats, beside an unrelated text model."""
    unrelated = Space([GlossEncoder(wordnet)], name="glosses of WordNet")
    return {
        finding.name: {
            "r": ends(finding.measured, finding.low, finding.high),
            "r with the unrelated model": round(finding.control_value, 4),
            **finding.details,
            "verdict": finding.verdict,
        }
        for finding in inheritance(subject, {unrelated.name: Subject(unrelated, subject.material)})
    }


def measure(work: Path, wordnet: Path | None) -> tuple[dict[str, Any], Answers, Subject]:
    """All figures, the answers they are of, and the starter with its pictures."""
    space, material = mm.load("starter"), gallery_material(relatives.SIDE)
    names = [str(name) for name in material.image_names]
    named = list(zip(material.images, names, strict=True))
    subject = Subject(space, material, SEVERITIES)
    makers: Mapping[str, Callable[[], Any]] = {
        OWN: lambda: space,
        **{
            name: lambda maker=maker: maker(space, named, work)  # type: ignore[misc]
            for name, maker in (CHILDREN | INDEPENDENT).items()
        },
    }
    kept = {name: answers_of(name, make, subject, work) for name, make in makers.items()}
    given = {key: np.array(labels) for own in kept.values() for key, labels in own["labels"].items()}
    answers = replace(layout(subject), given=given)
    models = {
        name: {
            "shares the base": name in CHILDREN,
            **pair_figures(answers, name),
            **{
                key: kept[name][key]
                for key in ("undamaged", "cosine with the starter", "core seconds")
                if key in kept.get(name, {})
            },
        }
        for name in (*CHILDREN, *INDEPENDENT, UNTRAINED)
    }
    groups = {"children": [*CHILDREN], "independent": [*INDEPENDENT, UNTRAINED]}
    figures: dict[str, Any] = {
        "pictures": len(names),
        "items": len(answers.targets),
        "severities": list(SEVERITIES),
        "image tower": space.encoders["image"].fingerprint,  # type: ignore[index]
        "starter fails": round(float(answers.wrong(OWN).mean()), 4),
        "undamaged": kept[OWN]["undamaged"],
        "models": models,
        "all fail": {
            title: {key: ends(value)[0] for key, value in all_fail(answers, [OWN, *members]).items()}
            for title, members in groups.items()
        },
    }
    if wordnet is not None:
        figures["inherited"] = inherited(subject, wordnet)
    return figures, answers, subject


def main() -> None:
    """Writes and prints the figures, and draws them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="the folder of the answers")
    parser.add_argument("--wordnet", type=Path, help="the folder with data.noun")
    parser.add_argument("--output", type=Path, default=ASSETS, help=f"the folder of {FILE}")
    parser.add_argument("--chart", type=Path, default=CHART, help="the PNG")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    figures, answers, subject = measure(given.work, given.wordnet)
    text = json.dumps(figures, indent=1, ensure_ascii=False) + "\n"
    (given.output / FILE).write_text(text)
    homogenization_chart.draw(figures, answers, subject, given.chart)
    print(text)


if __name__ == "__main__":
    main()
