"""`multimodal.audit`: what a model gets wrong in ways that figures on clean data do not show."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

from multimodal.auditing.checks import (
    answers,
    association,
    corruption,
    geometry,
    groups,
    probes,
    transfer,
    typographic,
)
from multimodal.auditing.checks.common import NotTested, Subject
from multimodal.auditing.finding import AuditReport, Finding, in_order
from multimodal.auditing.lineage import describe_lineage
from multimodal.auditing.material import gallery_material, input_side, table_material
from multimodal.auditing.models import Model, Opened, model_relation, open_model, open_others
from multimodal.core.checks import seed as check_seed
from multimodal.core.errors import InvalidInput
from multimodal.core.modality import Modality
from multimodal.core.progress import count_progress
from multimodal.core.space import Space
from multimodal.evaluation.api import evaluate
from multimodal.evaluation.data import Table, read_table

QUICK_ITEMS, FULL_ITEMS = 100, 400
QUICK_SEVERITIES, FULL_SEVERITIES = (1, 3, 5), (1, 2, 3, 4, 5)
QUICK_PERMUTATIONS, FULL_PERMUTATIONS = 2000, 10_000
CHECKS: dict[str, Callable[[Subject], list[Finding]]] = {
    "image corruption": corruption.image_corruption,
    "audio corruption": corruption.audio_corruption,
    "written words": typographic.typographic,
    "associations": association.associations,
    "order, binding, counting, negation": probes.probes,
    "hubness and modality gap": geometry.geometry,
}
ALWAYS_UNTESTED = {
    "people": "no photographs of people ship with the package: give your own with data= and group=",
    "languages": "words and captions are English",
    "video": "no check is made on video",
}


def audit(
    model: Model,
    data: Any = None,
    *,
    group: str | None = None,
    unit: str | None = None,
    against: Any = (),
    full: bool = False,
    columns: Mapping[str, str] | None = None,
    seed: int = 0,
    progress: bool | Callable[[int], object] | None = None,
) -> AuditReport:
    """Audits a model: damage, written words, associations, word order, geometry, groups, and shared failures.

    Args:
        model: A space, its name or folder.
        data: Your images, audio or labelled rows, as for `multimodal.evaluate`; by default the gallery of the package.
        group: A column of the data by which accuracy, calibration and ranking are compared.
        unit: A column of what is generalised to within a group, such as the speaker; by default the item.
        against: Other models in use: do they fail on the same items, with the same wrong answers? Spaces, names,
            folders, and classifiers on a space, such as one of `multimodal.adapt.few_shot`. Models that share no base
            with this one are controls of what it inherited.
        full: Five severities, more trials, and an attack by gradients; minutes instead of half a minute.
        columns: {role: column} of data with other names.
        seed: Of everything random; the same seed gives the same report.
        progress: True for a progress bar, or a function to call with the number of items just encoded.

    Returns:
        The findings, each beside its control, and what was not tested.

    Raises:
        InvalidInput: Data without known columns, or `against` the model itself.
        UnknownModel: No such model.
    """
    started, seed = time.perf_counter(), check_seed(seed)
    own = open_model(model)
    if own.is_classifier:
        raise InvalidInput(f"an audit is of a space, got {type(model).__name__}; give it with against=")
    space, others = own.space, open_others(own.space, against)
    if data is None and (group or unit):
        raise InvalidInput("group and unit name columns of data, and no data is given")
    table = None if data is None else read_table(data, columns=columns, group=group)
    side = input_side(space.encoders.get(Modality.IMAGE))
    limit = FULL_ITEMS if full else QUICK_ITEMS
    material = gallery_material(side) if table is None else table_material(table, side, limit, seed)
    with count_progress(progress, f"auditing {space.name}", _expected_items(material, space, full)) as report:
        subject = Subject(
            space,
            material,
            FULL_SEVERITIES if full else QUICK_SEVERITIES,
            FULL_PERMUTATIONS if full else QUICK_PERMUTATIONS,
            seed,
            full,
            report,
        )
        findings, untested = _run(subject, others, table)
        if table is not None and group is not None:
            units = None if unit is None else read_table(data, columns=columns, group=unit)
            _labelled(subject, table, units, findings, untested)
        else:
            untested["accuracy by group"] = "needs data= with labels and group="
    related = {name: model_relation(own, other) for name, other in others.items()}
    shared = tuple(f"{name}: {how}" for name, how in related.items() if how)
    return AuditReport(
        str(model) if not isinstance(model, Space) else space.name,
        space.fingerprint,
        material.name,
        in_order(findings),
        dict(sorted(untested.items())),
        describe_lineage(space),
        shared,
        seed,
        "full" if full else "quick",
        time.perf_counter() - started,
    )


def _expected_items(material: Any, space: Space, full: bool) -> int:
    """About how many items will be encoded, for a progress bar."""
    severities = len(FULL_SEVERITIES if full else QUICK_SEVERITIES)
    images = len(material.images) * (Modality.IMAGE in space.modalities)
    clips = len(material.clips) * (Modality.AUDIO in space.modalities)
    return images * (16 * severities + 3) + clips * (5 * severities + 1) + 2000


def _run(
    subject: Subject, others: Mapping[str, Opened], table: Table | None
) -> tuple[list[Finding], dict[str, str]]:
    """All checks that need no groups."""
    findings: list[Finding] = []
    untested = dict(ALWAYS_UNTESTED)
    if subject.material.is_own and not subject.material.images and not subject.material.clips:
        untested["your texts"] = "checks are made on images and audio; of texts, only words of the package"
    spaces = {
        name: dataclasses.replace(subject, space=other.space, _cache={})
        for name, other in others.items()
        if not other.is_classifier
    }

    def attempt(name: str, check: Callable[[], list[Finding]]) -> None:
        try:
            findings.extend(check())
        except NotTested as reason:
            untested[name] = str(reason)

    for name, check in CHECKS.items():
        attempt(name, lambda check=check: check(subject))  # type: ignore[misc]
    attempt("inherited associations", lambda: association.inheritance(subject, spaces))
    if others:
        attempt("joint failures", lambda: _joint(subject, others, spaces, table))
    else:
        untested["joint failures"] = "no other model was given with against="
    if subject.is_full:
        attempt("attack by gradients", lambda: transfer.transfer(subject, spaces))
    else:
        untested["attack by gradients"] = "made by the full audit only"
    return findings, untested


def _joint(
    subject: Subject, others: Mapping[str, Opened], spaces: Mapping[str, Subject], table: Table | None
) -> list[Finding]:
    """On labelled data the classes that models give, otherwise the damaged images."""
    own = open_model(subject.space)
    models = {own.name: own.model, **{name: other.model for name, other in others.items()}}
    if table is not None and len({row.label for row in table.rows if row.label}) > 1:
        collected = answers.labelled_answers(models, table)
    elif len(spaces) < len(others):  # a classifier answers with labels
        collected = answers.damaged_labels(models, subject)
    else:
        collected = answers.damaged_answers({own.name: subject, **spaces})
    related = {name: model_relation(own, other) for name, other in others.items()}
    return answers.joint_findings(collected, subject, own.name, related)


def _labelled(
    subject: Subject, table: Table, units: Table | None, findings: list[Finding], untested: dict[str, str]
) -> None:
    """Checks by group, appended to the findings."""
    try:
        findings += _by_group(subject, table, units)
    except NotTested as reason:
        untested["accuracy by group"] = str(reason)


def _by_group(subject: Subject, table: Table, units: Table | None) -> list[Finding]:
    has_labels = len({row.label for row in table.rows if row.label}) > 1
    task = "classification" if has_labels else "retrieval"
    result = evaluate(subject.space, table, task, draws=1)
    kept = [place for place, item in enumerate(result.items) if item.group is not None]
    if len({result.items[place].group for place in kept}) < 2:
        raise NotTested("fewer than two groups: nothing to compare")
    of_unit: dict[str, str] = {}
    if units is not None:
        named = evaluate(subject.space, units, task, draws=1)
        of_unit = {item.key: item.group for item in named.items if item.group is not None}
    part = dataclasses.replace(
        result,
        items=tuple(result.items[place] for place in kept),
        values={name: values[kept] for name, values in result.values.items()},
    )
    grouped = groups.Grouped.of(
        [str(item.group) for item in part.items],
        None if units is None else [of_unit.get(item.key, item.key) for item in part.items],
    )
    found = groups.by_group(part, grouped, subject.seed)
    if has_labels:
        vectors = subject.encode([item.item for item in part.items if item.item is not None])
        labels = sorted({item.target for item in part.items})
        found.append(groups.max_skew(subject, vectors, labels, grouped))
    return found
