"""The starter with rounded weights, and one quick audit, shared by the tests."""

import contextlib
from collections.abc import Iterator

import pytest

import multimodal as mm
from multimodal.auditing.material import Material, gallery_material, input_side
from multimodal.core.space import Space
from recipes.starter.figures.relatives import rounded

SOME_KINDS = ("salt and pepper", "jpeg", "occlusion", "rotation", "dark lines")


@pytest.fixture(scope="session")
def starter() -> mm.Space:
    return mm.load("starter")


@pytest.fixture(scope="session")
def child(starter: mm.Space) -> Space:
    return rounded(starter)


@pytest.fixture(scope="session")
def material(starter: mm.Space) -> Material:
    """A third of the images of the gallery, and half of its clips."""
    part = gallery_material(input_side(starter.encoders["image"]))  # type: ignore[index]
    part.images, part.image_names = part.images[::3], part.image_names[::3]
    part.clips, part.clip_names = part.clips[::2], part.clip_names[::2]
    return part


@contextlib.contextmanager
def some_kinds() -> Iterator[pytest.MonkeyPatch]:
    """Some kinds of damage to images instead of all."""
    from multimodal.auditing.checks import answers, corruption
    from multimodal.auditing.generators.images import KINDS

    with pytest.MonkeyPatch.context() as patch:
        few = {kind: KINDS[kind] for kind in SOME_KINDS}
        patch.setattr(corruption, "KINDS", few)
        patch.setattr(answers, "KINDS", few)
        yield patch


@pytest.fixture
def few_kinds() -> Iterator[None]:
    """The same for one test."""
    with some_kinds():
        yield


@pytest.fixture(scope="session")
def report(starter: mm.Space, child: Space, material: Material) -> mm.AuditReport:
    """The quick audit without its most expensive parts."""
    from multimodal.auditing import api
    from multimodal.auditing.checks import probes

    with some_kinds() as patch:
        patch.setattr(api, "gallery_material", lambda side: material)
        patch.setattr(probes, "QUICK", 60)
        return mm.audit(starter, against=[child])
