"""The decoders of pipelines, trained by the same function: Whisper, BLIP, Stable Diffusion and Flux, tiny and real."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import multimodal as mm
from multimodal.adapt import finetune
from multimodal.core.adapters.decoders import decoder_fingerprint, trainable_backend
from multimodal.core.errors import InvalidInput, SpaceMismatch
from tests.adapt.finetuning.conftest import COLOURS, SHAPES, shape

QUICK: dict[str, Any] = {
    "steps": 1,
    "batch_size": 4,
    "chunk_size": 4,
    "interpolate": 0.5,
    "learning_rate": 1e-3,
}
PICTURES = [
    (mm.Image(shape(colour, name)), f"a {colour} {name}") for colour in COLOURS for name in list(SHAPES)[:2]
]


def whisper(folder: Path) -> tuple[str, str, list[Any]]:
    from tests.pipelines.transcription.transcription_models import noise, whisper

    name = f"hf/{whisper(folder, seed=1)}"
    sounds = [mm.Audio({"array": noise(0.5, seed), "sampling_rate": 16_000}) for seed in range(8)]
    return "transcription", name, [(sound, f"word {n}") for n, sound in enumerate(sounds)]


def blip(folder: Path) -> tuple[str, str, list[Any]]:
    from tests.pipelines.captioning import captioners

    return "captioning", f"hf/{captioners.write('blip', folder)}", PICTURES


def stable_diffusion(folder: Path) -> tuple[str, str, list[Any]]:
    from tests.pipelines.generation import generation_models

    generation_models.stable_diffusion(folder).save_pretrained(folder)
    return "generation", f"diffusers/{folder}", PICTURES


def flux(folder: Path) -> tuple[str, str, list[Any]]:
    from tests.pipelines.generation import generation_models

    generation_models.flux(folder).save_pretrained(folder)
    return "generation", f"diffusers/{folder}", PICTURES


CASES = [(whisper, "dora"), (blip, "lora"), (stable_diffusion, "lora"), (flux, "lora")]


@pytest.mark.parametrize(("make", "method"), CASES)
def test_a_decoder_is_trained_saved_and_loaded(make: Any, method: str, tmp_path: Path) -> None:
    task, name, pairs = make(tmp_path / "model")
    pairs = pairs[:8]
    before = mm.pipeline(task, model=name)
    fingerprint = decoder_fingerprint(before.backend.decoder_network)
    adapted, report = finetune(
        before, pairs, reference=pairs[:2], method=method, out=tmp_path / "mine", **QUICK
    )
    assert report.is_loss and report.forgetting is not None and np.isfinite(report.losses).all()
    assert report.gain.value == pytest.approx(report.before.value - report.after.value)
    assert report.base == fingerprint == decoder_fingerprint(before.backend.decoder_network)
    assert report.fingerprint == decoder_fingerprint(adapted.backend.decoder_network) != fingerprint
    loaded = mm.pipeline(task, model=name, adapter=tmp_path / "mine")
    assert decoder_fingerprint(loaded.backend.decoder_network) == report.fingerprint
    sample = [(pairs[0][0], mm.Text(pairs[0][1]))]
    with torch.no_grad():
        losses = [float(p.backend.pair_losses(sample, 0)) for p in (before, adapted, loaded)]
    assert losses[1] == pytest.approx(losses[2], abs=1e-6) and losses[0] != losses[1]
    with pytest.raises(SpaceMismatch, match=f"was trained on the decoder {fingerprint[:12]}"):
        from multimodal.core.adapters.decoders import with_adapters

        with_adapters(adapted, [tmp_path / "mine"])
    with pytest.raises(InvalidInput, match="cannot be pickled"):
        pickle.dumps(adapted)


def test_the_loss_of_a_transcript_is_that_of_transformers(tmp_path: Path) -> None:
    task, name, pairs = whisper(tmp_path / "model")
    backend = mm.pipeline(task, model=name).backend
    sample = [(sound, mm.Text(text)) for sound, text in pairs[:1]]
    with torch.no_grad():
        ours = float(backend.pair_losses(sample, 0))
        inputs = backend.extractor(pairs[0][0].load().samples, sampling_rate=16_000, return_tensors="pt")
        ids = backend.tokenizer(pairs[0][1], return_tensors="pt")["input_ids"][:, 1:]
        upstream = float(backend.model(**inputs, labels=ids).loss)
    assert ours == pytest.approx(upstream, abs=1e-5)


def test_a_pipeline_without_a_trainable_decoder_is_refused() -> None:
    with pytest.raises(
        InvalidInput, match="the decoder of this ZeroShotClassificationPipeline cannot be trained"
    ):
        trainable_backend(mm.pipeline("zero-shot-classification"))
    with pytest.raises(InvalidInput, match="for a pipeline on a space fine-tune the space"):
        finetune(mm.pipeline("captioning"), PICTURES, **QUICK)
