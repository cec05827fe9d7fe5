"""Captioning with models of transformers: the tokens of its own `generate`, called by hand on the same checkpoint."""

import functools
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
import transformers as hf

import multimodal as mm
from multimodal.core.errors import (
    CheckpointError,
    EncoderError,
    InvalidInput,
    MediaTooLarge,
    MissingExtra,
    UnknownModel,
    UnsupportedModality,
)
from multimodal.encoders.hf.checkpoint import quiet
from multimodal.pipelines.captioning.options import CaptioningOptions
from tests.core.hub.loopback_hub import server
from tests.pipelines.captioning import captioners

__all__ = ["server"]  # a fixture

RNG = np.random.default_rng(5)
IMAGES = [
    RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8),
    np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None] * 4, (64, 33, 3)).copy(),
    np.full((50, 50, 3), (200, 20, 20), np.uint8),
]
SOUNDS = [RNG.normal(0, 0.2, n).astype(np.float32) for n in (16_000, 9_000)]
VIDEO = RNG.integers(0, 256, (6, 48, 40, 3), dtype=np.uint8)
CHATS = ("llava", "qwen2_vl", "qwen2_5_vl", "idefics3", "smolvlm", "gemma3")
PLAIN = ("blip", "git", "blip_2", "florence_2", "vit_gpt2")
TOKENS = 10

Load = Callable[..., mm.CaptioningPipeline]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The tiny checkpoint of a kind, written once; not to be changed."""

    @functools.cache
    def folder_of(kind: str) -> Path:
        if kind == "smolvlm":
            pytest.importorskip("num2words")
        with quiet():
            return captioners.write(kind, tmp_path_factory.mktemp("captioner") / kind)

    return folder_of


@pytest.fixture(scope="session")
def load(folder: Callable[[str], Path]) -> Load:
    """The pipeline on it, loaded once."""
    return functools.cache(
        lambda kind: mm.CaptioningPipeline.from_pretrained(f"hf/{folder(kind)}", device="cpu")
    )


def generated(model: Any, inputs: Any, tokenizer: Any, **options: Any) -> list[int]:
    """The tokens that follow those of the prompt, up to the first that ends."""
    out = model.generate(**inputs, max_new_tokens=TOKENS, **({"do_sample": False} | options))[0].tolist()
    return out


@functools.cache
def upstream_processor(path: Path) -> Any:
    return hf.AutoProcessor.from_pretrained(path, local_files_only=True)


@functools.cache
def upstream(path: Path) -> tuple[Any, Any]:
    """The model and the processor of a folder, by transformers."""
    model = hf.AutoModelForMultimodalLM.from_pretrained(path, local_files_only=True).eval()
    return model, upstream_processor(path)


def by_hand(path: Path, image: Any, prompt: str, **options: Any) -> str:
    """What a chat model says, as the documentation of transformers uses it."""
    model, processor = upstream(path)
    kind = "audio" if isinstance(image, np.ndarray) else "image"
    message = {
        "role": "user",
        "content": [{"type": kind, kind: image}, {"type": "text", "text": prompt}],
    }
    inputs = processor.apply_chat_template(
        [message], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    out = generated(model, inputs, processor.tokenizer, **options)[inputs["input_ids"].shape[1] :]
    return str(processor.tokenizer.decode(out, skip_special_tokens=True)).strip()


@pytest.mark.parametrize(
    ("kind", "prompt"),
    [*((kind, None) for kind in CHATS), ("llava", "what does it show?"), ("qwen2_vl", "what does it show?")],
)
def test_a_vision_language_model_says_what_transformers_makes_it_say(
    load: Load, folder: Callable[[str], Path], kind: str, prompt: str | None
) -> None:
    images = [PIL.Image.fromarray(image) for image in IMAGES]
    with quiet():
        expected = [by_hand(folder(kind), image, prompt or "Describe this image.") for image in images]
    result = load(kind)(images, prompt=prompt, max_tokens=TOKENS, batch_size=1)
    assert [item.text for item in result] == expected
    assert len(set(expected)) > 1, "nothing depends on the picture: the test could not fail"


def test_examples_are_turns_before_the_question(load: Load, folder: Callable[[str], Path]) -> None:
    path, images = folder("llava"), [PIL.Image.fromarray(image) for image in IMAGES]
    with quiet():
        model, processor = upstream(path)
        ask = [{"type": "text", "text": "Describe this image."}]
        turns = [[{"type": "image", "image": image}, *ask] for image in images[:2]]
        said = {"role": "assistant", "content": [{"type": "text", "text": "red"}]}
        chat = [{"role": "user", "content": turns[0]}, said, {"role": "user", "content": turns[1]}]
        inputs = processor.apply_chat_template(
            [chat], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        out = generated(model, inputs, processor.tokenizer)[inputs["input_ids"].shape[1] :]
    expected = str(processor.tokenizer.decode(out, skip_special_tokens=True)).strip()
    caption = load("llava")
    result = caption(images[1], examples=[(images[0], "red")], max_tokens=TOKENS)
    assert result.text == expected
    assert result.text != caption(images[1], max_tokens=TOKENS).text
    for examples, message in (
        ("red", "examples must be"),
        ([images[0]], "example 0 must be"),
        ([("a word", "red")], "example 0 is text; .* takes examples of image or audio"),
    ):
        with pytest.raises(InvalidInput, match=message):
            caption(images[1], examples=examples)
    with pytest.raises(InvalidInput, match="takes no examples in its context: models with a chat template"):
        load("blip")(images[1], examples=[(images[0], "red")])


@pytest.mark.parametrize("kind", [kind for kind in CHATS if kind != "idefics3"])  # of which smolvlm is one
def test_in_a_batch_each_says_what_it_says_alone(load: Load, kind: str) -> None:
    """Pictures of other sizes take other numbers of tokens; padding must not be seen."""
    ask = load(kind)
    images = [mm.Image(image) for image in IMAGES]
    alone = [ask(image, max_tokens=TOKENS) for image in images]
    together = ask(images, max_tokens=TOKENS)
    assert [item.text for item in together] == [item.text for item in alone]
    assert [hit.score for hit in together] == pytest.approx([hit.score for hit in alone], abs=1e-4)


PROMPTS = {"blip": (None, "a photo"), "git": (None, "a photo"), "blip_2": (None, "a photo of"),
           "florence_2": (None, "<DETAILED_CAPTION>"), "vit_gpt2": (None,)}  # fmt: skip


@pytest.mark.parametrize(("kind", "prompt"), [(kind, prompt) for kind in PLAIN for prompt in PROMPTS[kind]])
def test_a_captioner_says_what_transformers_makes_it_say(
    load: Load, folder: Callable[[str], Path], kind: str, prompt: str | None
) -> None:
    path = folder(kind)
    with quiet():
        model = hf.AutoModelForMultimodalLM.from_pretrained(path, local_files_only=True).eval()
        expected = []
        for pixels in IMAGES:
            inputs = plain_inputs(kind, path, PIL.Image.fromarray(pixels), prompt)
            out = generated(model, inputs, None)
            begun = inputs["input_ids"][0].tolist() if "input_ids" in inputs else []
            expected.append(after(kind, out, begun))
    tokenizer = load(kind).backend.inputs.processor.tokenizer  # type: ignore[attr-defined]
    said = [tokenizer.decode(item, skip_special_tokens=True).strip() for item in expected]
    result = load(kind)([mm.Image(image) for image in IMAGES], prompt=prompt, max_tokens=TOKENS)
    assert [item.text for item in result] == said
    assert len(set(said)) > 1, "nothing depends on the picture: the test could not fail"


def plain_inputs(kind: str, path: Path, image: Any, prompt: str | None) -> dict[str, Any]:
    """As the model's own page in the documentation has it."""
    if kind == "vit_gpt2":
        return dict(hf.AutoImageProcessor.from_pretrained(path)(image, return_tensors="pt"))
    processor = upstream_processor(path)
    if kind == "git" and prompt is not None:
        row = [processor.tokenizer.cls_token_id, *processor(text=prompt, add_special_tokens=False).input_ids]
        return dict(processor(images=image, return_tensors="pt")) | {"input_ids": torch.tensor([row])}
    text = prompt or ("<CAPTION>" if kind == "florence_2" else None)
    if text is None:
        return dict(processor(images=image, return_tensors="pt"))
    return dict(processor(images=image, text=text, return_tensors="pt"))


def after(kind: str, out: list[int], begun: list[int]) -> list[int]:
    """What was written: encoder-decoders begin anew, BLIP leaves out the [SEP] behind its prompt."""
    if kind in ("florence_2", "vit_gpt2"):
        return out[1:]
    if kind == "blip":
        return out[len(begun) - 1 :] if begun else out[1:]
    if kind == "git":
        return out[max(1, len(begun)) :]
    return out[len(out) - TOKENS :] if 2 not in out[-TOKENS:] else out[-(out[-TOKENS:].index(2) + 1) :]


def test_an_audio_language_model_says_what_transformers_makes_it_say(
    load: Load, folder: Callable[[str], Path]
) -> None:
    ask = load("qwen2_audio")
    assert ask.backend.modalities == (mm.Modality.AUDIO,)
    sounds = [mm.Audio({"array": clip, "sampling_rate": 16_000}) for clip in SOUNDS]
    with quiet():
        expected = [by_hand(folder("qwen2_audio"), clip, "what do you hear?") for clip in SOUNDS]
    result = ask(sounds, prompt="what do you hear?", max_tokens=TOKENS)
    assert [item.text for item in result] == expected
    assert expected[0] != expected[1]


def test_a_video_is_shown_by_its_frames(load: Load) -> None:
    ask = load("qwen2_vl")
    video = ask(mm.Video(VIDEO, fps=2.0), max_tokens=TOKENS)
    other = ask(mm.Video(VIDEO[::-1].copy(), fps=2.0), max_tokens=TOKENS)
    assert video.modality == "video"
    assert video.text != other.text


def test_images_and_videos_in_one_list_keep_their_order(load: Load) -> None:
    ask = load("qwen2_vl")
    image, video = mm.Image(IMAGES[0]), mm.Video(VIDEO, fps=2.0)
    mixed = ask([image, video, image], max_tokens=TOKENS)
    assert [item.modality for item in mixed] == ["image", "video", "image"]
    assert mixed[0].text == mixed[2].text == ask(image, max_tokens=TOKENS).text
    assert mixed[1].text == ask(video, max_tokens=TOKENS).text


@pytest.mark.parametrize("kind", ["llava", "blip", "florence_2"])
@pytest.mark.parametrize("beams", [1, 3])
def test_the_score_is_the_mean_of_what_the_model_itself_says(load: Load, kind: str, beams: int) -> None:
    """Read from one pass over the finished caption, not from the search."""
    ask = load(kind)
    captioner: Any = ask.backend
    item = mm.Image(IMAGES[1])
    (written,) = captioner.generate([item], CaptioningOptions(max_tokens=6, beams=beams))
    inputs = captioner.inputs([item], None)
    with torch.inference_mode():
        logs = logs_of(kind, captioner.model, inputs, written)
    assert written.mean_log_prob == pytest.approx(sum(logs) / len(logs), abs=2e-3)
    assert ask(item, max_tokens=6, beams=beams).score == pytest.approx(
        math.exp(written.mean_log_prob), abs=1e-6
    )


def logs_of(kind: str, model: Any, inputs: Any, written: Any) -> list[float]:
    row = [*written.tokens, *([model.generation_config.eos_token_id] if written.ended else [])]
    tokens = torch.tensor([row])
    if kind == "llava":
        n_read = inputs["input_ids"].shape[1]
        whole = torch.cat([inputs["input_ids"], tokens], dim=1)
        logits = model(input_ids=whole, pixel_values=inputs["pixel_values"]).logits[:, n_read - 1 : -1]
    elif kind == "blip":
        seen = model.vision_model(inputs["pixel_values"])[0]
        begun = torch.cat([torch.tensor([[model.decoder_input_ids]]), tokens], dim=1)
        logits = model.text_decoder(input_ids=begun, encoder_hidden_states=seen).logits[:, :-1]
    else:
        begun = torch.cat([torch.tensor([[2]]), tokens], dim=1)[:, :-1]
        logits = model(**inputs, decoder_input_ids=begun).logits
    logs = torch.log_softmax(logits.float(), dim=-1).gather(2, tokens[..., None])[0, :, 0]
    return list(logs.tolist())


def test_beams_find_what_transformers_finds_with_beams(load: Load, folder: Callable[[str], Path]) -> None:
    image = PIL.Image.fromarray(IMAGES[0])
    with quiet():
        expected = by_hand(folder("llava"), image, "Describe this image.", num_beams=4)
    result = load("llava")(image, beams=4, max_tokens=TOKENS)
    assert result.text == expected


def test_a_seed_draws_the_same_again_and_leaves_the_global_generator_alone(load: Load) -> None:
    ask = load("llava")
    item = mm.Image(IMAGES[0])
    torch.manual_seed(11)
    before = torch.rand(1)
    torch.manual_seed(11)
    drawn = [ask(item, sample=True, seed=seed, max_tokens=TOKENS).text for seed in (1, 1, 2, 3)]
    assert torch.equal(torch.rand(1), before)
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


def test_what_max_tokens_cut_says_so(load: Load) -> None:
    long = load("florence_2")(mm.Image(IMAGES[0]), max_tokens=40)
    short = load("llava")(mm.Image(IMAGES[0]), max_tokens=2)
    assert (short.complete, short.n_tokens) == (False, 2)
    assert long.n_tokens <= 40


def test_it_runs_in_bfloat16_and_stays_near(folder: Callable[[str], Path], load: Load) -> None:
    half = mm.CaptioningPipeline.from_pretrained(f"hf/{folder('blip')}", device="cpu", precision="bfloat16")
    item = mm.Image(IMAGES[0])
    assert half.backend.model.dtype == torch.bfloat16  # type: ignore[attr-defined]
    assert half(item, max_tokens=1).score == pytest.approx(load("blip")(item, max_tokens=1).score, abs=0.1)


def test_it_moves_to_a_device(folder: Callable[[str], Path]) -> None:
    ask = mm.CaptioningPipeline.from_pretrained(f"hf/{folder('blip')}", device="cpu")
    assert ask.to("cpu") is ask
    assert ask.device.type == "cpu"
    with pytest.raises(InvalidInput, match=r"'tpu9' is not a device: write 'cpu', 'cuda'"):
        ask.to("tpu9")


def test_progress_is_reported_batch_by_batch(load: Load) -> None:
    done: list[int] = []
    load("blip")([mm.Image(image) for image in IMAGES], max_tokens=2, batch_size=2, progress=done.append)
    assert done == [2, 1]


# --- what is refused -----------------------------------------------------------------------------


def test_audio_given_to_a_captioner_of_images_is_refused(load: Load, folder: Callable[[str], Path]) -> None:
    with pytest.raises(UnsupportedModality) as caught:
        load("blip")(mm.Audio({"array": SOUNDS[0], "sampling_rate": 16_000}))
    assert str(caught.value) == f"audio given to 'hf/{folder('blip')}', which captions image"


def test_a_text_and_a_vector_are_refused(load: Load, folder: Callable[[str], Path]) -> None:
    with pytest.raises(
        UnsupportedModality, match=r"^text given to 'hf/.*', which captions image and video; a str is text"
    ):
        load("qwen2_vl")("a cat")
    with pytest.raises(InvalidInput) as caught:
        load("llava")(np.zeros(256, np.float32))
    assert str(caught.value) == (
        f"a vector given to 'hf/{folder('llava')}', which captions image themselves; vectors are captioned by 'starter'"
    )


def test_a_prompt_longer_than_the_model_takes_is_refused_not_cut(
    load: Load, folder: Callable[[str], Path]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        load("llava")(mm.Image(IMAGES[0]), prompt="x" * 300)
    n = int(str(caught.value).split(" input have ")[1].split()[0])
    assert n > 300
    assert str(caught.value) == (
        f"the prompt and the input have {n} tokens, and 'hf/{folder('llava')}' takes 256: shorten the prompt"
    )


def test_more_tokens_than_the_model_has_room_for_are_refused(
    load: Load, folder: Callable[[str], Path]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        load("llava")(mm.Image(IMAGES[0]), prompt="hm", max_tokens=250)
    n = int(str(caught.value).split(" input has ")[1].split(",")[0])
    assert str(caught.value) == (
        f"max_tokens=250 does not fit: 'hf/{folder('llava')}' takes 256 tokens and the input has {n}, so at most "
        f"{256 - n} can be written"
    )
    assert load("llava")(mm.Image(IMAGES[0]), prompt="hm", max_tokens=256 - n).n_tokens <= 256 - n


def test_audio_longer_than_the_model_hears_is_refused_not_cut(
    load: Load, folder: Callable[[str], Path]
) -> None:
    with pytest.raises(MediaTooLarge) as caught:
        load("qwen2_audio")(mm.Audio({"array": np.tile(SOUNDS[0], 2)[:24_000], "sampling_rate": 16_000}))
    assert str(caught.value) == (
        f"the audio is 1.5 s long, and 'hf/{folder('qwen2_audio')}' takes at most 1 s: give a part of it, or "
        "transcribe it"
    )


def test_a_prompt_that_pretends_to_hold_images_is_refused(load: Load, folder: Callable[[str], Path]) -> None:
    with pytest.raises(InvalidInput, match=r"^the processor of 'hf/.*' rejects the prompt or the input: "):
        load("llava")(mm.Image(IMAGES[0]), prompt="<image> and <image>")


def test_a_prompt_given_to_a_model_without_one_is_refused(load: Load) -> None:
    with pytest.raises(InvalidInput, match=r"it was trained to caption without a prompt; leave it out$"):
        load("vit_gpt2")(mm.Image(IMAGES[0]), prompt="a cat")


@pytest.mark.parametrize(
    ("config", "name", "use"),
    [
        (hf.BertConfig, "BertForMaskedLM", "; captioning models are BLIP, GIT, Florence-2, LLaVA, Qwen-VL and similar"),
        (hf.WhisperConfig, "WhisperForConditionalGeneration",
         "; it transcribes: multimodal.pipeline('transcription', model=…)"),
        (hf.CLIPConfig, "CLIPModel", "; it encodes items as vectors: multimodal.load(…)"),
    ],
)  # fmt: skip
def test_a_model_that_does_not_caption_is_refused_with_its_task(
    tmp_path: Path, config: Any, name: str, use: str
) -> None:
    config(architectures=[name]).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        mm.CaptioningPipeline.from_pretrained(f"hf/{tmp_path}")
    assert str(caught.value) == (
        f"'hf/{tmp_path}' is a {name}, which generates no text from images, audio or video{use}"
    )


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UnknownModel, match=r"names the folder '.*nowhere', which does not exist; check the path$"
    ):
        mm.CaptioningPipeline.from_pretrained(f"hf/{tmp_path}/nowhere")


def test_a_checkpoint_that_lacks_weights_is_refused(folder: Callable[[str], Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(folder("blip"), tmp_path / "blip")
    tensors = load_file(copy / "model.safetensors")
    lost = next(name for name in sorted(tensors) if name.endswith("mlp.fc1.weight"))
    del tensors[lost]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError) as caught:
        mm.CaptioningPipeline.from_pretrained(f"hf/{copy}")
    assert str(caught.value) == (
        f"the tensors of 'hf/{copy}' do not fit a BlipForConditionalGeneration as its config.json describes it (1 "
        f"missing: {lost}); the checkpoint is incomplete or of another model"
    )


def test_a_checkpoint_without_its_processor_is_refused(folder: Callable[[str], Path], tmp_path: Path) -> None:
    copy = shutil.copytree(folder("blip"), tmp_path / "blip")
    for name in ("processor_config.json", "preprocessor_config.json"):
        (copy / name).unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match=r"^the processor of 'hf/.*'"):
        mm.CaptioningPipeline.from_pretrained(f"hf/{copy}")


def test_a_package_that_a_processor_needs_is_named(
    folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder("smolvlm")
    monkeypatch.setattr("transformers.models.smolvlm.processing_smolvlm.num2words", None)
    with pytest.raises(MissingExtra) as caught:
        mm.CaptioningPipeline.from_pretrained(f"hf/{path}")
    assert str(caught.value) == f"the processor of 'hf/{path}' needs num2words: pip install 'multimodal[hf]'"


def test_memory_that_does_not_suffice_is_reported_with_what_to_lower(
    load: Load, folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = load("blip")

    def full(*items: Any, **options: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(ask.backend.model, "generate", full)  # type: ignore[attr-defined]
    name = f"hf/{folder('blip')}"
    for count, lower in ((3, "batch_size=1"), (1, "a smaller max_tokens, fewer beams")):
        with pytest.raises(EncoderError) as caught:
            ask([mm.Image(image) for image in IMAGES[:count]])
        assert str(caught.value) == (
            f"{name!r} ran out of memory on cpu with {count} at once: try {lower}, precision='bfloat16', or another "
            "device"
        )


# --- from a hub ----------------------------------------------------------------------------------


def test_a_chat_model_is_fetched_with_its_template_and_no_more_than_it_takes(
    server: Any, folder: Callable[[str], Path], load: Load
) -> None:
    files = {path.name: path.read_bytes() for path in folder("llava").iterdir()}
    server.add("org/llava", files | {"README.md": b"# Tiny", "onnx/model.onnx": b"o" * 2_000})
    ask = mm.pipeline("captioning", model="hf/org/llava", device="cpu")
    item = mm.Image(IMAGES[0])
    assert ask(item, max_tokens=TOKENS) == load("llava")(item, max_tokens=TOKENS)
    fetched = {request.path.split("/", 5)[5] for request in server.requests if "/resolve/" in request.path}
    assert "chat_template.jinja" in fetched
    assert not {"README.md", "onnx/model.onnx"} & fetched
    server.requests.clear()
    again = mm.pipeline("captioning", model="hf/org/llava", device="cpu", offline=True)
    assert again(item, max_tokens=2).text == ask(item, max_tokens=2).text
    assert server.requests == []
