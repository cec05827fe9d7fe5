"""Which checkpoints are taken, what is fetched of them, and what is said of those that are not."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import multimodal
from multimodal.core.errors import (
    CheckpointError,
    DownloadError,
    InvalidInput,
    MissingExtra,
    UnknownModel,
)
from multimodal.pipelines.generation.backends import diffusers_load as loading
from multimodal.pipelines.generation.pipeline import GenerationPipeline
from tests.core.hub.loopback_hub import LoopbackHub, server
from tests.pipelines.generation.generation_models import SIDE, Checkpoints, checkpoints
from tests.pipelines.generation.test_generation_parity import a_vector, ours, pixels

__all__ = ["checkpoints", "server"]  # fixtures

HOW: dict[str, Any] = {"seed": 3, "steps": 1, "width": SIDE, "height": SIDE}
load = GenerationPipeline.from_pretrained


def refuses(kind: type[Exception], text: str, model: Any, **options: Any) -> None:
    with pytest.raises(kind) as caught:
        load(model, **options)
    assert str(caught.value) == text


@pytest.fixture
def copy(checkpoints: Checkpoints, tmp_path: Path) -> Path:
    """A Stable Diffusion to break."""
    return Path(shutil.copytree(checkpoints("stable_diffusion"), tmp_path / "copy"))


def rewrite(path: Path, **changes: Any) -> None:
    result = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in result.items() if value is not ...}))


# --- names ---------------------------------------------------------------------------------------


def test_a_name_that_means_nothing_is_answered_with_close_ones(tmp_path: Path) -> None:
    write = (
        "write 'starter', 'diffusers/<owner>/<name>' (as in 'diffusers/stabilityai/sdxl-turbo'), "
        "'hf/facebook/musicgen-small', or a folder as './my-model'"
    )
    start = "no generation model is called"
    refuses(UnknownModel, f"{start} 'dall-e'; {write}", "dall-e")
    refuses(UnknownModel, f"{start} 'sdxl-turb'; did you mean 'sdxl-turbo'? {write}", "sdxl-turb")
    gone = tmp_path / "gone"
    refuses(UnknownModel, f"{str(gone)!r} names the folder {str(gone)!r}, which does not exist", gone)
    refuses(
        UnknownModel,
        f"'diffusers/{gone}' names the folder {str(gone)!r}, which does not exist",
        f"diffusers/{gone}",
    )
    refuses(
        UnknownModel,
        "'diffusers' needs the id of a model or a folder: 'diffusers/stabilityai/sdxl-turbo', 'diffusers/./folder'",
        "diffusers/",
    )
    refuses(
        UnknownModel,
        f"{str(tmp_path)!r} has no model_index.json, so it is not a diffusers checkpoint; give a folder written by "
        "save_pretrained() of diffusers, or the id of a model",
        tmp_path,
    )


def test_a_folder_is_named_in_several_ways(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoints("stable_diffusion")
    monkeypatch.chdir(folder.parent)
    expected = pixels(ours(folder)("a cat", **HOW))
    for name in (
        "./stable_diffusion",
        "diffusers/./stable_diffusion",
        f"diffusers/{folder}",
        Path("stable_diffusion"),
    ):
        draw = multimodal.pipeline("generation", model=name)
        assert np.array_equal(pixels(draw("a cat", **HOW)), expected)
        assert draw.name == (name if isinstance(name, str) else "./stable_diffusion")
    assert load(f"hf/{checkpoints('musicgen')}").name == f"hf/{checkpoints('musicgen')}"


def test_options_that_mean_nothing_are_refused(checkpoints: Checkpoints) -> None:
    folder, music = checkpoints("stable_diffusion"), checkpoints("musicgen")
    with pytest.raises(TypeError, match="unexpected keyword argument 'decode'"):
        GenerationPipeline.from_pretrained(folder, decode="fast")
    refuses(InvalidInput, "vector_length must be a number above 0, got 0", folder, vector_length=0)
    text = f"{str(music)!r} is not a checkpoint of diffusers and takes no variant, prior"
    refuses(InvalidInput, text, music, variant="fp16", prior="diffusers/a/b")
    with pytest.raises(InvalidInput, match="precision must be one of"):
        load(folder, precision="int8")


# --- what a checkpoint must be -------------------------------------------------------------------


def test_a_model_that_generates_nothing_from_a_prompt_is_refused_before_its_weights_are_fetched(
    tmp_path: Path,
) -> None:
    ending = (
        "use a model that generates images or audio from a prompt, such as 'diffusers/stabilityai/sdxl-turbo'"
    )
    for cls, use in (
        ("DDPMPipeline", "generates without a prompt or a vector"),
        ("WanPipeline", "generates videos"),
        ("StableDiffusionInpaintPipeline", "inpaints masked images"),
        ("KandinskyV22PriorPipeline",
         "maps text to vectors and generates no image; name the decoder, and this model as prior=…"),
    ):  # fmt: skip
        (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": cls}))
        refuses(CheckpointError, f"{str(tmp_path)!r} is a {cls}, which {use}: {ending}", tmp_path)


def test_code_of_its_own_is_never_run(copy: Path) -> None:
    (copy / "pipeline.py").write_text("raise SystemExit")
    rewrite(copy / "model_index.json", unet=["pipeline", "MyUNet"])
    refuses(
        CheckpointError,
        f"{str(copy)!r} has a component 'unet' of 'pipeline', which is neither diffusers nor transformers: custom code "
        "is never run; use another model",
        copy,
    )
    for component, what in ((["pipeline", "Mine"], "pipeline"), ("MyPipeline", "MyPipeline")):
        rewrite(copy / "model_index.json", _class_name=component)
        with pytest.raises(
            CheckpointError,
            match=rf"is a {what}, which diffusers [\d.]+ does not know, or it contains custom code",
        ):
            load(copy)


def test_a_damaged_index_is_reported(copy: Path) -> None:
    index = copy / "model_index.json"
    index.write_text("{")
    with pytest.raises(
        CheckpointError, match=rf"^{re.escape(str(index))} is not JSON \(.*\); fetch or copy it again$"
    ):
        load(copy)
    index.write_text("[]")
    refuses(CheckpointError, f"{index} names no diffusers pipeline; fetch or copy it again", copy)


@pytest.mark.parametrize(("part", "file"), [("unet", "diffusion_pytorch_model"), ("text_encoder", "model")])
def test_weights_that_are_missing_are_never_made_up(copy: Path, part: str, file: str) -> None:
    path = copy / part / f"{file}.safetensors"
    tensors = load_file(path)
    del tensors[max(tensors)]
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(
        CheckpointError,
        match=r"copy' lacks weights of its StableDiffusionPipeline, or has them in another shape; it is incomplete or "
        r"of another model \(.*\)$",
    ):
        load(copy)


def test_files_that_are_cut_or_gone_are_reported(copy: Path) -> None:
    path = copy / "vae" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:500])
    ending = r"; fetch or copy it again, or upgrade diffusers$"
    with pytest.raises(CheckpointError, match=rf"^diffusers cannot read '.*copy': .*{ending}"):
        load(copy)
    path.unlink()
    with pytest.raises(CheckpointError, match=rf"^diffusers cannot read '.*copy': .*{ending}"):
        load(copy)


def test_a_variant_is_taken_where_there_is_one(copy: Path, checkpoints: Checkpoints) -> None:
    path = copy / "unet" / "diffusion_pytorch_model.safetensors"
    path.rename(path.with_suffix(".fp16.safetensors"))
    text = f"{str(copy)!r} has weights of 'unet' only as fp16: give variant='fp16'"
    refuses(CheckpointError, text, copy)
    made = load(copy, variant="fp16")("a cat", **HOW)
    assert np.array_equal(pixels(made), pixels(ours(checkpoints("stable_diffusion"))("a cat", **HOW)))
    whole = checkpoints("stable_diffusion")
    text = f"{str(whole)!r} has no weights of variant 'int8'; leave variant out"
    refuses(CheckpointError, text, whole, variant="int8")


def as_pickle(path: Path, name: str) -> Path:
    torch.save(load_file(path), path.with_name(name))
    path.unlink()
    return path.with_name(name)


def test_pickled_weights_are_read_and_nothing_in_them_is_run(copy: Path, checkpoints: Checkpoints) -> None:
    file = as_pickle(copy / "unet" / "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
    as_pickle(copy / "text_encoder" / "model.safetensors", "pytorch_model.bin")
    made = load(copy)("a cat", **HOW)
    assert np.array_equal(pixels(made), pixels(ours(checkpoints("stable_diffusion"))("a cat", **HOW)))

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(copy / "ran"),)

    with file.open("wb") as stream:
        pickle.dump({"x": Evil()}, stream)
    with pytest.raises(CheckpointError, match=r"^diffusers cannot read '.*copy': "):
        load(copy)
    assert not (copy / "ran").exists()


def test_a_part_whose_library_is_missing_names_the_extra(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import diffusers

    def lacks(*given: Any, **more: Any) -> Any:
        raise ImportError("it requires the torchsde library")

    monkeypatch.setattr(diffusers.DiffusionPipeline, "from_pretrained", lacks)
    refuses(
        MissingExtra,
        f"{str(copy)!r} (it requires the torchsde library) needs another package: pip install 'multimodal[diffusion]'",
        copy,
    )


@pytest.mark.parametrize("package", ["diffusers", "transformers"])
def test_without_its_libraries_the_extra_is_named(
    copy: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    result = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == package else result(name, *more)
    )
    refuses(MissingExtra, f"generating images needs {package}: pip install 'multimodal[diffusion]'", copy)


def test_offload_needs_what_it_runs_on(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoints("stable_diffusion")
    result = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "accelerate" else result(name, *more)
    )
    refuses(
        MissingExtra,
        "offload=True needs accelerate: pip install 'multimodal[offload]'",
        folder,
        offload=True,
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: object())
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
    with pytest.raises(InvalidInput, match=r"^offload=True needs an accelerator, and torch finds none;"):
        loading.offload(None)


# --- priors and adapters -------------------------------------------------------------------------


def test_a_decoder_finds_the_prior_that_its_card_names(
    checkpoints: Checkpoints, server: LoopbackHub, tmp_path: Path
) -> None:
    decoder, prior = checkpoints("kandinsky"), checkpoints("kandinsky_prior")
    card = b"---\nlicense: apache-2.0\nprior:\n  - org/prior\ntags:\n- x\n---\n# It\n"
    server.add("org/decoder", files_of(decoder) | {"README.md": card})
    server.add("org/prior", files_of(prior))
    how = {"seed": 3, "steps": 1, "width": 64, "height": 64}
    made = load("diffusers/org/decoder")("a cat", **how)
    assert np.array_equal(pixels(made), pixels(load(decoder, prior=str(prior))("a cat", **how)))


def test_halves_that_do_not_fit_are_reported(checkpoints: Checkpoints) -> None:
    decoder, other = checkpoints("kandinsky"), checkpoints("stable_diffusion")
    with pytest.raises(
        CheckpointError, match=r"^a StableDiffusionPipeline is not the prior of a KandinskyV22Pipeline: "
    ):
        load(decoder, prior=str(other))
    refuses(
        CheckpointError,
        "a KandinskyV22PriorPipeline is not the prior of a StableDiffusionPipeline: diffusers "
        f"{importlib.import_module('diffusers').__version__} has no combined pipeline for StableDiffusionPipeline",
        other,
        prior=str(checkpoints("kandinsky_prior")),
    )
    refuses(
        CheckpointError,
        "prior='hf/a/b' is not a checkpoint of diffusers: write 'diffusers/<owner>/<name>'",
        decoder,
        prior="hf/a/b",
    )


def test_an_adapter_must_be_one(checkpoints: Checkpoints, tmp_path: Path) -> None:
    folder = checkpoints("stable_diffusion")
    refuses(
        UnknownModel,
        "ip_adapter='./gone.bin': the file does not exist",
        folder,
        ip_adapter="./gone.bin",
    )
    refuses(
        UnknownModel,
        "ip_adapter='h94/IP-Adapter' names no file: write 'h94/IP-Adapter:models/ip-adapter_sd15.safetensors' or "
        "'./file.safetensors'",
        folder,
        ip_adapter="h94/IP-Adapter",
    )
    plus = tmp_path / "plus.safetensors"
    save_file({"image_proj.latents": torch.zeros(1), "ip_adapter.1.to_k_ip.weight": torch.zeros(1)}, plus)
    refuses(
        CheckpointError,
        f"ip_adapter={str(plus)!r} has no projection from a single image vector ('image_proj.proj.weight'); the "
        "variants plus, full and faceid need more than one vector: use the plain variant",
        folder,
        ip_adapter=str(plus),
    )
    plain = tmp_path / "plain.safetensors"
    save_file(
        {"image_proj.proj.weight": torch.zeros(1), "ip_adapter.1.to_k_ip.weight": torch.zeros(1)}, plain
    )
    refuses(
        CheckpointError,
        "a KandinskyV22Pipeline takes no IP-Adapter: these exist for Stable Diffusion 1.x, 2.x and XL",
        checkpoints("kandinsky"),
        ip_adapter=str(plain),
    )
    with pytest.raises(CheckpointError, match=r"^diffusers cannot read 'ip_adapter=.*plain\.safetensors': "):
        load(folder, ip_adapter=str(plain))


# --- MusicGen ------------------------------------------------------------------------------------


def test_of_transformers_only_musicgen_makes_items(checkpoints: Checkpoints, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(checkpoints("musicgen"), tmp_path / "music"))
    tensors = load_file(broken / "model.safetensors")
    del tensors["decoder.lm_heads.0.weight"]
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        CheckpointError,
        match=r"music' lacks 1 weights of its MusicgenForConditionalGeneration \(decoder\.lm_heads\.0",
    ):
        load(broken)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    refuses(
        CheckpointError,
        f"{str(tmp_path)!r} is of type 'clip'; of transformers' models only MusicGen generates here; for images use "
        "a diffusers checkpoint: 'diffusers/…'",
        tmp_path,
    )


# --- a hub ---------------------------------------------------------------------------------------


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def resolved(server: LoopbackHub) -> set[str]:
    """The names of the files that were asked for."""
    return {request.path.split("/", 5)[5] for request in server.requests if "/resolve/" in request.path}


def test_a_checkpoint_is_fetched_once_and_no_more_of_it_than_is_needed(
    checkpoints: Checkpoints, server: LoopbackHub
) -> None:
    needed = files_of(checkpoints("stable_diffusion"))
    unet = needed["unet/diffusion_pytorch_model.safetensors"]
    extra = {
        "v1-5-pruned.safetensors": b"p" * 2_000, "unet/diffusion_pytorch_model.bin": b"b" * 2_000, "run.py": b"x",
        "unet/diffusion_pytorch_model.fp16.safetensors": unet, "unet/model.onnx": b"o", "onnx/x.json": b"{}",
    }  # fmt: skip
    server.add("org/tiny", needed | extra)
    draw = load("diffusers/org/tiny")
    expected = pixels(ours(checkpoints("stable_diffusion"))("a cat", **HOW))
    assert np.array_equal(pixels(draw("a cat", **HOW)), expected)
    assert resolved(server) == set(needed)
    assert draw("a cat", **HOW).model == "diffusers/org/tiny"
    server.requests.clear()
    load("diffusers/org/tiny")
    assert resolved(server) == set()
    with server.down():
        again = load("diffusers/org/tiny", offline=True)
        assert np.array_equal(pixels(again("a cat", **HOW)), expected)
    server.requests.clear()
    half = load("diffusers/org/tiny", variant="fp16")
    assert resolved(server) == {"unet/diffusion_pytorch_model.fp16.safetensors"}
    assert np.array_equal(pixels(half("a cat", **HOW)), expected)


def test_what_a_hub_does_not_have_is_reported(server: LoopbackHub) -> None:
    with pytest.raises(UnknownModel, match="org/gone"):
        load("diffusers/org/gone")
    server.add("org/clip", {"config.json": b"{}", "README.md": b"# It"})
    with pytest.raises(
        UnknownModel,
        match=r"^'diffusers/org/clip' has no model_index\.json, so it is not a diffusers checkpoint",
    ):
        load("diffusers/org/clip")
    with pytest.raises(DownloadError, match=r"^offline, and the cache"):
        load("diffusers/org/other", offline=True)


def test_a_vector_is_no_use_without_a_place_for_it(checkpoints: Checkpoints) -> None:
    assert ours(checkpoints("stable_diffusion")).backend.dim is None
    assert "vector" not in ours(checkpoints("stable_diffusion")).backend.supported_options
    assert {"vector", "steps"} <= ours(checkpoints("kandinsky")).backend.supported_options
    assert "prompt" not in ours(checkpoints("kandinsky")).backend.supported_options
    assert a_vector().shape == (ours(checkpoints("kandinsky")).backend.dim,)
