"""Several models in use together: on how many items do all of them fail?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from multimodal.auditing.checks.answers import damaged_answers, damaged_labels, labelled_answers
from multimodal.auditing.checks.common import NotTested, Subject
from multimodal.auditing.checks.joint import JointFailure, all_fail, joint_failure
from multimodal.auditing.material import gallery_material, input_side, table_material
from multimodal.auditing.models import Opened, model_relation, open_model
from multimodal.core.checks import seed as check_seed
from multimodal.core.errors import InvalidInput, UnsupportedModality
from multimodal.core.modality import Modality
from multimodal.evaluation.data import read_table

SEVERITIES = (3, 5)
ITEMS = 100


@dataclass(frozen=True)
class FleetReport:
    """How the failures of several models go together.

    Attributes:
        models: Their names.
        data: What they were tested on.
        n: The number of items.
        fail: The share of wrong answers of each.
        all_fail: {"observed", "low", "high", "independent", "independent within strata"}.
        pairs: Each pair of models.
        relations: {(first, second) as "first, second": what is known of their weights}.
    """

    models: tuple[str, ...]
    data: str
    n: int
    fail: dict[str, float]
    all_fail: dict[str, float | None]
    pairs: tuple[JointFailure, ...]
    relations: dict[str, str] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """Joint failures of all models, against independence within strata; None where that is 0."""
        observed, expected = self.all_fail["observed"], self.all_fail["independent within strata"]
        return observed / expected if observed is not None and expected else None

    def to_dict(self) -> dict[str, Any]:
        """Converts the report to plain values.

        Returns:
            JSON values.
        """
        return {
            "models": list(self.models),
            "data": self.data,
            "n": self.n,
            "fail": {name: round(share, 4) for name, share in self.fail.items()},
            "all_fail": {name: None if v is None else round(v, 4) for name, v in self.all_fail.items()},
            "ratio": None if self.ratio is None else round(self.ratio, 3),
            "pairs": [vars(pair) | {"relation": pair.relation} for pair in self.pairs],
            "relations": self.relations,
        }


def audit_fleet(
    models: Sequence[Any],
    data: Any = None,
    *,
    group: str | None = None,
    columns: Mapping[str, str] | None = None,
    names: Sequence[str] | None = None,
    seed: int = 0,
) -> FleetReport:
    """Measures the single point of failure of models that are used together.

    Args:
        models: At least two: spaces, names, folders, or classifiers on a space.
        data: Labelled rows, as for `multimodal.evaluate`; by default damaged images of the gallery.
        group: The column of the unit that is generalised to.
        columns: {role: column} of data with other names.
        names: Of the models in the report; by default their own.
        seed: Of everything random.

    Returns:
        The share of items on which all fail, against independence, and the pairs.

    Raises:
        InvalidInput: Fewer than two models, or one of them twice.
        UnsupportedModality: A model encodes no images, where there is no data.
    """
    seed = check_seed(seed)
    opened: dict[str, Opened] = {}
    for place, model in enumerate(models):
        other = open_model(model)
        name = names[place] if names else other.name
        twin = next((own for own, known in opened.items() if known.fingerprint == other.fingerprint), None)
        if twin is not None:
            raise InvalidInput(f"{name!r} is the same model as {twin!r}: name each once")
        while name in opened:
            name += " (2)"
        opened[name] = other
    if len(opened) < 2:
        raise InvalidInput(f"a fleet is two models or more, got {len(opened)}")
    try:
        answers, source = _answers(opened, data, group, columns, seed)
    except NotTested as reason:
        raise UnsupportedModality(
            f"{reason}; give labelled data of a modality that all models encode"
        ) from None
    shown = list(opened)
    return FleetReport(
        tuple(shown),
        source,
        len(answers.targets),
        {name: float(answers.wrong(name).mean()) for name in shown},
        all_fail(answers, shown, seed),
        tuple(joint_failure(answers, first, second, seed) for first, second in combinations(shown, 2)),
        {
            f"{first}, {second}": how
            for first, second in combinations(shown, 2)
            if (how := model_relation(opened[first], opened[second]))
        },
    )


def _answers(
    opened: Mapping[str, Opened],
    data: Any,
    group: str | None,
    columns: Mapping[str, str] | None,
    seed: int,
) -> tuple[Any, str]:
    table = None if data is None else read_table(data, columns=columns, group=group)
    models = {name: other.model for name, other in opened.items()}
    if table is not None and len({row.label for row in table.rows if row.label}) > 1:
        return labelled_answers(models, table), table.name
    side = max(input_side(other.space.encoders.get(Modality.IMAGE)) for other in opened.values())
    material = gallery_material(side) if table is None else table_material(table, side, ITEMS, seed)
    subjects = {name: Subject(other.space, material, SEVERITIES, seed=seed) for name, other in opened.items()}
    source = f"{material.name}, damaged"
    if any(other.is_classifier for other in opened.values()):
        return damaged_labels(models, next(iter(subjects.values())), with_untrained=False), source
    return damaged_answers(subjects, with_untrained=False), source
