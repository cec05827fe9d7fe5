"""LanguageBind's audio tower: upstream's own numbers, the same ones every time, from every form its weights come in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import multimodal as mm
from multimodal.core.backends.runtime import Runtime
from multimodal.core.errors import InvalidInput, UnknownModel, UnsupportedModality
from multimodal.core.media.windows import windows
from multimodal.encoders import languagebind
from multimodal.encoders.languagebind import checkpoint, preprocessing
from multimodal.encoders.languagebind.encoders import LanguageBindAudio
from tests.core.hub.loopback_hub import LoopbackHub, server
from tests.encoders.promise import assert_kept, fast_bfloat16

__all__ = ["fast_bfloat16", "server"]  # fixtures
GOLDEN = Path(__file__).parent / "golden"
TINY = GOLDEN / "tiny-112mel"
GOLDEN_VALUES = json.loads((GOLDEN / "golden.json").read_text())
RNG = np.random.default_rng(11)


@pytest.fixture(scope="module")
def space() -> mm.Space:
    return mm.load(f"languagebind/{TINY}", device="cpu")


def clip(name: str) -> mm.Audio:
    return mm.Audio(GOLDEN / f"{name}.flac")


def noise(samples: int, rate_hz: int = 16_000) -> mm.Audio:
    return mm.Audio({"array": RNG.standard_normal(samples).astype(np.float32), "sampling_rate": rate_hz})


def unit(values: Any) -> np.ndarray:
    rows = np.asarray(values, dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def centred(name: str) -> torch.Tensor:
    wave = torch.from_numpy(clip(name).load().samples)
    return wave - wave.mean()


# --- upstream's numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["short", "long"])
def test_the_log_mels_are_upstreams(space, name):
    mel = preprocessing.log_mel(centred(name), space.encoders["audio"].mel_settings)
    assert mel.shape == (GOLDEN_VALUES[name]["frames"], 112)
    for row, values in GOLDEN_VALUES[name]["fbank_rows"].items():
        assert np.abs(mel[int(row), :8].numpy() - values).max() <= 1e-4


def test_a_short_clip_gets_upstreams_vector(space):
    assert np.abs(space.encode(clip("short")) - unit(GOLDEN_VALUES["short"]["embed"])).max() <= 1e-6


def test_upstreams_three_windows_on_three_channels_give_upstreams_vector(space):
    """For a long clip the port puts no three windows into one picture; its tower, given them, agrees."""
    encoder = space.encoders["audio"]
    mel = preprocessing.log_mel(centred("long"), encoder.mel_settings)
    starts = [part[0] for part in np.array_split(np.arange(len(mel) - 1036 + 1), 3)]
    assert starts == [0, 488, 976]
    three = torch.stack(
        [preprocessing.fit_window(mel[start : start + 1036], encoder.mel_settings) for start in starts]
    )
    pooled = encoder.net.vision_model(three[None])
    assert np.abs(pooled[0].numpy() - GOLDEN_VALUES["long"]["pooled"]).max() <= 1e-5
    assert np.abs(encoder.net(three[None])[0].numpy() - GOLDEN_VALUES["long"]["embed"]).max() <= 1e-5


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_the_tower_is_transformers_clip_vision_model(activation):
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from multimodal.encoders.languagebind.networks import AudioTower

    torch.manual_seed(2)
    upstream = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=6, image_size=56,
            patch_size=14, projection_dim=20, hidden_act=activation,
        )
    ).eval()  # fmt: skip
    for weight in upstream.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    tower = AudioTower(checkpoint.TowerConfig(48, 3, 6, 80, 14, (4, 4), 20, activation, 1e-5)).eval()
    weights = {
        name: tensor for name, tensor in upstream.state_dict().items() if not name.endswith("position_ids")
    }
    tower.load_state_dict(weights)
    pixels = torch.randn(2, 3, 56, 56)
    with torch.inference_mode():
        assert torch.allclose(tower(pixels), upstream(pixels).image_embeds, atol=1e-5, rtol=1e-5)


def test_position_embeddings_of_another_grid_are_resized_as_open_clip_does_it():
    from types import SimpleNamespace

    from open_clip.model import resize_pos_embed

    table = torch.randn(1 + 16 * 16, 12)
    state = {"visual.positional_embedding": table.clone()}
    resize_pos_embed(state, SimpleNamespace(visual=SimpleNamespace(grid_size=(9, 74))))
    resized = checkpoint.resized_positions(table, (16, 16), (9, 74))
    assert resized.shape == (1 + 9 * 74, 12)
    assert torch.allclose(resized, state["visual.positional_embedding"], atol=1e-6)


# --- long clips, short clips, odd clips ------------------------------------------------------------


def test_a_window_alone_gives_the_log_mels_it_has_in_the_whole_clip(space):
    settings = space.encoders["audio"].mel_settings
    mel = preprocessing.log_mel(centred("long"), settings)
    mels = preprocessing.mel_windows(clip("long").load().samples, settings)
    spans = windows(len(mel), settings.frames)
    assert spans == [(0, 1036), (731, 1767), (1462, 2498)]
    for window, (start, stop) in zip(mels, spans, strict=True):
        assert torch.allclose(window, preprocessing.fit_window(mel[start:stop], settings), atol=1e-5)


def test_a_long_clips_vector_is_the_mean_of_its_windows_unit_vectors(space):
    encoder = space.encoders["audio"]
    mels = torch.stack(preprocessing.mel_windows(clip("long").load().samples, encoder.mel_settings))
    each = unit(encoder.net(mels[:, None].expand(-1, 3, -1, -1)).numpy())
    assert np.abs(space.encode(clip("long")) - unit(each.mean(0))).max() <= 1e-6


def test_two_calls_and_any_company_give_the_same_vector(space):
    clips = [clip("long"), noise(3_000), clip("short"), noise(170_000)]
    together = space.encode(clips)
    assert np.array_equal(together, space.encode(clips))
    assert np.abs(together - np.stack([space.encode(clip) for clip in clips])).max() <= 1e-6


def test_more_windows_than_fit_at_once_change_nothing(space, monkeypatch):
    whole = space.encode([clip("long"), clip("short")])
    monkeypatch.setattr("multimodal.encoders.languagebind.encoders.MAX_ROWS", 1)
    assert np.abs(space.encode([clip("long"), clip("short")]) - whole).max() <= 1e-6


def test_a_clip_of_any_rate_is_heard_at_the_towers(space):
    given_hz = {"array": RNG.standard_normal(44_100).astype(np.float32), "sampling_rate": 44_100}
    at_16k = mm.Audio(given_hz).load(rate_hz=16_000)
    resampled = mm.Audio({"array": at_16k.samples, "sampling_rate": 16_000})
    assert np.array_equal(space.encode(mm.Audio(given_hz)), space.encode(resampled))


@pytest.mark.parametrize("samples", [1, 399, 400, 401, 1036 * 160 + 240, 1036 * 160 + 241])
def test_clips_about_the_length_of_a_frame_or_a_window_have_a_vector(space, samples):
    assert np.linalg.norm(space.encode(noise(samples))) == pytest.approx(1, abs=1e-6)


def test_silence_has_a_vector(space):
    silent = mm.Audio({"array": np.zeros(16_000, np.float32), "sampling_rate": 16_000})
    assert np.isfinite(space.encode(silent)).all()


@pytest.mark.parametrize(
    ("samples", "text"),
    [(np.empty(0, np.float32), "the waveform is empty"), (np.full(9, np.nan), "the waveform holds NaN")],
)
def test_invalid_audio_is_refused_by_the_item(space, samples, text):
    with pytest.raises(InvalidInput, match=text):
        space.encode(mm.Audio({"array": samples, "sampling_rate": 16_000}))


def test_text_is_refused_by_a_space_of_audio_only(space):
    with pytest.raises(
        UnsupportedModality,
        match=rf"^text given to a space with audio: 'languagebind/{TINY}' cannot encode it; load a space that encodes",
    ):
        space.encode("a bell")


# --- saving, precision, names ----------------------------------------------------------------------


def test_a_saved_space_loads_with_the_same_fingerprint_and_vectors(space, tmp_path):
    space.save_pretrained(tmp_path / "ears")
    again = mm.load(tmp_path / "ears", device="cpu")
    assert again.fingerprint == space.fingerprint
    assert np.array_equal(
        again.encode([clip("short"), clip("long")]), space.encode([clip("short"), clip("long")])
    )


def test_auto_keeps_its_promise(space, fast_bfloat16):
    auto = mm.load(f"languagebind/{TINY}", device="cpu", precision="auto")
    assert_kept(
        space, auto, {"audio": [clip("short"), clip("long"), *(noise(n) for n in (9_000, 40_000, 200_000))]}
    )
    assert auto.encoders["audio"].precision_decision.bfloat16


def test_bfloat16_weights_change_a_vector_little_and_the_fingerprint_not_at_all(space, tmp_path):
    fast = mm.load(f"languagebind/{TINY}", device="cpu", precision="bfloat16")
    assert {value.dtype for value in fast.encoders["audio"].state_dict().values()} == {torch.bfloat16}
    assert fast.encode(clip("long")) @ space.encode(clip("long")) >= 0.999
    assert fast.fingerprint == space.fingerprint
    fast.save_pretrained(tmp_path / "fast")
    assert mm.load(tmp_path / "fast", device="cpu").fingerprint == space.fingerprint


def test_preprocessing_is_part_of_the_fingerprint(space):
    encoder = space.encoders["audio"]
    other = preprocessing.MelSettings(**{**encoder.mel_settings.to_dict(), "mean": 0.0})
    louder = LanguageBindAudio(encoder.sizes, other, encoder.state_dict(), Runtime())
    assert louder.fingerprint != encoder.fingerprint


def test_the_scale_it_was_trained_with_is_the_head_of_audio_and_text_alone(space):
    assert space.logit_scale_for("audio", "text").scale == pytest.approx(np.exp(2.6592), rel=1e-5)
    with pytest.raises(InvalidInput, match=r"^no logit scale for audio-audio"):
        space.logit_scale_for("audio", "audio")


class Hub:
    """A hub that has the tiny checkpoint under every name, and what it was asked for."""

    names = ("README.md", "config.json", "pytorch_model.bin", "tokenizer.json")

    def __init__(self) -> None:
        self.requests: list[tuple[Any, ...]] = []

    def listing(self, repo: str, *, revision: str | None = None, offline: bool = False) -> list[str]:
        return list(self.names)

    def snapshot(
        self, repo: str, *, patterns: list[str], revision: str | None = None, offline: bool = False
    ) -> Path:
        self.requests.append((repo, patterns, revision, offline))
        return TINY


@pytest.fixture
def hub(monkeypatch) -> Hub:
    hub = Hub()
    monkeypatch.setattr("multimodal.core.hub.api.listing", hub.listing)
    monkeypatch.setattr("multimodal.core.hub.api.snapshot", hub.snapshot)
    return hub


@pytest.mark.parametrize("card", languagebind.CARDS, ids=lambda card: card.name)
def test_a_name_is_fetched_at_the_cards_revision_and_knows_the_space_it_belongs_to(card, hub):
    loaded = mm.load(card.name, device="cpu", offline=True)
    assert hub.requests == [(card.source, ["config.json", "pytorch_model.bin"], card.revision, True)]
    assert loaded.card == card and loaded.name == card.name
    assert loaded.encoders["audio"].space_id == "openclip/ViT-L-14:datacomp_xl_s13b_b90k"


def test_safetensors_are_fetched_where_a_revision_has_them(hub):
    hub.names = (*hub.names, "model.safetensors")
    mm.load("languagebind/audio-ft", device="cpu", revision="refs/pr/1")
    assert hub.requests == [
        ("LanguageBind/LanguageBind_Audio_FT", ["config.json", "model.safetensors"], "refs/pr/1", False)
    ]


def test_a_name_is_fetched_from_a_hub_once_and_loads_offline_after(server: LoopbackHub, tmp_path, space):
    card = languagebind.CARDS[0]
    torch.save(state_of(TINY), tmp_path / "pytorch_model.bin")
    weights = (tmp_path / "pytorch_model.bin").read_bytes()
    files = {
        "config.json": (TINY / "config.json").read_bytes(),
        "pytorch_model.bin": weights,
        "README.md": b"-",
    }
    server.add(card.source, files)
    server.repos[card.source][card.revision] = files
    first = mm.load(card.name, device="cpu")
    assert np.array_equal(first.encode(clip("short")), space.encode(clip("short")))
    assert len(server.fetched(weights)) == 1 and not server.seen("GET", "README")
    server.requests.clear()
    for offline in (False, True):
        assert mm.load(card.name, device="cpu", offline=offline).fingerprint == first.fingerprint
    assert server.requests == []


def test_a_folder_belongs_to_a_space_only_if_the_user_says_so(tmp_path, monkeypatch):
    shutil.copytree(TINY, tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert mm.load("languagebind/./mine", device="cpu").encoders["audio"].space_id is None
    loaded = mm.load("languagebind/./mine", device="cpu", space_id="openclip/mine")
    assert loaded.encoders["audio"].space_id == "openclip/mine"
    loaded.save_pretrained(tmp_path / "saved")
    assert mm.load("./saved", device="cpu").encoders["audio"].space_id == "openclip/mine"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "languagebind/vidoe",
            "^there is no model 'languagebind/vidoe'; did you mean 'languagebind/audio' or "
            "'languagebind/audio-ft'[?] available are languagebind/audio-ft, languagebind/audio, and folders as "
            "'languagebind/./folder'$",
        ),
        ("languagebind", "^there is no model 'languagebind/'; "),
        (
            "languagebind/./nowhere",
            "^'languagebind/./nowhere' names the folder './nowhere', which does not exist$",
        ),
    ],
)
def test_an_unknown_name_is_answered_with_close_ones(name, text):
    with pytest.raises(UnknownModel, match=text):
        mm.load(name, device="cpu")


def test_an_unknown_precision_is_refused_before_anything_is_fetched(hub):
    with pytest.raises(
        InvalidInput, match=r"^precision must be one of 'float32', 'bfloat16', 'auto', got 'half'$"
    ):
        mm.load("languagebind/audio", precision="half")
    assert hub.requests == []


# --- adapters and attention over time --------------------------------------------------------------


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def written(folder: Path, tensors: dict[str, torch.Tensor], **vision: Any) -> Path:
    from safetensors.torch import save_file

    config = json.loads((TINY / "config.json").read_text())
    config["vision_config"] |= vision
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    return folder


ADAPTED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj")


@pytest.mark.parametrize("base_layer", ["", ".base_layer"], ids=["peft before 0.6", "peft since 0.6"])
def test_lora_adapters_are_merged(tmp_path, space, base_layer):
    """The oracle keeps each adapter apart and adds what it gives to what its layer gives."""
    plain, wrapped, adapters = state_of(TINY), {}, {}
    for name, value in plain.items():
        layer = name.removeprefix("vision_model.encoder.").removesuffix(".weight")
        if name.startswith("vision_model.encoder.layers."):
            kept = name.replace("encoder.layers", "encoder.base_model.model.layers")
            if layer.endswith(ADAPTED) and name.endswith(".weight"):
                pair = torch.randn(4, 32) * 0.3, torch.randn(32, 4) * 0.3
                adapters[f"vision_model.encoder.{layer}"] = pair
                stem = kept.removesuffix(".weight")
                wrapped |= {
                    f"{stem}.lora_A.default.weight": pair[0],
                    f"{stem}.lora_B.default.weight": pair[1],
                }
            is_adapted = layer.removesuffix(".bias").endswith(ADAPTED)
            kept = kept.replace("_proj.", f"_proj{base_layer}.") if is_adapted else kept
            wrapped[kept] = value
        else:
            wrapped[name] = value
    assert len(adapters) == 8
    folder = written(tmp_path / "lora", wrapped, lora_r=4, lora_alpha=10)
    merged = mm.load(f"languagebind/{folder}", device="cpu")

    oracle = mm.load(f"languagebind/{TINY}", device="cpu")
    for name, (a, b) in adapters.items():
        oracle.encoders["audio"].net.get_submodule(name).register_forward_hook(
            lambda _, given, out, a=a, b=b: out + 10 / 4 * (given[0] @ a.T @ b.T)
        )
    apart = oracle.encode(clip("short"))
    assert np.abs(merged.encode(clip("short")) - apart).max() <= 1e-5
    assert np.abs(merged.encode(clip("short")) - space.encode(clip("short"))).max() > 1e-2


@pytest.mark.parametrize("has_mlp", [True, False], ids=["audio's layers", "video's layers"])
def test_attention_over_time_of_one_frame_is_upstreams(tmp_path, space, has_mlp):
    """The oracle writes the attention over time out whole, with its queries, keys and softmax over one frame."""
    tensors, width = state_of(TINY), 32
    for layer in range(2):
        stem = f"vision_model.encoder.layers.{layer}.temporal"
        shapes = {f"_attn.{name}_proj.weight": (width, width) for name in ("q", "k", "v", "out")}
        shapes |= {f"_attn.{name}_proj.bias": (width,) for name in ("q", "k", "v", "out")}
        shapes |= {
            "_layer_norm1.weight": (width,),
            "_layer_norm1.bias": (width,),
            "_embedding": (1, 1, width),
        }
        if has_mlp:
            shapes |= {
                "_mlp.fc1.weight": (64, width), "_mlp.fc1.bias": (64,), "_mlp.fc2.weight": (width, 64),
                "_mlp.fc2.bias": (width,), "_layer_norm2.weight": (width,), "_layer_norm2.bias": (width,),
            }  # fmt: skip
        tensors |= {stem + name: torch.randn(shape) * 0.2 for name, shape in shapes.items()}
    folder = written(tmp_path / "timed", tensors, add_time_attn=True)
    timed = mm.load(f"languagebind/{folder}", device="cpu")

    def before(layer: int, x: torch.Tensor) -> torch.Tensor:
        t = {
            name.split(".temporal")[1]: tensor
            for name, tensor in tensors.items()
            if f"layers.{layer}.temporal" in name
        }
        rows = x.flatten(0, 1)[:, None]  # (n tokens, 1 frame, width)
        normed = F.layer_norm(rows, (width,), t["_layer_norm1.weight"], t["_layer_norm1.bias"])
        q, k, v = (
            F.linear(normed, t[f"_attn.{p}_proj.weight"], t[f"_attn.{p}_proj.bias"])
            .unflatten(2, (4, 8))
            .transpose(1, 2)
            for p in "qkv"
        )
        weights = (q @ k.transpose(2, 3) / 8**0.5).softmax(-1)
        seen = (weights @ v).transpose(1, 2).flatten(2)
        rows = rows + F.linear(seen, t["_attn.out_proj.weight"], t["_attn.out_proj.bias"])
        if has_mlp:
            normed = F.layer_norm(rows, (width,), t["_layer_norm2.weight"], t["_layer_norm2.bias"])
            hidden = F.gelu(F.linear(normed, t["_mlp.fc1.weight"], t["_mlp.fc1.bias"]))
            rows = rows + F.linear(hidden, t["_mlp.fc2.weight"], t["_mlp.fc2.bias"])
        return rows[:, 0].unflatten(0, x.shape[:2])

    oracle = mm.load(f"languagebind/{TINY}", device="cpu")
    for number, layer in enumerate(oracle.encoders["audio"].net.vision_model.encoder.layers):
        layer.register_forward_pre_hook(lambda _, given, number=number: before(number, given[0]))
    by_hand = oracle.encode(clip("short"))
    assert np.abs(timed.encode(clip("short")) - by_hand).max() <= 1e-5
    assert np.abs(by_hand - space.encode(clip("short"))).max() > 1e-2
    timed.save_pretrained(tmp_path / "saved")
    assert mm.load(tmp_path / "saved", device="cpu").fingerprint == timed.fingerprint


def test_126_mels_and_a_clips_square_grid_of_positions_load(tmp_path):
    tensors = state_of(TINY)
    square = torch.randn(1 + 16 * 16, 32)
    tensors["vision_model.embeddings.position_embedding.weight"] = square
    tensors["vision_model.embeddings.position_ids"] = torch.arange(257)[None]
    folder = written(tmp_path / "wide", tensors, num_mel_bins=126)
    loaded = mm.load(f"languagebind/{folder}", device="cpu")
    table = loaded.encoders["audio"].net.vision_model.embeddings.position_embedding.weight
    assert table.shape == (1 + 9 * 74, 32)
    assert torch.equal(table[0], square[0])
    assert loaded.encode(clip("long")).shape == (24,)
