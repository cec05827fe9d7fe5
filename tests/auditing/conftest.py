"""The starter with rounded weights, and one quick audit, shared by the tests."""

import pytest

import multimodal as mm
from multimodal.core import serialization
from multimodal.core.backends.runtime import Runtime
from multimodal.core.encoder import EncoderState
from multimodal.core.space import Space

SOME_KINDS = ("salt and pepper", "jpeg", "occlusion", "rotation", "dark lines")


def rounded(space: Space, bits: int = 8) -> Space:
    """A space whose matrices are rounded to whole numbers of `bits` bits, row by row."""
    encoders = []
    for modality, encoder in space.encoders.items():
        tensors = {}
        for name, tensor in encoder.state_dict().items():
            values = tensor.float()
            if values.ndim > 1:
                axes = tuple(range(1, values.ndim))
                step = values.abs().amax(axes, keepdim=True).clamp_min(1e-8) / (2 ** (bits - 1) - 1)
                values = (values / step).round() * step
            tensors[name] = values.half()
        state = EncoderState(modality, encoder.config(), tensors, encoder.files())
        encoders.append(serialization.rebuild("starter", state, Runtime()))
    return Space(encoders, space.logit_scales, name=f"int{bits}")


@pytest.fixture(scope="session")
def starter() -> mm.Space:
    return mm.load("starter")


@pytest.fixture(scope="session")
def child(starter: mm.Space) -> Space:
    return rounded(starter)


@pytest.fixture(scope="session")
def report(starter: mm.Space, child: Space) -> mm.AuditReport:
    """The quick audit without its most expensive part: a third of the images, and some kinds of damage."""
    from multimodal.auditing import api
    from multimodal.auditing.checks import answers, corruption, probes
    from multimodal.auditing.generators.images import KINDS
    from multimodal.auditing.material import Material

    with pytest.MonkeyPatch.context() as patch:
        whole = api.gallery_material

        def third(side: int) -> Material:
            material = whole(side)
            material.images, material.image_names = material.images[::3], material.image_names[::3]
            material.clips, material.clip_names = material.clips[::2], material.clip_names[::2]
            return material

        patch.setattr(api, "gallery_material", third)
        patch.setattr(probes, "QUICK", 60)
        few = {kind: KINDS[kind] for kind in SOME_KINDS}
        patch.setattr(corruption, "KINDS", few)
        patch.setattr(answers, "KINDS", few)
        return mm.audit(starter, against=[child])
