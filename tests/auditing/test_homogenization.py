"""The comparison of the starter with its children continues where it stopped; chart and card show every model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import multimodal as mm
from multimodal.auditing.checks.answers import UNTRAINED
from multimodal.auditing.checks.common import Subject
from multimodal.auditing.material import Material
from recipes.starter.figures import card, homogenization, homogenization_chart, relatives


@pytest.fixture
def subject(starter: mm.Space, material: Material) -> Subject:
    few = Material(images=material.images[:10], image_names=material.image_names[:10])
    return Subject(starter, few, (3,))


def test_a_model_that_has_answered_is_not_built_again(
    subject: Subject, tmp_path: Path, few_kinds: None
) -> None:
    built: list[str] = []
    names = [str(name) for name in subject.material.image_names]

    def make() -> Any:
        built.append("colours")
        return relatives.Colours(list(zip(subject.material.images, names, strict=True)))

    first, second = (homogenization.answers_of("colours", make, subject, tmp_path) for _ in range(2))
    assert built == ["colours"]
    assert first == second
    right = homogenization.layout(subject)
    assert first["undamaged"] >= 0.8
    assert np.mean(np.array(first["labels"]["colours"]) == right.targets) < 1
    assert {str(kind) for kind in right.strata} == {
        f"{kind} 3" for kind in ("salt and pepper", "jpeg", "occlusion", "rotation", "dark lines")
    }


def test_a_small_network_learns_the_vectors_of_the_starter(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "NET_STEPS": 40,
        "NET_BATCH": 20,
        "VIEWS_NET": 8,
        "WIDTHS": (3, 8, 8, 16, 16),
    }.items():
        monkeypatch.setattr(relatives, name, value)
    named = list(zip(subject.material.images, map(str, subject.material.image_names), strict=True))[:5]
    answers = relatives.SmallNet(named, subject.space)([mm.Image(pixels) for pixels, _ in named])
    right = [answer == name for answer, (_, name) in zip(answers, named, strict=True)]
    assert np.mean(right) > 0.5  # chance is 0.2


def test_the_chart_and_the_card_show_every_model(subject: Subject, tmp_path: Path, few_kinds: None) -> None:
    right = homogenization.layout(subject)
    rng = np.random.default_rng(0)
    wrong = rng.random(len(right.targets)) < 0.6
    names = [*homogenization.CHILDREN, *homogenization.INDEPENDENT, UNTRAINED]
    right.given["starter"] = np.where(wrong, np.roll(right.targets, 1), right.targets)
    for place, name in enumerate(names):
        right.given[name] = np.where(
            wrong,
            np.roll(right.targets, 1 if name in homogenization.CHILDREN else 2 + place % 3),
            right.targets,
        )
    models = {
        name: {
            "shares the base": name in homogenization.CHILDREN,
            **homogenization.pair_figures(right, name),
        }
        for name in names
    }
    assert models["few-shot probe"]["same wrong answer"][0] == 1.0
    assert models[UNTRAINED]["same wrong answer"][0] == 0.0
    share = {"observed": 0.3, "independent within strata": 0.01}
    figures = {
        "items": 50,
        "pictures": 10,
        "starter fails": 0.6,
        "models": models,
        "all fail": {"children": share, "independent": share},
    }
    homogenization_chart.draw(figures, right, subject, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").stat().st_size > 10_000
    (tmp_path / "homogenization.json").write_text(json.dumps(figures))
    marks = card.shared_failures(tmp_path)
    assert all(f"| {name} |" in marks["SHARED FAILURES"] for name in names)
    assert marks["ALL FAIL CHILDREN"].startswith("30.0 % (1.0 % if")
