"""What a base hands on: children repeat its report and its wrong answers, and unrelated models do not."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import multimodal as mm
from multimodal.auditing.checks import answers, association, corruption, joint
from multimodal.auditing.checks.common import Subject
from multimodal.auditing.material import Material
from multimodal.auditing.models import open_model, open_others
from multimodal.core.errors import InvalidInput
from multimodal.core.space import Space
from multimodal.testing import fake_space
from recipes.starter.figures.relatives import rounded


@pytest.fixture(scope="module")
def children(starter: mm.Space, material: Material) -> dict[str, Any]:
    """The starter with rounded weights, and a classifier on its vectors."""
    named = [
        (mm.Image(pixels), str(name))
        for pixels, name in zip(material.images, material.image_names, strict=True)
    ]
    return {"6 bits": rounded(starter, 6), "probe": mm.adapt.few_shot(starter, named)}


def test_children_by_rounding_and_by_a_probe_share_wrong_answers_and_an_untrained_model_does_not(
    starter: mm.Space, material: Material, children: dict[str, Any], few_kinds: None
) -> None:
    given = {"starter": starter, **children}
    collected = answers.damaged_labels(given, Subject(starter, material, (3, 5)))
    pairs = {name: joint.joint_failure(collected, "starter", name) for name in (*children, answers.UNTRAINED)}
    independent = pairs.pop(answers.UNTRAINED)
    assert independent.same_wrong < 0.15
    for name, pair in pairs.items():
        assert pair.same_low is not None and pair.same_low > 2 * independent.same_wrong, name
        assert pair.matched > independent.matched, name
    opened = open_others(starter, list(children.values()))
    assert [other.is_classifier for other in opened.values()] == [False, True]
    related: dict[str, str | None] = dict.fromkeys(children, "known")
    findings = answers.joint_findings(collected, Subject(starter, material), "starter", related)
    assert {finding.verdict for finding in findings} == {"warn"}
    assert "expected" in next(iter(findings[0].details["worst kinds"].values()))
    assert findings[1].examples[0].answer_after.startswith("both: ")


@pytest.mark.parametrize("check", ["image_corruption", "audio_corruption", "associations"])
def test_the_report_of_a_child_is_that_of_its_base(
    report: mm.AuditReport, child: Space, material: Material, few_kinds: None, check: str
) -> None:
    run = getattr(corruption, check, None) or association.associations
    own = run(Subject(child, material))
    assert len(own) >= 5
    for finding in own:
        base = report.finding(finding.name)
        assert finding.measured == pytest.approx(base.measured, abs=0.08), finding.name
    same = [finding.verdict == report.finding(finding.name).verdict for finding in own]
    assert sum(same) >= len(same) - 1  # one may lie at its limit


def outcomes(n: int, rates: tuple[float, float], *, shared: float, seed: int = 0) -> joint.Answers:
    """Two models that fail at these rates: on the same draw for a share of the items, else independently."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n)
    draws = [np.where(rng.random(n) < shared, hard, rng.random(n)) for _ in rates]
    given = {
        name: np.where(draw < rate, rng.choice(list("uvwxyz"), n), ".")
        for name, draw, rate in zip("ab", draws, rates, strict=True)
    }
    return joint.Answers(np.array(["."] * n), np.array(["all"] * n), list(map(str, range(n))), given)


def test_the_ratio_at_matched_accuracy_does_not_depend_on_how_weak_the_other_model_is() -> None:
    weak = joint.joint_failure(outcomes(6000, (0.15, 0.65), shared=0.0), "a", "b")
    assert weak.matched == pytest.approx(1.0, abs=0.1)
    assert weak.matched_low < 1 < weak.matched_high
    same = joint.joint_failure(outcomes(6000, (0.15, 0.15), shared=1.0), "a", "b")
    assert same.matched == pytest.approx(1 / same.fail_first, rel=0.1)
    whole = outcomes(6000, (0.15, 0.15), shared=0.8)
    kept = np.flatnonzero(
        whole.wrong("b") | (np.arange(6000) % 6 == 0)
    )  # the second model looks weak on these
    part = joint.Answers(
        whole.targets[kept],
        whole.strata[kept],
        [whole.units[row] for row in kept],
        {name: given[kept] for name, given in whole.given.items()},
    )
    close, far = (joint.joint_failure(collected, "a", "b") for collected in (whole, part))
    assert far.fail_second > 3 * close.fail_second
    assert close.ratio > 2 * far.ratio  # which cannot exceed 1 / far.fail_second
    assert far.odds_ratio == pytest.approx(close.odds_ratio, rel=0.25)


def test_what_an_unrelated_text_model_agrees_with_is_meaning_and_not_inherited() -> None:
    """Two models know the same meaning; the image tower has also the leaning of one of them."""
    rng = np.random.default_rng(0)
    names = [f"thing {number}" for number in range(60)]
    meaning, leaning, other = rng.standard_normal((3, len(names)))
    axes = association.AXES.values()
    signs = {word: sign for axis in axes for sign, own in zip((1.0, -1.0), axis, strict=True) for word in own}
    vectors: dict[str, dict[str, list[float]]] = {"first": {}, "second": {}}
    for word in (*signs, *association.UNRELATED):
        side = signs.get(word, 0.0)
        for name in vectors:
            vectors[name][word] = [side, *rng.standard_normal(6)]
    for number, thing in enumerate(names):
        noise = rng.standard_normal(6) * 0.3
        vectors["first"][thing] = [meaning[number] + 2 * leaning[number], *noise]
        vectors["second"][thing] = [meaning[number] + 2 * other[number], *noise]
    first, second = (fake_space(("text",), 7, vectors=own, name=name) for name, own in vectors.items())
    images = first.encode(names)
    subject = Subject(first, Material(), permutations=10)
    alone = association._inherited(subject, "image", names, images, {})
    controlled = association._inherited(
        subject, "image", names, images, {"second": Subject(second, Material())}
    )
    assert {finding.verdict for finding in alone + controlled} == {"warn"}
    assert controlled[0].control == "r with the text tower of second"
    assert alone[0].measured == controlled[0].measured > controlled[0].control_value + 0.3
    shared = second.encode(
        names
    )  # an image tower that agrees with the unrelated model as much as with its own
    fair = association._inherited(
        subject, "image", names, images + shared, {"second": Subject(second, Material())}
    )
    assert {finding.verdict for finding in fair} == {"fine"}
    assert fair[0].details["r beyond the unrelated model"][1] < 0


def test_only_spaces_and_classifiers_on_spaces_are_audited(
    starter: mm.Space, children: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput, match="a classifier on a space, got int"):
        open_model(3)
    with pytest.raises(InvalidInput, match="an audit is of a space, got Classifier"):
        mm.audit(children["probe"])
    assert replace(open_model(starter), name="x").is_classifier is False
