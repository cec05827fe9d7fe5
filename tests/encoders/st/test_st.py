"""sentence-transformers' models give its own numbers, for every modality they take; what cannot be right is refused."""

from __future__ import annotations

import functools
import json
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

import multimodal as mm
from multimodal.core.errors import (
    InvalidInput,
    MissingExtra,
    PathLikeTextWarning,
    UnknownModel,
    UnsupportedModality,
)
from multimodal.core.media import image as image_decoding
from multimodal.core.media import pillow
from multimodal.encoders.st import preprocessing
from tests.core.hub.loopback_hub import LoopbackHub, server
from tests.encoders.promise import assert_kept, centred_cosine, fast_bfloat16
from tests.encoders.st.st_models import Models

__all__ = ["fast_bfloat16", "server"]  # fixtures
TEXTS = ["a cat", "what is a rainbow, and where does it end?", "x", "the same words " * 12]
RNG = np.random.default_rng(21)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models.of_this_run(tmp_path_factory)


@pytest.fixture(scope="session")
def load(models: Models) -> Any:
    """The space of a model; nothing in it changes, so the same one is given again."""
    known: dict[Any, mm.Space] = {}

    def load(name: str, **options: Any) -> mm.Space:
        key = name, repr(options)
        if key not in known:
            known[key] = mm.load(f"st/{models(name)}", device="cpu", **options)
        return known[key]

    return load


@pytest.fixture(scope="session")
def upstream(models: Models) -> Any:
    """What `SentenceTransformer` gives for a model, called by hand."""

    @functools.cache
    def upstream(name: str) -> Any:
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(str(models(name)), device="cpu", local_files_only=True)

    return upstream


def images() -> list[PIL.Image.Image]:
    shapes = [(40, 52), (33, 33), (64, 20)]
    return [PIL.Image.fromarray(RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)) for shape in shapes]


def sound(samples: int, rate_hz: int) -> dict[str, Any]:
    return {"array": RNG.standard_normal(samples).astype(np.float32), "sampling_rate": rate_hz}


def unit(rows: Any) -> np.ndarray:
    values = np.asarray(rows, dtype=np.float64)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


# --- upstream's numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mean", "normalised", "dense", "last", "weighted", "static", "prompted"])
def test_texts_get_upstreams_vectors(name, load, upstream):
    space = load(name)
    assert [str(modality) for modality in space.modalities] == ["text"]
    expected = upstream(name).encode(TEXTS, normalize_embeddings=True)
    assert np.abs(space.encode(TEXTS) - expected).max() <= 1e-6
    assert space.dim == expected.shape[1]
    assert np.abs(expected[0] - expected[1]).max() > 0.05


@pytest.mark.parametrize("name", ["clip", "old_clip", "two_towers"])
def test_images_and_texts_get_upstreams_vectors(name, load, upstream):
    space, seen = load(name), images()
    assert [str(modality) for modality in space.modalities] == ["text", "image"]
    by_hand = upstream(name)
    for items in (TEXTS, seen):
        assert np.abs(space.encode(items) - by_hand.encode(items, normalize_embeddings=True)).max() <= 1e-6


def test_a_vision_language_model_takes_texts_images_and_videos(load, upstream):
    space, by_hand, seen = load("qwen"), upstream("qwen"), images()
    assert [str(modality) for modality in space.modalities] == ["text", "image", "video"]
    for items in (TEXTS, seen):
        assert np.abs(space.encode(items) - by_hand.encode(items, normalize_embeddings=True)).max() <= 1e-6
    frames = RNG.integers(0, 256, (6, 32, 48, 3), dtype=np.uint8)
    times = {"fps": 2.0, "duration": 3.0, "total_num_frames": 6, "frames_indices": list(range(6))}
    given = {"video": {"array": frames, "video_metadata": times}}
    expected = by_hand.encode([given], normalize_embeddings=True)[0]
    assert np.abs(space.encode(mm.Video(frames, fps=2.0)) - expected).max() <= 1e-6


@pytest.mark.parametrize(("name", "rate_hz"), [("ast", 16_000), ("clap", 48_000)])
def test_audio_gets_upstreams_vectors_at_the_models_rate(name, rate_hz, load, upstream):
    space, by_hand = load(name), upstream(name)
    clips = [sound(rate_hz // 2, rate_hz), sound(rate_hz, rate_hz)]
    expected = np.stack([by_hand.encode([clip], normalize_embeddings=True)[0] for clip in clips])
    assert np.abs(space.encode([mm.Audio(clip) for clip in clips]) - expected).max() <= 1e-6
    other = mm.Audio(sound(11_025, 22_050))
    resampled = other.load(rate_hz=rate_hz)
    again = mm.Audio({"array": resampled.samples, "sampling_rate": rate_hz})
    assert np.array_equal(space.encode(other), space.encode(again))


def test_long_audio_is_cut_into_windows_where_upstream_takes_a_piece_at_random(load, upstream):
    space, by_hand, long = load("clap"), upstream("clap"), sound(120_000, 48_000)
    assert np.abs(by_hand.encode([long]) - by_hand.encode([long])).max() > 1e-5
    cut = [long["array"][start : start + 48_000] for start in (0, 36_000, 72_000)]
    each = unit(by_hand.encode([{"array": item, "sampling_rate": 48_000} for item in cut]))
    assert np.abs(space.encode(mm.Audio(long)) - unit(each.mean(0))).max() <= 1e-6
    short = mm.Audio(sound(24_000, 48_000))
    both = space.encode([mm.Audio(long), short])
    assert np.array_equal(both, space.encode([mm.Audio(long), short]))
    assert np.abs(both[1] - space.encode(short)).max() <= 1e-6


@pytest.mark.parametrize("limit", [1, 7, 100])
@pytest.mark.parametrize("n", [1, 7, 8, 99, 100, 101, 350])
def test_windows_cover_audio(n, limit):
    samples = np.arange(n, dtype=np.float32)
    cut = preprocessing.audio_windows(samples, limit)
    assert len(cut) == -(-n // limit)
    assert set(np.concatenate(cut)) == set(samples)
    assert {len(item) for item in cut} == {min(n, limit)}


@pytest.mark.parametrize("name", ["mean", "static", "clip", "qwen"])
def test_company_in_the_batch_changes_a_text_by_no_more_than_1e_5(name, load):
    space = load(name)
    assert np.abs(space.encode(TEXTS) - np.stack([space.encode(text) for text in TEXTS])).max() <= 1e-5


def test_a_text_is_a_text_even_if_it_reads_like_an_image(load, upstream, tmp_path, monkeypatch):
    """Upstream opens a str that names a picture, and would fetch one from a URL, if the model takes pictures."""
    images()[0].save(tmp_path / "cat.png")
    monkeypatch.chdir(tmp_path)
    space, by_hand = load("clip"), upstream("clip")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torchvision, which decodes it
        opened = by_hand.encode(["cat.png"], normalize_embeddings=True)[0]
    read = by_hand.encode([{"text": "cat.png"}], normalize_embeddings=True)[0]
    assert np.abs(opened - read).max() > 0.05
    with pytest.warns(PathLikeTextWarning):
        vector = space.encode("cat.png")
    assert np.abs(vector - read).max() <= 1e-6
    with pytest.warns(PathLikeTextWarning):
        assert space.encode("https://example.org/cat.png").shape == (16,)


def test_threads_may_prepare_at_once(load):
    encoder = load("mean").encoders["text"]
    batches = [[mm.Text("a b c " * n)] * (1 + n % 3) for n in range(1, 40)]
    expected = [encoder.encode(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        prepared = list(pool.map(encoder.prepare, batches))
    for item, rows in zip(prepared, expected, strict=True):
        assert np.abs(unit(encoder.forward(item).numpy()) - rows).max() <= 1e-5


def test_text_is_refused_by_a_model_of_audio(load, models):
    with pytest.raises(
        UnsupportedModality, match=rf"^text given to a space with audio: 'st/{models('ast')}' cannot"
    ):
        load("ast").encode("a bell")


# --- queries and documents -------------------------------------------------------------------------


def test_without_a_prompt_a_space_does_what_upstreams_encode_does(load, upstream):
    by_hand = upstream("prompted")
    assert by_hand.default_prompt_name == "cluster"
    expected = by_hand.encode(TEXTS, normalize_embeddings=True)
    assert np.abs(expected - by_hand.encode(TEXTS, prompt="", normalize_embeddings=True)).max() > 0.01
    space = load("prompted")
    assert np.abs(space.encode(TEXTS) - expected).max() <= 1e-6
    assert space.query_space is space


def test_loading_is_quiet(models, capfd):
    folder = models("prompted")
    capfd.readouterr()
    mm.load(f"st/{folder}", device="cpu")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["prompted", "router"])
def test_documents_and_the_queries_that_search_them_are_upstreams(name, load, upstream):
    by_hand, space = upstream(name), load(name, prompt="document")
    documents = by_hand.encode_document(TEXTS, normalize_embeddings=True)
    queries = by_hand.encode_query(TEXTS, normalize_embeddings=True)
    assert np.abs(documents - queries).max() > 0.01
    assert np.abs(space.encode(TEXTS) - documents).max() <= 1e-6
    assert np.abs(space.query_space.encode(TEXTS) - queries).max() <= 1e-6
    assert np.abs(load(name, prompt="query").encode(TEXTS) - queries).max() <= 1e-6


def test_any_prompt_of_the_model_can_be_named(load, upstream):
    expected = upstream("prompted").encode(TEXTS, prompt_name="cluster", normalize_embeddings=True)
    space = load("prompted", prompt="cluster")
    assert np.abs(space.encode(TEXTS) - expected).max() <= 1e-6
    assert space.query_space is space


def test_a_prompt_called_passage_is_that_of_documents(load, upstream):
    """Upstream's encode_document would take it too, but finds its own empty "document" first."""
    expected = upstream("passages").encode(TEXTS, prompt_name="passage", normalize_embeddings=True)
    assert np.abs(load("passages", prompt="document").encode(TEXTS) - expected).max() <= 1e-6


def test_prompts_can_be_given_to_a_model_that_says_none(load, upstream):
    prompts = {"query": "query: ", "document": "passage: "}
    space, by_hand = load("mean", prompt="document", prompts=prompts), upstream("mean")
    documents = by_hand.encode(TEXTS, prompt="passage: ", normalize_embeddings=True)
    queries = by_hand.encode(TEXTS, prompt="query: ", normalize_embeddings=True)
    assert np.abs(space.encode(TEXTS) - documents).max() <= 1e-6
    assert np.abs(space.query_space.encode(TEXTS) - queries).max() <= 1e-6


def test_an_index_of_documents_is_searched_with_queries(load, upstream, tmp_path):
    by_hand, space = upstream("prompted"), load("prompted", prompt="document")
    index = mm.Index.create(tmp_path / "notes.lance", space)
    index.add(list(TEXTS))
    rows = {row["text"]: row["vector"] for row in index.rows(vectors=True)}
    documents = by_hand.encode_document(TEXTS, normalize_embeddings=True)
    assert np.abs(np.stack([rows[text] for text in TEXTS]) - documents).max() <= 1e-6
    scores = {hit.text: hit.score for hit in index.search("a cat", k=4)}
    query = by_hand.encode_query(["a cat"], normalize_embeddings=True)[0]
    assert [scores[text] for text in TEXTS] == pytest.approx(list(documents @ query), abs=1e-6)
    many = index.search(["a cat", "x"], k=4)
    assert {hit.text: hit.score for hit in many[0]} == scores
    space.save_pretrained(tmp_path / "space")
    again = mm.Index.open(tmp_path / "notes.lance", mm.load(tmp_path / "space", device="cpu"))
    assert {hit.text: hit.score for hit in again.search("a cat", k=4)} == pytest.approx(scores, abs=1e-9)


def test_the_prompt_is_part_of_the_fingerprint(load):
    prints = {load("prompted", prompt=item).fingerprint for item in (None, "query", "document")}
    assert len(prints) == 3
    other = load("prompted", prompt="document", prompts={"document": "other: "})
    assert other.fingerprint not in prints


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        (
            "prompted",
            {"prompt": "quiery"},
            "has no prompt 'quiery'; its prompts are: 'query', 'document', 'cluster'; leave prompt out, or pass "
            "prompts={'query': …, 'document': …}$",
        ),
        (
            "mean",
            {"prompt": "query"},
            "does not distinguish queries from documents, so prompt='query' has no effect; its prompts are: none",
        ),
        (
            "router",
            {},
            r"has one tower for queries and one for documents: choose one with prompt='document' \(searched by "
            r"queries\) or prompt='query'$",
        ),
    ],
)
def test_a_prompt_the_model_does_not_have_is_refused(name, options, text, load, models):
    with pytest.raises(InvalidInput, match=rf"^'st/{models(name)}' {text}"):
        load(name, **options)


def test_prompts_must_be_texts(load):
    with pytest.raises(
        InvalidInput, match=r"^prompts must map names to texts, such as \{'query': 'query: '\}, got \['q'\]$"
    ):
        load("mean", prompts=["q"])


# --- dimensions, similarity, heads, precision, decoding --------------------------------------------


def test_vectors_can_be_truncated_as_upstream_does_it(load, upstream):
    by_hand = upstream("mean").encode(TEXTS, truncate_dim=8, normalize_embeddings=True)
    space = load("mean", truncate_dim=8)
    assert space.dim == 8
    assert np.abs(space.encode(TEXTS) - by_hand).max() <= 1e-6
    assert load("dense").dim == 12 and load("dense", truncate_dim=20).dim == 20


@pytest.mark.parametrize("wanted", [0, 33, -1, 8.0, True])
def test_an_impossible_truncation_is_refused(wanted, load, models):
    with pytest.raises(
        InvalidInput,
        match=r"^truncate_dim must be an integer from 1 to 32, the dimensions of "
        rf"'st/{models('mean')}', got {wanted!r}$",
    ):
        load("mean", truncate_dim=wanted)


def test_vectors_that_are_not_normalised_are_refused_unless_cosines_are_requested(load, upstream, models):
    with pytest.raises(
        InvalidInput,
        match=rf"^'st/{models('dotted')}' compares its vectors by dot, and they are not normalised; a space compares "
        r"by cosines, so its ranking would differ\. To use the directions of the vectors anyway, pass "
        r"similarity='cosine'$",
    ):
        load("dotted")
    expected = upstream("dotted").encode(TEXTS, normalize_embeddings=True)
    assert np.abs(load("dotted", similarity="cosine").encode(TEXTS) - expected).max() <= 1e-6
    with pytest.raises(
        InvalidInput, match=r"^similarity must be 'cosine' or left out, got 'dot': a space compares by"
    ):
        load("dotted", similarity="dot")


def test_only_a_clip_has_a_head(load, upstream):
    assert load("mean").logit_scales == {}
    with pytest.raises(InvalidInput, match=r"has no logit scale, so only cosines are known"):
        load("mean").probabilities("a", ["b"])
    space, by_hand, seen = load("clip"), upstream("clip"), images()
    rows = (
        by_hand.encode(seen, normalize_embeddings=True) @ by_hand.encode(TEXTS, normalize_embeddings=True).T
    )
    logits = torch.from_numpy(rows) * by_hand[0].model.logit_scale.exp()
    assert np.abs(space.probabilities(seen, TEXTS) - logits.softmax(1).detach().numpy()).max() <= 1e-5


KINDS = [
    "mean",
    "normalised",
    "dense",
    "last",
    "weighted",
    "static",
    "prompted",
    "passages",
    "router",
    "two_towers",
]


@pytest.mark.parametrize("name", [*KINDS, "clip", "old_clip", "clap", "ast", "qwen"])
def test_auto_keeps_its_promise(name, models, load, fast_bfloat16):
    options = {"prompt": "document"} if name == "router" else {}
    exact = load(name, **options)
    auto = mm.load(f"st/{models(name)}", device="cpu", precision="auto", **options)
    media = {"image": images(), "audio": [sound(n, 48_000) for n in (20_000, 44_000, 30_000)]}
    frames = [mm.Video(RNG.integers(0, 256, (4, 40, 40, 3), dtype=np.uint8), fps=4) for _ in range(3)]
    assert_kept(exact, auto, {"text": TEXTS, "video": frames} | media)
    if name == "router":
        assert centred_cosine(exact.query_space.encode(TEXTS), auto.query_space.encode(TEXTS)) >= 0.999
        assert (
            auto.query_space.encoders["text"].precision_decision is auto.encoders["text"].precision_decision
        )


@pytest.mark.parametrize("name", ["mean", "dense", "static", "clip", "qwen"])
def test_bfloat16_weights_change_directions_little_and_the_fingerprint_not_at_all(name, load):
    exact, fast = load(name), load(name, precision="bfloat16")
    items = TEXTS + (images() if "image" in exact.modalities else [])
    assert (exact.encode(items) * fast.encode(items)).sum(1).min() >= 0.999
    dtypes = {parameter.dtype for parameter in fast.encoders["text"].shared.model.parameters()}
    assert dtypes == {torch.bfloat16}
    assert fast.fingerprint == exact.fingerprint


def test_fast_decoding_shrinks_large_jpegs_before_the_processor_does(load, tmp_path, monkeypatch):
    smooth = np.linspace(0, 255, 800)[None, :, None] * np.ones((600, 1, 3))
    smooth[200:400, 300:500] = (200, 30, 60)
    PIL.Image.fromarray(smooth.astype(np.uint8)).save(tmp_path / "large.jpg", quality=95)
    image = mm.Image(tmp_path / "large.jpg")
    requests = []
    original = image_decoding.decode_pil
    monkeypatch.setattr(
        pillow, "decode_pil", lambda source, min_side: requests.append(min_side) or original(source, min_side)
    )
    exact, fast = load("clip").encode(image), load("clip", decode="fast").encode(image)
    assert requests == [None, 32]
    assert exact @ fast >= 0.999
    assert preprocessing.shortest_side(load("qwen").encoders["image"].shared.model) is None


# --- saving and loading ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["mean", "dense", "static", "clip", "old_clip", "two_towers", "clap", "ast", "qwen"]
)
def test_a_saved_space_loads_with_the_same_fingerprint_and_vectors(name, load, tmp_path):
    space = load(name)
    space.save_pretrained(tmp_path / "space")
    again = mm.load(tmp_path / "space", device="cpu")
    assert (
        again.fingerprint == space.fingerprint
        and again.logit_scales == space.logit_scales
        and again.dim == space.dim
    )
    items: dict[str, list[Any]] = {
        "text": TEXTS,
        "image": images(),
        "audio": [mm.Audio(sound(30_000, 48_000))],
    }
    for modality in set(items) & set(space.modalities):
        assert np.array_equal(again.encode(items[modality]), space.encode(items[modality]))


def test_a_saved_space_keeps_its_prompts_and_router(load, tmp_path):
    space = load("router", prompt="document")
    space.save_pretrained(tmp_path / "space")
    again = mm.load(tmp_path / "space", device="cpu")
    assert np.array_equal(again.encode(TEXTS), space.encode(TEXTS))
    assert np.array_equal(again.query_space.encode(TEXTS), space.query_space.encode(TEXTS))


def test_the_encoders_of_a_saved_space_share_one_model(load, tmp_path):
    load("clip").save_pretrained(tmp_path / "space")
    again = mm.load(tmp_path / "space", device="cpu")
    assert again.encoders["text"].shared.model is again.encoders["image"].shared.model
    other = mm.load(tmp_path / "space", device="cpu", precision="bfloat16")
    assert other.encoders["text"].shared.model is not again.encoders["text"].shared.model


def test_the_files_of_a_saved_space_have_plain_names_and_no_code_or_weights(models, load, tmp_path):
    copy = Path(shutil.copytree(models("dense"), tmp_path / "copy"))
    for name in (
        "README.md",
        "modeling_x.py",
        "onnx/config.json",
        "checkpoint-5/config.json",
        ".cache/x.json",
    ):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text("{}")
    space = mm.load(f"st/{copy}", device="cpu")
    names = set(space.encoders["text"].files())
    assert {
        "modules.json",
        "config.json",
        "tokenizer.json",
        "1_Pooling%2Fconfig.json",
        "2_Dense%2Fconfig.json",
    } <= names
    assert not [
        name
        for name in names
        if name.endswith((".py", ".md", ".safetensors")) or "onnx" in name or "check" in name
    ]
    assert "2_Dense/linear.weight" in space.encoders["text"].state_dict()
    assert space.fingerprint == load("dense").fingerprint


# --- names, the hub, joining -----------------------------------------------------------------------


@pytest.fixture
def hub(models, monkeypatch) -> list[Any]:
    """A hub that has the tiny CLIP under every name, and what it was asked for."""
    requests: list[Any] = []
    folder = models("old_clip")

    def listing(repo: str, **how: Any) -> list[str]:
        requests.append((repo, how))
        return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]

    def snapshot(repo: str, *, patterns: list[str], **how: Any) -> Path:
        requests.append((repo, patterns, how))
        return folder

    monkeypatch.setattr("multimodal.core.hub.api.listing", listing)
    monkeypatch.setattr("multimodal.core.hub.api.snapshot", snapshot)
    return requests


def test_a_name_without_an_owner_is_one_of_sentence_transformers(hub):
    space = mm.load("st/clip-ViT-B-32", device="cpu", offline=True, revision="abc")
    how = {"revision": "abc", "offline": True, "extra": "st"}
    (listed, fetched) = hub
    assert listed == ("sentence-transformers/clip-ViT-B-32", how)
    assert fetched[0] == "sentence-transformers/clip-ViT-B-32" and fetched[2] == how
    assert "0_CLIPModel/model.safetensors" in fetched[1] and "modules.json" in fetched[1]
    assert (
        space.name == "st/clip-ViT-B-32" and space.card is not None and space.card.figure == "ImageNet 63.3"
    )
    assert {encoder.space_id for encoder in space.encoders.values()} == {"st/clip-ViT-B-32"}


def test_a_model_is_fetched_from_a_hub_once_and_loads_offline_after(server: LoopbackHub, models, load):
    repo, folder = "sentence-transformers/clip-ViT-B-32", models("old_clip")
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    weights = files["0_CLIPModel/model.safetensors"]
    server.add(
        repo, files | {"README.md": b"-", "0_CLIPModel/pytorch_model.bin": b"x" * 2_000, "run.py": b"1/0"}
    )
    space = mm.load("st/clip-ViT-B-32", device="cpu", revision="main")
    assert space.fingerprint == load("old_clip").fingerprint
    assert np.array_equal(space.encode(TEXTS), load("old_clip").encode(TEXTS))
    assert len(server.fetched(weights)) == 1
    assert not any(server.seen("GET", name) for name in ("README", "pytorch_model", "run.py"))
    server.requests.clear()
    commit = server.branches[repo]["main"]
    assert mm.load("st/clip-ViT-B-32", device="cpu", revision=commit).fingerprint == space.fingerprint
    again = mm.load("st/clip-ViT-B-32", device="cpu", revision="main", offline=True)
    assert again.fingerprint == space.fingerprint
    assert server.requests == []


def test_the_multilingual_texts_join_the_images_they_were_trained_for(hub):
    seen = mm.load("st/clip-ViT-B-32", device="cpu").select("image")
    both = seen | mm.load("st/clip-ViT-B-32-multilingual-v1", device="cpu").select("text")
    assert [str(modality) for modality in both.modalities] == ["image", "text"]
    with pytest.raises(mm.MultimodalError, match=r"'st/owner/other' was trained into 'st/owner/other'"):
        seen | mm.load("st/owner/other", device="cpu").select("text")


def test_an_unknown_id_is_answered_with_close_ones(monkeypatch):
    def listing(repo: str, **how: Any) -> list[str]:
        raise UnknownModel(f"no repository {repo}")

    monkeypatch.setattr("multimodal.core.hub.api.listing", listing)
    with pytest.raises(
        UnknownModel,
        match=r"^no repository sentence-transformers/all-MiniLM-L6-v3; did you mean 'st/all-MiniLM-L6-v2' or ",
    ):
        mm.load("st/all-MiniLM-L6-v3", device="cpu")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "st",
            r"^'st' needs the id of a model or a folder: 'st/all-MiniLM-L6-v2', 'st/owner/name', 'st/\./folder'",
        ),
        ("st/./nowhere", r"^'st/\./nowhere' names the folder '\./nowhere', which does not exist$"),
    ],
)
def test_an_empty_name_or_missing_folder_is_refused(name, text):
    with pytest.raises(UnknownModel, match=text):
        mm.load(name, device="cpu")


def test_a_local_folder_of_that_name_is_suggested(models, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()

    def listing(repo: str, **how: Any) -> list[str]:
        raise UnknownModel(f"no repository {repo}")

    monkeypatch.setattr("multimodal.core.hub.api.listing", listing)
    with pytest.raises(UnknownModel, match=r"there is a folder of that name: write 'st/\./mine'\.$"):
        mm.load("st/mine", device="cpu")


def test_a_folder_belongs_to_a_space_only_if_that_is_given(load):
    assert load("clip").encoders["text"].space_id is None
    space = load("clip", space_id="my/space")
    assert {encoder.space_id for encoder in space.encoders.values()} == {"my/space"}


def test_a_missing_extra_is_named_with_the_cure(models, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(
        MissingExtra,
        match=r"^loading 'st/x' needs sentence-transformers: pip install 'multimodal\[st\]'$",
    ):
        mm.load("st/x", device="cpu")


def test_a_card_says_which_commit_its_name_stands_for(models, server: LoopbackHub):
    from multimodal.encoders.st.cards import CARDS

    card = next(card for card in CARDS if card.revision)
    first, other = (
        {
            path.relative_to(models(name)).as_posix(): path.read_bytes()
            for path in models(name).rglob("*")
            if path.is_file()
        }
        for name in ("mean", "last")
    )
    server.repos[card.source] = {card.revision: first, "b" * 40: other}
    server.branches[card.source] = {"main": "b" * 40}
    space, newest = mm.load(card.name, device="cpu"), mm.load(card.name, device="cpu", revision="main")
    assert space.revisions == {card.source: card.revision} and space.card == card
    assert newest.revisions == {card.source: "b" * 40}
    assert newest.fingerprint != space.fingerprint


def test_every_card_says_what_load_takes():
    from multimodal.encoders.st.cards import CARDS, SAME_SPACE

    assert {card.name for card in CARDS} >= SAME_SPACE.keys() | set(SAME_SPACE.values())
    for card in CARDS:
        rest = card.name.removeprefix("st/")
        assert card.source == (rest if "/" in rest else f"sentence-transformers/{rest}")
        assert json.dumps(card.to_dict())


def test_embedders_of_source_code_are_listed_with_their_licences_and_what_they_ask_for():
    cards = {card.name: card for card in mm.cards()}
    assert cards["st/Qwen/Qwen3-Embedding-0.6B"].licence == "Apache-2.0"
    assert "never run" in cards["st/nomic-ai/CodeRankEmbed"].description
    assert "never run" in cards["st/jinaai/jina-embeddings-v2-base-code"].description
    assert not cards["st/jinaai/jina-code-embeddings-0.5b"].commercial
