"""Every class of transformers that `hf` takes gives upstream's own numbers, alone, in company and saved."""

import numpy as np
import pytest

import multimodal as mm
from tests.encoders import hf_cases, hf_tiny
from tests.encoders.hf_cases import ITEMS, case

EXACT = 1e-5
KINDS = list(hf_tiny.BUILDERS)


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_upstreams_own(kind, record_property):
    expected, space = hf_cases.by_hand(case(kind)), case(kind).space
    for modality in space.modalities:
        vectors = space.encode(ITEMS[modality])
        worst = np.abs(vectors - expected[modality]).max()
        record_property(f"{kind} {modality}", float(worst))
        assert worst <= EXACT, modality
        assert np.abs(vectors[0] - vectors[1]).max() > 100 * EXACT, "else this test could not fail"


@pytest.mark.parametrize("kind", KINDS)
def test_company_in_the_batch_changes_no_vector(kind):
    space = case(kind).space
    for modality in space.modalities:
        together = space.encode(ITEMS[modality])
        alone = np.stack([space.encode(item) for item in ITEMS[modality]])
        assert np.abs(together - alone).max() <= EXACT, modality


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_space_needs_no_checkpoint_and_gives_the_same_vectors(kind, tmp_path):
    space = case(kind).space
    space.save_pretrained(tmp_path / "s")
    again = mm.load(tmp_path / "s", device="cpu")
    assert again.fingerprint == space.fingerprint
    for modality in space.modalities:
        assert np.abs(again.encode(ITEMS[modality]) - space.encode(ITEMS[modality])).max() <= 1e-6, modality
    assert again.heads == space.heads
