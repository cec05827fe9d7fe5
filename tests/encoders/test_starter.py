"""The model that ships inside: it loads, it is exact about what it sees, and its answers mean something."""

import hashlib
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image as Pictures

import multimodal as mm
from multimodal.core.encoder import fingerprint_of
from multimodal.core.media.windows import equal_windows
from multimodal.core.paths import assets
from multimodal.encoders.starter import preprocessing as features
from multimodal.encoders.starter import tokenizer
from multimodal.encoders.starter.parameters import MAX_TOKENS, N_MELS
from tests.encoders.promise import assert_kept, fast_bfloat16

__all__ = ["fast_bfloat16"]  # a fixture

STARTER, GALLERY = assets() / "starter", assets() / "gallery"
RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def space() -> mm.Space:
    return mm.load("starter")


def speech(name: str) -> mm.Audio:
    return mm.Audio(GALLERY / "sounds" / f"{name}.flac")


def seen(name: str) -> mm.Image:
    return mm.Image(next((GALLERY / "pictures").glob(f"{name}.*")))


def noise(samples: int) -> mm.Audio:
    return mm.Audio({"array": RNG.standard_normal(samples).astype(np.float32), "sampling_rate": 16_000})


def speckles(height: int, width: int) -> mm.Image:
    return mm.Image(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))


MIXED = {
    "text": ["dog", "a small blue strawberry next to an umbrella", "x", "something sweet for dessert " * 30],
    "image": [speckles(64, 64), speckles(480, 640), speckles(9, 200)],
    "audio": [noise(400), noise(16_000), noise(150_000)],
}


def test_auto_keeps_its_promise(fast_bfloat16):
    images = [
        mm.Image(path) for path in sorted((GALLERY / "pictures").iterdir()) if path.suffix in (".png", ".jpg")
    ]
    sounds = [mm.Audio(path) for path in sorted((GALLERY / "sounds").glob("*.flac"))]
    auto, exact = (mm.load("starter", device="cpu", precision=name) for name in ("auto", "float32"))
    assert len(images) > 3 and len(sounds) > 3
    assert_kept(exact, auto, {"text": MIXED["text"], "image": images, "audio": sounds + MIXED["audio"]})


def test_it_has_three_modalities_in_256_numbers(space):
    assert space.modalities == ("text", "image", "audio")
    assert space.dim == 256


def test_the_weights_are_small_and_in_half_precision():
    from safetensors import safe_open

    files = [STARTER / f"{tower}.safetensors" for tower in ("audio", "image", "text")]
    assert sum(file.stat().st_size for file in files) <= 12_000_000
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            assert {tensors.get_slice(name).get_dtype() for name in tensors.keys()} == {"F16"}  # noqa: SIM118


def test_the_shipped_fingerprint_is_that_of_the_shipped_files(space):
    assert json.loads((STARTER / "config.json").read_text())["fingerprint"] == space.fingerprint


def test_saving_and_loading_gives_the_same_vectors(space, tmp_path):
    space.save_pretrained(tmp_path / "copy")
    again = mm.load(tmp_path / "copy")
    assert again.fingerprint == space.fingerprint
    for items in MIXED.values():
        assert np.array_equal(again.encode(items), space.encode(items))


@pytest.mark.parametrize("modality", MIXED)
def test_two_calls_give_bit_equal_unit_vectors(space, modality):
    first, again = (space.encode(MIXED[modality]) for _ in range(2))
    assert np.array_equal(first, again)
    assert first.dtype == np.float32
    assert np.allclose(np.linalg.norm(first, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("modality", MIXED)
def test_company_in_the_batch_changes_a_vector_by_no_more_than_1e_5(space, modality):
    together = space.encode(MIXED[modality])
    alone = np.stack([space.encode(item) for item in MIXED[modality]])
    assert np.abs(together - alone).max() <= 1e-5


def pieces_by_hand(text: str, vocabulary: set[str]) -> list[str]:
    """Greedy longest match, written out (Wu et al. 2016, as BERT does it)."""
    results = []
    for word in re.findall(r"\w+|[^\w\s]", text.lower()):
        parts, start = [], 0
        while start < len(word):
            ends = [
                stop
                for stop in range(len(word), start, -1)
                if ("##" if start else "") + word[start:stop] in vocabulary
            ]
            if not ends:
                parts = ["[UNK]"]
                break
            parts.append(("##" if start else "") + word[start : ends[0]])
            start = ends[0]
        results += parts
    return results


def test_word_pieces_are_the_longest_matches(space):
    vocabulary = space.encoders["text"].vocabulary
    texts = [
        "A small blue strawberry.",
        "unbelievably antidisestablishmentarian zyx",
        "it's 42!",
        "GRINNING face",
        "日本",
    ]
    for text, ids in zip(texts, tokenizer.Tokenizer(vocabulary)(texts), strict=True):
        assert [vocabulary[number] for number in ids] in (
            pieces_by_hand(text, set(vocabulary)),
            ["[UNK]", "[UNK]"],
        )


def test_a_long_text_is_the_mean_of_its_equal_windows(space):
    encoder = space.encoders["text"]
    text = " ".join(["dog", "pizza", "rocket"] * 40)
    (ids,) = encoder.tokenizer([text])
    spans = equal_windows(len(ids), MAX_TOKENS)
    assert len(spans) == 3 and {stop - start for start, stop in spans} == {40}
    tokens, lengths = features.pad_tokens([ids[start:stop] for start, stop in spans])
    mean = encoder.net(tokens, lengths).mean(0).numpy()
    assert np.allclose(space.encode(text), mean / np.linalg.norm(mean), atol=1e-6)


def test_log_mels_are_torchaudios_in_decibels_below_the_peak():
    from torchaudio.transforms import MelSpectrogram

    samples = RNG.standard_normal(12_345).astype(np.float32)
    upstream = MelSpectrogram(16_000, 400, hop_length=160, f_min=60.0, f_max=7600.0, n_mels=N_MELS)
    decibels = 10 * upstream(torch.from_numpy(samples)).T.log10()
    expected = (decibels - decibels.max()).clamp(min=-80) / 40 + 1
    assert torch.allclose(features.log_mel(samples), expected, atol=1e-4)


def test_loudness_and_silence_around_change_little(space):
    waveform = speech("guitar").load(rate_hz=16_000)
    quiet = np.zeros(16_000, np.float32)
    padded = {"array": np.concatenate([quiet, 0.05 * waveform.samples, quiet]), "sampling_rate": 16_000}
    assert space.encode(speech("guitar")) @ space.encode(mm.Audio(padded)) > 0.98


def test_a_long_recording_is_cut_into_windows_and_near_silent_ones_are_left_out(space):
    waveform = speech("guitar").load(rate_hz=16_000).samples
    clip = np.concatenate([waveform, np.zeros(features.WINDOW_SAMPLES - len(waveform), np.float32)])
    silence = 1e-5 * RNG.standard_normal(2 * features.WINDOW_SAMPLES).astype(np.float32)
    mels = features.speech_windows(np.concatenate([clip, silence]))
    assert len(equal_windows(3 * features.WINDOW_SAMPLES, features.WINDOW_SAMPLES)) == 3
    assert len(mels) == 1


def test_a_square_image_is_resized_as_pillow_does_it():
    rgb = RNG.integers(0, 256, (128, 128, 3), dtype=np.uint8)
    expected = np.asarray(Pictures.fromarray(rgb).resize((64, 64), Pictures.Resampling.BICUBIC))
    assert np.abs(features.resize_to_square(rgb).permute(1, 2, 0).numpy().astype(int) - expected).max() <= 1


def test_a_wide_image_is_filled_up_with_its_border():
    rgb = np.full((50, 200, 3), (10, 200, 30), np.uint8)
    rgb[20:30, 80:120] = 255
    small = features.resize_to_square(rgb).numpy()
    assert small.shape == (3, 64, 64)
    assert (small[:, :20].reshape(3, -1).T == (10, 200, 30)).all()


def test_a_word_and_its_synonym_are_nearer_than_two_alike_in_spelling(space):
    for word, meaning, spelling in (
        ("winter", "snow and ice", "window"),
        ("car", "automobile", "carrot"),
        ("sad", "unhappy", "sandwich"),
        ("ship", "boat", "shirt"),
    ):
        near, far = space.similarity(word, [meaning, spelling])[0]
        assert near > far, (word, meaning, spelling)


NAMES = {
    "dog-on-meadow": "dog", "pizza-on-table": "pizza", "rocket-at-night": "rocket", "snowman": "snowman",
    "guitar-on-stage": "guitar", "elephant": "elephant", "sunflower": "sunflower", "sailboat": "sailboat",
    "birthday-cake": "birthday cake", "frog": "frog", "red-apple": "red apple", "trumpet": "trumpet",
    "butterfly-in-garden": "butterfly", "turtle-on-beach": "turtle", "helicopter": "helicopter",
    "umbrella-in-the-rain": "umbrella with rain drops", "cup-of-coffee": "hot beverage", "rainbow": "rainbow",
    "mobile-phone": "mobile phone", "cactus-in-desert": "cactus",
}  # fmt: skip


def test_names_find_their_images_in_the_gallery(space):
    images = space.encode([seen(stem) for stem in NAMES])
    result = (space.encode(list(NAMES.values())) @ images.T).argmax(1)
    assert (result == np.arange(len(NAMES))).mean() >= 0.8


def test_spoken_names_find_their_texts_and_images(space):
    stems = [
        stem
        for stem, name in NAMES.items()
        if (GALLERY / "sounds" / f"{name.replace(' ', '-')}.flac").exists()
    ]
    assert len(stems) >= 10
    spoken = space.encode([speech(NAMES[stem].replace(" ", "-")) for stem in stems])
    right = np.arange(len(stems))
    assert ((spoken @ space.encode([NAMES[stem] for stem in stems]).T).argmax(1) == right).mean() >= 0.9
    assert ((spoken @ space.encode([seen(stem) for stem in stems]).T).argmax(1) == right).mean() >= 0.7


@pytest.mark.parametrize(
    ("first", "second", "captions"),
    [
        ("red-car", "purple-car", ("a red car", "a purple car")),
        ("strawberry", "blue-strawberry", ("a red strawberry", "a blue strawberry")),
    ],
)
def test_saying_another_colour_moves_the_score_towards_the_image_of_that_colour(
    space, first, second, captions
):
    (own, other), (other_too, own_too) = space.similarity(list(captions), [seen(first), seen(second)])
    assert own + own_too > other + other_too


def test_probabilities_are_those_of_the_trained_scale(space):
    labels = ["dog", "cat", "pizza"]
    cosines = space.similarity(seen("dog-on-meadow"), labels)[0].astype(np.float64)
    logits = space.logit_scale_for("image", "text").scale * cosines
    expected = np.exp(logits) / np.exp(logits).sum()
    assert np.allclose(space.probabilities(seen("dog-on-meadow"), labels)[0], expected, atol=1e-5)
    assert expected.argmax() == 0


def test_there_is_only_one_starter():
    with pytest.raises(
        mm.MultimodalError, match=r"got 'starter/large', but there is only one starter: use load\('starter'\)"
    ):
        mm.load("starter/large")


def test_the_cards_figures_are_those_measured():
    card = (STARTER / "README.md").read_text()
    figures = json.loads((STARTER / "figures.json").read_text())
    for title, row in figures["recall"].items():
        line = f"| {title.replace('->', '→')} | {row['R@1']} | {row['R@5']} | {row['R@10']} |"
        interval = f" {row['R@1 low']} – {row['R@1 high']} |" if "R@1 low" in row else ""
        assert line + interval in card
    for phrase, answers in figures["free phrases"].items():
        assert f"| {phrase} | {', '.join(answers)} |" in card
    assert len(figures["free phrases"]) == 40


def test_texts_are_encoded_without_torch_as_with_it(space):
    """In a process that has not imported torch: vectors and fingerprint, of the shipped files alone."""
    texts = ["dog", "a very small red apple", "日本", " ".join(["dog", "pizza", "rocket"] * 40), "it's 42!"]
    code = (
        "import json, sys, multimodal\n"
        "space = multimodal.load('starter')\n"
        "vectors = space.encode(json.loads(sys.argv[1]))\n"
        "print(json.dumps([vectors.tolist(), space.fingerprint, 'torch' in sys.modules]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, json.dumps(texts)], capture_output=True, text=True, check=True
    )
    vectors, fingerprint, has_torch = json.loads(run.stdout)
    assert not has_torch
    assert np.abs(np.array(vectors) - space.encode(texts)).max() < 1e-6
    parts = []
    for modality, encoder in space.encoders.items():
        weights = {name: tensor.bfloat16() for name, tensor in encoder.state_dict().items()}
        parts.append(f"{modality} {fingerprint_of(encoder.config() | {'modality': str(modality)}, weights)}")
    assert fingerprint == hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()
