"""Every class of transformers that `hf` takes gives upstream's own numbers, alone, in company and saved."""

import numpy as np
import PIL.Image
import pytest
import torch
import transformers

import multimodal as mm
from tests.encoders.hf import hf_cases, hf_tiny
from tests.encoders.hf.hf_cases import ITEMS, case

EXACT = 1e-5
KINDS = list(hf_tiny.BUILDERS)
NO_LOGITS = {"blip", "xclip", "pe_audio", "pe_video", "pe_av", "videoprism", "embedding_gemma"}


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
    assert again.logit_scales == space.logit_scales


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in NO_LOGITS])
def test_probabilities_are_those_of_upstreams_logits(kind):
    """With its own scale and bias, and a softmax or a sigmoid as it was trained."""
    space, logits = case(kind).space, torch.from_numpy(hf_cases.by_hand(case(kind))["logits"])
    other = "audio" if "audio" in space.modalities else "image"
    expected = logits.sigmoid() if kind.startswith("siglip") else logits.softmax(dim=1)
    results = space.probabilities(ITEMS[other], ITEMS["text"])
    assert np.abs(results - expected.numpy()).max() <= EXACT
    assert np.ptp(expected.numpy()) > 0.01, "else this test could not fail"


def test_clap_has_a_scale_for_audio_and_one_for_texts():
    space, hand = case("clap").space, hf_cases.by_hand(case("clap"))
    expected = torch.from_numpy(hand["logits of texts"]).softmax(dim=1).numpy()
    assert np.abs(space.probabilities(ITEMS["text"], ITEMS["audio"]) - expected).max() <= EXACT
    assert space.logit_scale_for("audio", "text") != space.logit_scale_for("text", "audio")


def test_blips_cosines_are_those_of_its_contrastive_loss():
    """Not those of its matching head, which needs text and picture together."""
    similarities = case("blip").space.similarity(ITEMS["image"], ITEMS["text"])
    assert np.abs(similarities - hf_cases.by_hand(case("blip"))["cosines"]).max() <= EXACT


@pytest.mark.parametrize("head", ["audio", "video", "audio_video"])
def test_pe_av_has_a_text_head_for_each_item_to_compare_with(head, tmp_path):
    space = mm.load(f"hf/{case('pe_av').folder}", device="cpu", text_head=head)
    expected = hf_cases.by_hand(case("pe_av"))[f"text for {head}"]
    assert np.abs(space.encode(ITEMS["text"]) - expected).max() <= EXACT
    space.select("text").save_pretrained(tmp_path / "s")
    assert np.abs(mm.load(tmp_path / "s", device="cpu").encode(ITEMS["text"]) - expected).max() <= EXACT


@pytest.mark.parametrize(
    ("kind", "multi_label"), [("clip", False), ("siglip", True), ("siglip2_naflex", True)]
)
def test_zero_shot_answers_are_those_of_transformers_pipeline(kind, multi_label):
    sample, labels = case(kind), ["cat", "dog", "an apple"]
    upstream = transformers.pipeline("zero-shot-image-classification", model=str(sample.folder), device="cpu")
    ours = mm.ZeroShotClassificationPipeline(sample.space)
    for image in ITEMS["image"]:
        expected = upstream(PIL.Image.fromarray(image), candidate_labels=labels)
        results = ours(
            mm.Image(image), labels=labels, templates="This is a photo of {}.", multi_label=multi_label
        )
        assert [score.label for score in results] == [score["label"] for score in expected]
        for score, theirs in zip(results, expected, strict=True):
            assert abs(score.score - theirs["score"]) <= EXACT


@pytest.mark.parametrize("kind", ["clap", "clap_fused"])
def test_zero_shot_answers_about_audio_are_those_of_transformers_pipeline(kind):
    sample, labels = case(kind), ["rain", "a dog", "hello"]
    upstream = transformers.pipeline("zero-shot-audio-classification", model=str(sample.folder), device="cpu")
    ours = mm.ZeroShotClassificationPipeline(sample.space)
    for sound in ITEMS["audio"]:
        expected = upstream(sound["array"], candidate_labels=labels)
        results = ours(mm.Audio(sound), labels=labels, templates="This is a sound of {}.")
        assert [score.label for score in results] == [score["label"] for score in expected]
        for score, theirs in zip(results, expected, strict=True):
            assert abs(score.score - theirs["score"]) <= EXACT
