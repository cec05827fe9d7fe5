"""What `hf` does beside giving upstream's numbers: padding, windows, parts, precision, names, files."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import multimodal as mm
from multimodal.core.hub.api import load_tensors
from multimodal.core.media import image as image_decoding
from multimodal.core.media import pillow
from multimodal.core.media.windows import windows
from multimodal.encoders import hf as family
from multimodal.encoders.hf import packing, preprocessing
from multimodal.encoders.hf.cards import CARDS, SAME_SPACE
from tests.encoders.hf.hf_cases import ITEMS, RATE_HZ, case, tone, unit
from tests.encoders.hf.hf_tiny import BUILDERS
from tests.encoders.promise import assert_kept, fast_bfloat16

__all__ = ["fast_bfloat16"]  # a fixture
EXACT = 1e-5
FIXED = ["siglip", "siglip2", "siglip2_naflex"]
TRIMMED = [
    "clip",
    "metaclip_2",
    "altclip",
    "chinese_clip",
    "aimv2",
    "align",
    "clap",
    "pe_audio",
    "xclip",
    "embedding_gemma",
]
MANY = [("a dog and " * (i % 7) + "rain") for i in range(40)]


def tokens_seen(space, texts, monkeypatch):
    """The lengths of the batches of tokens that reach the model."""
    encoder, seen = space.encoders["text"], []
    run = encoder._run
    monkeypatch.setattr(
        encoder, "_run", lambda inputs: (seen.append(inputs["input_ids"].shape), run(inputs))[1]
    )
    encoder.encode([mm.Text(text) for text in texts], batch_size=len(texts))
    return seen


# --- texts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FIXED)
def test_texts_of_siglip_are_never_trimmed(kind, monkeypatch):
    assert tokens_seen(case(kind).space, ["a", "rain"], monkeypatch) == [(2, 64)]


@pytest.mark.parametrize("kind", FIXED)
def test_a_trimmed_text_would_be_another_to_siglip(kind):
    sample = case(kind)
    short = sample.processor.tokenizer(["a cat"], padding=False, return_tensors="pt")
    with torch.no_grad():
        trimmed = unit(sample.model.get_text_features(**short).pooler_output)
    assert np.abs(trimmed - sample.space.encode(["a cat"])).max() > 0.01


@pytest.mark.parametrize("kind", TRIMMED)
def test_masked_and_causal_texts_are_trimmed_and_that_is_exact(kind, monkeypatch):
    sample = case(kind)
    limit = sample.space.encoders["text"].settings["max_length"]
    options = {
        "padding": "max_length",
        "max_length": min(limit, 77),
        "truncation": True,
        "return_tensors": "pt",
    }
    with torch.no_grad():
        tower = sample.space.encoders["text"].tower
        full = torch.cat(
            [tower(sample.model, sample.processor.tokenizer([text], **options)) for text in MANY]
        )
    assert np.abs(sample.space.encode(MANY) - unit(full)).max() <= EXACT
    shapes = tokens_seen(sample.space, MANY, monkeypatch)
    assert sum(rows * length for rows, length in shapes) < 0.8 * len(MANY) * max(n for _, n in shapes)


def test_a_text_alone_is_causal_to_aimv2_too():
    """transformers drops a mask that masks nothing, and with it AIMv2's causality; not with eager attention."""
    sample = case("aimv2")
    eager = transformers.Aimv2Model.from_pretrained(sample.folder, attn_implementation="eager").eval()
    tokens = sample.processor.tokenizer(["a cat"], return_tensors="pt")
    with torch.no_grad():
        right = unit(eager.get_text_features(**tokens).pooler_output)
        wrong = unit(sample.model.get_text_features(**tokens).pooler_output)
    assert np.abs(sample.space.encode(["a cat"]) - right).max() <= EXACT
    assert np.abs(wrong - right).max() > 0.01, "upstream has mended it: keep_mask can go"


@pytest.mark.parametrize(
    ("kind", "length"), [("clip", 77), ("siglip", 64), ("align", 64), ("clap", 512), ("altclip", 512)]
)
def test_texts_are_cut_at_the_context_length_of_the_model(kind, length, monkeypatch):
    (shape,) = tokens_seen(case(kind).space, ["cat " * 600], monkeypatch)
    assert shape == (1, length)


def test_threads_may_prepare_at_once():
    encoder = case("clip").space.encoders["text"]
    items = [[mm.Text(text)] * 3 for text in MANY]
    expected = [encoder.prepare(lot)["input_ids"] for lot in items]
    with ThreadPoolExecutor(8) as pool:
        for results, right in zip(
            pool.map(lambda lot: encoder.prepare(lot)["input_ids"], items), expected, strict=True
        ):
            assert torch.equal(results, right)


# --- sounds --------------------------------------------------------------------------------------


def long_sound(seconds):
    return tone(int(seconds * RATE_HZ), 300, 0.2)


@pytest.mark.parametrize("kind", ["clap", "clap_fused", "pe_audio", "embedding_gemma"])
def test_long_audio_is_the_mean_of_windows_that_cover_it(kind, monkeypatch):
    monkeypatch.setattr(preprocessing, "WINDOW_S", 1)  # where the extractor has no length of its own
    space = mm.load(f"hf/{case(kind).folder}", device="cpu")
    length = space.encoders["audio"].settings["window_samples"]
    samples = long_sound(2.5 * length / RATE_HZ)
    spans = windows(len(samples), length)
    assert len(spans) == 3
    parts = space.encode([mm.Audio({"array": samples[a:b], "sampling_rate": RATE_HZ}) for a, b in spans])
    mean = parts.mean(axis=0)
    vectors = space.encode(mm.Audio({"array": samples, "sampling_rate": RATE_HZ}))
    assert np.abs(vectors - mean / np.linalg.norm(mean)).max() <= EXACT


@pytest.mark.parametrize("kind", ["clap", "clap_fused"])
def test_upstreams_random_crop_is_not_ours(kind):
    sample, samples = case(kind), long_sound(7)
    sound = mm.Audio({"array": samples, "sampling_rate": RATE_HZ})
    assert np.array_equal(sample.space.encode(sound), sample.space.encode(sound))
    if kind == "clap":  # the other's extractor cannot crop with so few mels as these
        extract = sample.processor.feature_extractor
        crops = [extract(samples, sampling_rate=RATE_HZ)["input_features"][0] for _ in range(2)]
        assert not np.array_equal(*crops)


def test_audio_of_another_rate_is_resampled_to_the_models():
    at_twice = {"array": np.repeat(ITEMS["audio"][0]["array"], 2), "sampling_rate": 2 * RATE_HZ}
    space = case("clap_fused").space
    near, far = space.similarity(mm.Audio(at_twice), ITEMS["audio"][:2])[0]
    assert near > 0.99 > far


def test_pieces_of_different_shapes_come_out_of_a_batch_as_they_went_in():
    segments = [{"a": torch.rand(1, n, 3), "b": torch.tensor([n])} for n in (2, 5, 2, 4)]
    back = {}
    for rows, inputs in packing.uniform_batches(packing.pack(segments), max_rows=8):
        for i, row in enumerate(rows.tolist()):
            back[row] = {name: tensor[i : i + 1] for name, tensor in inputs.items()}
    for i, segment in enumerate(segments):
        assert all(torch.equal(back[i][name], segment[name]) for name in segment)


# --- parts, precision, decoding ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "shared"),
    [
        ("clip", 0),
        ("siglip", 0),
        ("clap", 0),
        ("xclip", 0),
        ("flava", 0),
        ("pe_av", 0),
        ("embedding_gemma", 1),
    ],
)
def test_each_modality_keeps_its_own_part_of_the_weights(kind, shared):
    """All of EmbeddingGemma 2's share one language model, which each needs whole."""
    sample = case(kind)
    parts = [set(encoder.state_dict()) for encoder in sample.space.encoders.values()]
    for i, part in enumerate(parts):
        assert part and part < set(sample.model.state_dict()) | {
            name.removeprefix("flava.") for name in sample.model.state_dict()
        }
        for other in parts[:i]:
            assert bool(part & other) == bool(shared)


@pytest.mark.parametrize("kind", BUILDERS)
def test_auto_keeps_its_promise(kind, fast_bfloat16):
    assert_kept(case(kind).space, mm.load(f"hf/{case(kind).folder}", device="cpu", precision="auto"), ITEMS)


def test_auto_is_bfloat16_for_most(fast_bfloat16):
    kinds = ["clip", "siglip", "aimv2", "clap", "xclip"]
    spaces = [mm.load(f"hf/{case(kind).folder}", device="cpu", precision="auto") for kind in kinds]
    media = [
        encoder for space in spaces for modality, encoder in space.encoders.items() if modality != "text"
    ]
    assert all(item.precision_decision.bfloat16 for item in media)


@pytest.mark.parametrize(
    "kind", ["siglip2_naflex", "altclip", "align", "clap", "xclip", "pe_av", "embedding_gemma"]
)
def test_every_kind_of_tower_runs_in_bfloat16(kind):
    """Of so few numbers that a rounded weight counts for more than it would."""
    space, rough = case(kind).space, mm.load(f"hf/{case(kind).folder}", device="cpu", precision="bfloat16")
    assert rough.fingerprint == space.fingerprint
    for modality, encoder in rough.encoders.items():
        assert {parameter.dtype for parameter in encoder.net.parameters()} == {torch.bfloat16}
        exact, near = space.encode(ITEMS[modality]), rough.encode(ITEMS[modality])
        assert near.dtype == np.float32
        assert (exact * near).sum(1).min() >= 0.99, modality


def test_auto_leaves_a_hard_argmax_in_float32_whatever_a_trial_says(fast_bfloat16):
    auto = mm.load(f"hf/{case('groupvit').folder}", device="cpu", precision="auto")
    assert set(auto.runtime_info.values()) == {"cpu float32 (auto: its hard argmax may choose otherwise)"}


def test_what_a_model_computes_for_itself_stays_in_float32():
    """Rounded to bfloat16, the frequencies of rotary positions are wrong by whole turns."""
    rough = mm.load(f"hf/{case('pe_audio').folder}", device="cpu", precision="bfloat16")
    own = {
        name: tensor.dtype
        for name, tensor in rough.encoders["audio"].net.named_buffers()
        if "inv_freq" in name
    }
    assert set(own.values()) == {torch.float32}


def test_the_other_precision_leaves_the_first_space_alone():
    before = case("pe_av").space.encode(ITEMS["text"])
    mm.load(f"hf/{case('pe_av').folder}", device="cpu", precision="bfloat16")
    assert np.array_equal(case("pe_av").space.encode(ITEMS["text"]), before)


@pytest.mark.parametrize(
    ("kind", "side"), [("clip", 32), ("siglip", 32), ("siglip2_naflex", 32), ("embedding_gemma", 66)]
)
def test_fast_decoding_asks_for_no_smaller_an_image_than_is_needed(kind, side, monkeypatch):
    requests = []
    original = image_decoding.decode_pil
    monkeypatch.setattr(
        pillow, "decode_pil", lambda source, min_side: requests.append(min_side) or original(source, min_side)
    )
    mm.load(f"hf/{case(kind).folder}", device="cpu", decode="fast").encode(ITEMS["image"][:1])
    case(kind).space.encode(ITEMS["image"][:1])
    assert requests == [side, None]


def test_an_image_three_pixels_high_is_not_taken_for_channels():
    thin = np.zeros((3, 40, 3), np.uint8)
    thin[:, :20] = 255
    wide = np.repeat(np.repeat(thin, 10, axis=0), 10, axis=1)
    assert case("siglip").space.similarity(mm.Image(thin), mm.Image(wide))[0, 0] > 0.9


# --- checkpoints as they lie about ---------------------------------------------------------------


def copied(kind, folder):
    shutil.copytree(case(kind).folder, folder)
    return folder


def same_vectors(kind, folder, tolerance=0.0):
    space = mm.load(f"hf/{folder}", device="cpu")
    for modality in space.modalities:
        assert (
            np.abs(space.encode(ITEMS[modality]) - case(kind).space.encode(ITEMS[modality])).max()
            <= tolerance
        )
    return space


def test_weights_in_several_files_are_one_checkpoint(tmp_path):
    folder = copied("clip", tmp_path / "m")
    (folder / "model.safetensors").unlink()
    case("clip").model.save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    same_vectors("clip", folder)


def test_weights_whose_length_looks_like_a_pickle_are_read(tmp_path):
    """The first byte of a safetensors file is of the length of its header; a pickle begins with 128."""
    path, title = tmp_path / "model.safetensors", ""
    while not path.exists() or path.read_bytes()[0] != 0x80:
        save_file({f"a{title}": torch.ones(2)}, path)
        title += "x" * 8
    assert list(load_tensors(path))


def test_a_pickled_checkpoint_is_read_without_running_it(tmp_path):
    folder = copied("clip", tmp_path / "m")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    same_vectors("clip", folder)


def test_safetensors_are_preferred_to_a_pickle_beside_them(tmp_path):
    folder = copied("clip", tmp_path / "m")
    (folder / "pytorch_model.bin").write_bytes(b"\x80never read")
    same_vectors("clip", folder)


def test_half_precision_weights_run_in_float32(tmp_path):
    folder = copied("clip", tmp_path / "m")
    halves = {
        name: value.half() if value.is_floating_point() else value
        for name, value in load_file(folder / "model.safetensors").items()
    }
    save_file(halves, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | {"dtype": "float16"}
    for part in ("text_config", "vision_config"):
        config[part]["dtype"] = "float16"
    (folder / "config.json").write_text(json.dumps(config))
    space = same_vectors("clip", folder, 0.02)
    assert {value.dtype for value in space.encoders["image"].state_dict().values()} == {torch.float32}
    space.save_pretrained(tmp_path / "s")
    again = mm.load(tmp_path / "s", device="cpu")
    assert np.array_equal(again.encode(ITEMS["image"]), space.encode(ITEMS["image"]))


def test_tables_that_older_versions_kept_are_no_strangers(tmp_path):
    folder = copied("clip", tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    tensors["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    tensors["text_model.rotary_emb.inv_freq"] = torch.rand(4)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    same_vectors("clip", folder)


def test_preprocessing_in_a_file_of_its_own_is_found(tmp_path):
    """As it lay before transformers 5: preprocessor_config.json."""
    for kind, part in (("siglip", "image_processor"), ("clap", "feature_extractor")):
        folder = copied(kind, tmp_path / kind)
        processor = json.loads((folder / "processor_config.json").read_text())
        (folder / "preprocessor_config.json").write_text(json.dumps(processor[part]))
        (folder / "processor_config.json").unlink()
        same_vectors(kind, folder)


def test_loading_says_nothing(capfd):
    folders = [case(kind).folder for kind in ("clip", "pe_video", "flava")]
    capfd.readouterr()
    for folder in folders:
        mm.load(f"hf/{folder}", device="cpu")
    assert capfd.readouterr() == ("", "")


# --- names ---------------------------------------------------------------------------------------


def test_towers_of_one_id_are_of_one_space_and_folders_of_none():
    space = case("clip").space
    assert {encoder.space_id for encoder in space.encoders.values()} == {None}
    space = mm.load(f"hf/{case('clip').folder}", device="cpu", space_id="hf/mine")
    assert (space.select("text") | space.select("image")).modalities == ("text", "image")


def test_the_same_model_under_two_names_is_one_space():
    """Against open_clip's own list of where its weights come from."""
    open_clip = pytest.importorskip("open_clip")
    for ours, theirs in SAME_SPACE.items():
        model, tag = theirs.removeprefix("openclip/").split(":")
        assert open_clip.get_pretrained_cfg(model, tag)["hf_hub"].rstrip("/") == ours.removeprefix("hf/")


def test_cards_name_what_load_takes():
    assert len({card.name for card in CARDS}) == len(CARDS) >= 15
    for card in CARDS:
        assert card.name == f"hf/{card.source}" and card.size_mb > 0 and card.dim > 0
        assert card.revision == "" or len(card.revision) == 40
        assert card.commercial == (card.licence in ("MIT", "Apache-2.0", "CreativeML-OpenRAIL-M"))
    assert family.CARDS is CARDS
