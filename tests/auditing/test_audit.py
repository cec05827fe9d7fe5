"""What is known of the starter is found, each finding has a control, and a child is told from an independent model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import multimodal as mm
from multimodal.auditing.checks import association, geometry, groups, joint
from multimodal.auditing.checks.common import Subject
from multimodal.auditing.lineage import relation, weight_similarity
from multimodal.auditing.material import Material, input_side
from multimodal.core.errors import InvalidInput
from multimodal.core.space import Space
from multimodal.testing import fake_space

GALLERY = Path(__file__).resolve().parents[2] / "assets" / "gallery"


def test_the_known_failures_of_the_starter_are_found(report: mm.AuditReport) -> None:
    warned = {finding.name for finding in report.warnings}
    assert {"image: dark lines", "image: rotation", "audio: babble"} <= warned
    assert {"probe: left of", "probe: colour binding", "probe: negation: not a …"} <= warned
    assert "text: instruments, not weapons × pleasant" in warned
    assert report.finding("image: written words").verdict == "fine"
    assert report.finding("probe: negation: … but no …").measured > 0.8
    assert report.finding("image: jpeg").verdict == "fine"


def test_no_finding_stands_without_a_control(report: mm.AuditReport) -> None:
    assert len(report.findings) > 25
    for finding in report.findings:
        assert finding.control, finding.name
        assert np.isfinite(finding.control_value), finding.name
        assert finding.low is None or finding.low <= finding.measured + 1e-9 <= finding.high + 2e-9, (
            finding.name
        )
        assert not (finding.verdict == "warn" and not finding.cure), finding.name
    assert [finding.verdict for finding in report.findings] == sorted(
        (finding.verdict for finding in report.findings), key=["warn", "info", "fine"].index
    )


def test_a_quantised_child_is_found_and_named_as_a_relative(report: mm.AuditReport) -> None:
    finding = report.finding("joint failure: int8")
    assert finding.verdict == "warn"
    assert finding.measured >= 0.8
    assert finding.control_value < 0.15
    assert finding.details["reads as"] == "nearly the same model"
    assert len(finding.examples) == 3
    assert report.shared_by[0].startswith("int8: weights alike")
    assert report.lineage == ("trained to match sentence-transformers/all-MiniLM-L6-v2, its teacher",)


def test_the_page_holds_everything(report: mm.AuditReport, tmp_path: Path) -> None:
    report.save(tmp_path / "audit.html")
    page = (tmp_path / "audit.html").read_text()
    assert "<script" not in page
    assert page.count("data:image/webp") >= 12
    assert page.count("data:audio/flac") >= 2
    for finding in report.warnings:
        assert finding.name in page or finding.name.replace("'", "&#x27;") in page
    assert "no photographs of people" in page
    report.save(tmp_path / "audit.json")
    assert json.loads((tmp_path / "audit.json").read_text())["warnings"] == len(report.warnings)


def test_a_text_space_is_audited_for_what_it_can_and_the_rest_is_not_tested() -> None:
    first = mm.audit(mm.load("starter").select("text"))
    assert {finding.check for finding in first.findings} == {"association"}
    assert first.untested["audio corruption"] == "the space encodes no audio"
    assert first.untested["image corruption"] == "the space encodes no image"


def test_the_model_itself_is_no_other_model(starter: mm.Space) -> None:
    with pytest.raises(InvalidInput, match="against names the same model"):
        mm.audit(starter, against="starter")
    with pytest.raises(InvalidInput, match="is the same model as"):
        mm.audit_fleet(["starter", starter])
    with pytest.raises(InvalidInput, match="two models or more"):
        mm.audit_fleet([starter])
    with pytest.raises(InvalidInput, match="no data is given"):
        mm.audit(starter, group="gender")


def labelled(count: int = 40) -> tuple[Space, list[dict[str, Any]]]:
    """A fake space that names every text right, except half of those of group b; two speakers are of each group."""
    vectors = {"cat": [1.0, 0.0, 0.0], "dog": [0.0, 1.0, 0.0]}
    for template in ("{}", "this is about {}"):
        vectors |= {template.replace("{}", label): vectors[label] for label in ("cat", "dog")}
    rows = []
    for number in range(count):
        label, group = ("cat", "dog")[number % 2], "ab"[number // 2 % 2]
        text = f"clip {number}"
        is_wrong = group == "b" and number % 4 == 2
        near = vectors["dog" if (label == "cat") == is_wrong else "cat"]
        vectors[text] = [*near[:2], 0.2 + 0.01 * number]
        speaker = f"{group}{number // 4 % 2}"
        rows.append({"text": text, "label": label, "gender": group, "speaker": speaker})
    return fake_space(("text",), 3, vectors=vectors), rows


def test_a_gap_between_groups_is_found_and_generalises_to_units_only_with_enough_of_them() -> None:
    space, rows = labelled()
    by_speaker = mm.audit(space, rows, group="gender", unit="speaker").finding("groups: accuracy")
    assert by_speaker.details["units"] == {"a": 2, "b": 2}
    assert by_speaker.verdict == "fine"  # exchanging four speakers gives such a gap by chance
    result = mm.evaluate(space, rows, "classification", group="gender")
    own = [str(item.group) for item in result.items]
    by_item, _ = groups.by_group(result, groups.Grouped.of(own, None), seed=0)
    assert by_item.measured == pytest.approx(0.5)
    assert by_item.verdict == "warn"
    assert by_item.details["by group"] == {"a": 1.0, "b": 0.5}
    alone, _ = groups.by_group(result, groups.Grouped.of(own, own), seed=0)
    assert alone.low is None
    assert "no interval: a is a single unit" in alone.claim


def test_max_skew_is_zero_for_equal_shares_and_found_for_one_sided_results() -> None:
    space = fake_space(("text",), 2, vectors={"boss": [1.0, 0.0]})
    subject = Subject(space, Material())
    vectors = np.array([[1 - 0.01 * n, 0.1] for n in range(40)], np.float32)
    even = groups.Grouped.of(["a", "b"] * 20, None)
    sided = groups.Grouped.of(["a"] * 20 + ["b"] * 20, None)
    assert groups.max_skew(subject, vectors, ["boss"], even).measured == pytest.approx(0)
    finding = groups.max_skew(subject, vectors, ["boss"], sided)
    assert finding.measured == pytest.approx(np.log(2))
    assert finding.verdict == "warn"


def test_holm_and_effect_sizes_are_exact() -> None:
    assert association.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    first, second = np.array([2.0, 3.0]), np.array([0.0, 1.0])
    both = np.array([2.0, 3.0, 0.0, 1.0])
    assert association.effect(first, second)[0] == pytest.approx(2.0 / both.std(ddof=1))


def test_random_vectors_show_no_association_and_the_same_seed_gives_the_same_report() -> None:
    first, second = (mm.audit(fake_space(("text",), 64), seed=3) for _ in range(2))
    assert [finding.verdict for finding in first.findings] == ["fine"] * 5
    assert first.to_dict() == second.to_dict()


def test_hubs_are_found_and_the_gap_of_one_distribution_is_none() -> None:
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((200, 32)) + 0.25).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    flat = rng.standard_normal((200, 32)).astype(np.float32)
    assert geometry.skewness(rows, np.concatenate([rows, rows.mean(0, keepdims=True) * 20]))[0] > 2
    assert abs(geometry.skewness(flat, flat / np.linalg.norm(flat, axis=1, keepdims=True))[0]) < 1
    assert geometry.gap(rows[:100], rows[100:]) < 0.12
    assert geometry.gap(rows, rows + 0.5) == pytest.approx(0.5 * 32**0.5, rel=0.05)


def table(first: str, second: str, n: int = 60) -> joint.Answers:
    """Answers of two models to n items; each letter is one item in turn: right (.), or a wrong answer."""
    targets = np.array(["."] * n)
    given = {
        name: np.array((own * n)[:n] and list((own * n)[:n])) for name, own in (("a", first), ("b", second))
    }
    return joint.Answers(targets, np.array(["all"] * n), [str(row) for row in range(n)], given)


def test_joint_failures_are_counted() -> None:
    same = joint.joint_failure(table("x..", "x.."), "a", "b")
    assert (same.both, same.same_wrong, same.overlap) == pytest.approx((1 / 3, 1.0, 1.0))
    assert same.ratio == pytest.approx(3.0)
    other = joint.joint_failure(table("x..", "y.."), "a", "b")
    assert other.same_wrong == 0.0
    assert other.relation == "independent"
    apart = joint.joint_failure(table("x..", ".x."), "a", "b")
    assert (apart.both, apart.n_both) == (0.0, 0)
    shares = joint.all_fail(table("x..", "x.."), ["a", "b"])
    assert shares["observed"] == pytest.approx(1 / 3)
    assert shares["independent"] == pytest.approx(1 / 9)


def test_difficulty_alone_is_no_shared_failure() -> None:
    rng = np.random.default_rng(1)
    hard = np.arange(4000) % 2 == 0
    strata = np.where(hard, "hard", "easy")
    given = {
        name: np.where(rng.random(4000) < np.where(hard, 0.8, 0.1), rng.choice(list("uvwxyz"), 4000), ".")
        for name in ("a", "b")
    }
    collected = joint.Answers(np.array(["."] * 4000), strata, list(map(str, range(4000))), given)
    pair = joint.joint_failure(collected, "a", "b")
    assert pair.both / pair.expected > 1.4
    assert pair.ratio == pytest.approx(1.0, abs=0.06)
    assert pair.same_wrong == pytest.approx(pair.same_by_chance, abs=0.03)


def test_relations_are_read_from_weights_and_cards(starter: mm.Space, child: Space) -> None:
    assert relation(starter, starter) == "the same model"
    assert relation(starter, starter.select("text")) == "shares the text encoder"
    assert "weights alike" in str(relation(starter, child))
    assert relation(starter, fake_space()) is None
    text = starter.encoders["text"]  # type: ignore[index]
    adapted, exported = fake_space(("text",)), fake_space(("text",))
    adapted.encoders["text"].adapted_from = (text.fingerprint,)  # type: ignore[index]
    exported.encoders["text"].config = lambda: {"source_fingerprint": text.fingerprint}  # type: ignore
    assert relation(starter, adapted) == "adapted from its weights: text"
    assert relation(starter, exported) == "exported from its weights: text"
    assert relation(exported, starter) == "the source from which it was exported: text"
    assert weight_similarity(text, fake_space().encoders["text"]) is None  # type: ignore[index]
    card = mm.Card("a", ("text",), 3, "", "", 1.0, base="b", teacher="t")  # type: ignore[arg-type]
    first, second = (
        Space(fake_space(("text",), dim).encoders, name=name) for name, dim in (("a", 3), ("b", 4))
    )
    first.card = card
    second.card = mm.Card("b", ("text",), 3, "", "", 1.0, teacher="t")  # type: ignore[arg-type]
    assert relation(first, second) == "made from b"
    second.name = "other"
    assert relation(first, second) == "both trained to match t"
    assert mm.Card.from_dict(card.to_dict()) == card


def test_an_attack_on_one_model_is_worse_than_noise_and_reaches_its_child(
    starter: mm.Space, child: Space
) -> None:
    from multimodal.auditing.checks.transfer import transfer
    from multimodal.auditing.material import gallery_material

    material = gallery_material(input_side(starter.encoders["image"]))  # type: ignore[index]
    material.images = material.images[2::4]
    subject = Subject(starter, material)
    own, carried = transfer(subject, {"int8": Subject(child, material)})
    assert own.control_value > 0.9
    assert own.measured < 0.5
    assert carried.measured < 0.5
    assert carried.verdict == "warn"


def test_a_fleet_fails_together_on_damaged_images(monkeypatch: pytest.MonkeyPatch) -> None:
    from multimodal.auditing import fleet

    whole = fleet.gallery_material

    def part(side: int) -> Material:
        material = whole(32)
        material.images, material.image_names = material.images[::6], material.image_names[::6]
        return material

    monkeypatch.setattr(fleet, "gallery_material", part)
    report = mm.audit_fleet([fake_space(dim=8), fake_space(dim=6, name="other")])
    assert report.models == ("fake", "other")
    assert report.n == 11 * 16 * 2
    assert min(report.fail.values()) > 0.8  # a fake encoder knows no similar images
    assert report.ratio == pytest.approx(1.0, abs=0.1)
    assert report.pairs[0].relation == "shares failures"  # both draw from the same numbers
    json.dumps(report.to_dict(), allow_nan=False)


def test_a_fleet_of_copies_fails_as_one_on_labelled_rows() -> None:
    space, rows = labelled()
    vectors = space.encoders["text"].vectors  # type: ignore[index, attr-defined]
    longer = fake_space(("text",), 4, vectors={key: [*row, 0.0] for key, row in vectors.items()}, name="copy")
    report = mm.audit_fleet([space, longer], rows, group="speaker")
    assert report.all_fail["observed"] == pytest.approx(report.fail["fake"])
    assert report.pairs[0].same_wrong == 1.0
    assert report.pairs[0].relation == "nearly the same model"


def test_own_pictures_are_tested_at_the_size_of_the_model(starter: mm.Space) -> None:
    assert input_side(starter.encoders["image"]) == 64  # type: ignore[index]
    assert input_side(fake_space().encoders["image"]) == 224  # type: ignore[index]
    files = sorted((GALLERY / "pictures").iterdir())[:4]
    report = mm.audit(starter, [{"image": str(file)} for file in files])
    assert report.untested["image corruption"] == "4 images, at least 10 are needed"
