"""Joining two spaces without pairs: what comes over, what stays as it is, and that a stopped job goes on."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import multimodal as mm
from multimodal.adapt import BridgeReport, PoorBridge, bridge
from multimodal.adapt.bridging import encoding, mlp
from multimodal.adapt.bridging.report import recall
from multimodal.core.errors import IndexStateError
from multimodal.core.space import LogitScale, Space
from tests.adapt.conftest import sentences

CORPUS = sentences(700)
NEW = sentences(120, words=4, seed=1)
METHODS = ("kernel", "mlp", "procrustes", "ridge")


def sounds(apart: ModuleType, n: int = 300) -> list[object]:
    return [apart.heard(text) for text in sentences(n, words=2, seed=2)]


def share_found(apart: ModuleType, space: Space) -> float:
    """The share of sounds never heard before that find their picture among the first ten of 120."""
    heard, seen = ([make(text) for text in NEW] for make in (apart.heard, apart.seen))
    return recall(space.encode(heard), space.encode(seen))["R@10"]


@pytest.mark.parametrize("method", METHODS)
def test_audio_finds_images_that_it_was_never_paired_with(
    apart: ModuleType, ears: Space, eyes: Space, method: str
) -> None:
    made = bridge(ears, eyes, corpus=CORPUS, media=sounds(apart), method=method)
    assert share_found(apart, made.space) > 0.8
    assert made.report.recall["R@10"] > 0.9
    assert made.report.trusted
    assert [str(m) for m in made.space.modalities] == ["text", "image", "audio"]


def test_recall_before_the_bridge_is_chance(apart: ModuleType, ears: Space, eyes: Space) -> None:
    report = bridge(ears, eyes, corpus=CORPUS, method="ridge").report
    assert report.n_held_out == 70
    assert report.chance == {"R@1": 0.0143, "R@5": 0.0714, "R@10": 0.1429}
    assert report.before["R@10"] < 0.3


def test_unpaired_media_correct_the_modality_gap(apart: ModuleType, ears: Space, eyes: Space) -> None:
    without = bridge(ears, eyes, corpus=CORPUS, method="ridge")
    given = bridge(ears, eyes, corpus=CORPUS, method="ridge", media={"audio": sounds(apart)})
    assert share_found(apart, given.space) > share_found(apart, without.space) + 0.1
    assert given.report.media == {"audio": 300}
    assert without.report.warnings == (
        "no audio was given, so the gap between audio and text in 'apart/ears' is not corrected; some hundreds of "
        "unpaired items in media= are enough",
    )


def test_images_of_the_target_space_can_be_used_too(apart: ModuleType, ears: Space, eyes: Space) -> None:
    images = [apart.seen(text) for text in sentences(200, words=2, seed=3)]
    made = bridge(ears, eyes, corpus=CORPUS, media=[*sounds(apart), *images], method="mlp")
    assert made.report.media == {"audio": 300, "image": 200}
    assert share_found(apart, made.space) > 0.8


@pytest.mark.parametrize("method", METHODS)
def test_the_target_spaces_vectors_are_its_own_bit_for_bit(
    apart: ModuleType, ears: Space, eyes: Space, method: str, tmp_path: Path
) -> None:
    items: list[object] = [*NEW[:20], *(apart.seen(text) for text in NEW[:20])]
    before, weights = eyes.encode(items), eyes.encoders["text"].weight.clone()
    made = bridge(ears, eyes, corpus=CORPUS, method=method, out=tmp_path / "joined")
    assert (eyes.encoders["text"].weight == weights).all()
    for space in (made.space, mm.load(tmp_path / "joined"), eyes):
        assert np.array_equal(space.encode(items), before)
    assert made.space.encoders["text"] is eyes.encoders["text"]


@pytest.mark.parametrize("method", METHODS)
def test_the_folder_opens_with_load_and_gives_the_same_vectors(
    apart: ModuleType, ears: Space, eyes: Space, method: str, tmp_path: Path
) -> None:
    made = bridge(
        "apart/ears", "apart/eyes", corpus=CORPUS, media=sounds(apart), method=method, out=tmp_path / "new"
    )
    again = mm.load(tmp_path / "new")
    items = ["bab del", apart.heard("bab del"), apart.seen("bab del")]
    assert np.array_equal(again.encode(items), made.space.encode(items))
    assert again.fingerprint == made.space.fingerprint
    assert again.name == "apart/eyes + audio of apart/ears"
    assert made.space.address == again.address == str(tmp_path / "new")
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == [
        "audio", "audio.safetensors", "bridge.json", "config.json", "image.safetensors", "text.safetensors"
    ]  # fmt: skip
    assert (tmp_path / "new" / "audio" / "note.txt").read_bytes() == b"beside the weights"


def test_the_card_carries_both_licences(ears: Space, eyes: Space) -> None:
    card = bridge(ears, eyes, corpus=CORPUS, method="ridge").space.card
    assert card is not None
    assert card.licence == "CC-BY-NC-4.0 and CC0"
    assert not card.commercial
    assert (card.dim, card.size_mb, list(card.modalities)) == (16, 0.8, ["text", "image", "audio"])


def test_added_modalities_have_their_own_logit_scale(apart: ModuleType, ears: Space, eyes: Space) -> None:
    made = bridge(ears, eyes, corpus=CORPUS, method="ridge", media=sounds(apart))
    assert made.space.logit_scale_for("text", "image") == LogitScale(20.0)
    assert (
        made.space.logit_scale_for("audio", "image")
        == made.space.logit_scale_for("text", "audio")
        == LogitScale(made.report.scale)
    )
    chances = made.space.probabilities(apart.heard("bab del"), ["bab del", "num gor", "fin kum"])
    assert chances.argmax() == 0


def test_the_scale_minimises_the_cross_entropy(ears: Space, eyes: Space) -> None:
    from multimodal.adapt.bridging.assemble import fit_scale

    rng = np.random.default_rng(0)
    rows = rng.standard_normal((60, 8)).astype(np.float32)
    noisy = rows + 0.5 * rng.standard_normal(rows.shape).astype(np.float32)
    rows, noisy = (item / np.linalg.norm(item, axis=1, keepdims=True) for item in (rows, noisy))

    def loss(scale: float) -> float:
        logits = scale * (noisy @ rows.T).astype(np.float64)
        return float(np.mean(np.log(np.exp(logits).sum(1)) - np.diagonal(logits)))

    best = fit_scale(noisy, rows)
    assert 1 < best < 200
    assert loss(best) <= min(loss(scale) for scale in np.linspace(1, 60, 200)) + 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_bridge_and_keeps_the_callers_random_state(
    apart: ModuleType, ears: Space, eyes: Space, method: str
) -> None:
    import torch

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    job = {"corpus": CORPUS, "media": sounds(apart), "method": method}
    first, again, other = (bridge(ears, eyes, **job, seed=seed).space.fingerprint for seed in (3, 3, 4))
    assert torch.equal(torch.rand(3), expected)
    assert first == again
    assert (first != other) is (method == "mlp")  # the others have nothing random in so small a corpus


def test_held_out_texts_are_not_used_for_training(
    ears: Space, eyes: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts whose two vectors have nothing to do with each other can be learned by heart, but not known."""
    rng = np.random.default_rng(0)
    monkeypatch.setattr(type(eyes.encoders["text"]), "understood", lambda self, item: rng.standard_normal(12))
    with pytest.warns(PoorBridge):
        report = bridge(ears, eyes, corpus=CORPUS).report
    assert report.recall["R@10"] < 0.35
    assert report.known["R@10"] > report.recall["R@10"] + 0.2
    assert not report.trusted


def test_a_poor_bridge_warns_and_is_not_trusted(
    ears: Space, eyes: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        type(eyes.encoders["text"]), "understood", lambda self, item: np.eye(12)[len(item.source) % 3]
    )
    text = (
        r"^this bridge is poor: recall@10 is \d+\.\d% on 70 held-out items \(14\.3% by chance; \d+\.\d% on as many "
        r"training items\), so do not rely on it beyond what the corpus names; use a larger and more varied corpus of "
        r"content that both spaces encode well$"
    )
    with pytest.warns(PoorBridge, match=text):
        made = bridge(ears, eyes, corpus=CORPUS, method="ridge")
    assert not made.report.trusted
    assert "not trusted" in str(made.report)


def test_an_interrupted_job_resumes_with_an_identical_result(
    apart: ModuleType, ears: Space, eyes: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(mlp, "SAVE_EVERY_S", 0.0)
    job = {"corpus": CORPUS, "media": sounds(apart), "method": "mlp"}
    straight = bridge(ears, eyes, **job)
    calls: list[tuple[str, int, int]] = []

    def stop_at(what: str, count: int):  # type: ignore[no-untyped-def]
        def progress(doing: str, done: int, total: int) -> None:
            calls.append((doing, done, total))
            if doing == what and done >= count:
                raise KeyboardInterrupt

        return progress

    for place in (
        ("encoding text with the second space", 256),
        ("encoding unpaired audio", 128),
        ("training", 41),
    ):
        with pytest.raises(KeyboardInterrupt):
            bridge(ears, eyes, **job, out=tmp_path / "j", progress=stop_at(*place))
    encoded = [ears.encoders["text"].seen, eyes.encoders["text"].seen]
    calls.clear()
    made = bridge(ears, eyes, **job, out=tmp_path / "j", progress=stop_at("", 0))
    assert [ears.encoders["text"].seen, eyes.encoders["text"].seen] == encoded
    assert next(call for call in calls if call[0] == "training") == ("training", 40, 80)
    assert made.space.fingerprint == straight.space.fingerprint


def test_a_finished_job_is_opened_and_not_repeated(ears: Space, eyes: Space, tmp_path: Path) -> None:
    first = bridge(ears, eyes, corpus=CORPUS, out=tmp_path / "j")
    encoded = ears.encoders["text"].seen
    again = bridge(ears, eyes, corpus=CORPUS, out=tmp_path / "j")
    assert ears.encoders["text"].seen == encoded
    assert again.report == first.report
    assert again.space.fingerprint == first.space.fingerprint


def test_progress_counts_to_the_end_of_each_part(ears: Space, eyes: Space) -> None:
    calls: list[tuple[str, int, int]] = []
    bridge(ears, eyes, corpus=CORPUS, method="mlp", progress=lambda *call: calls.append(call))
    last = {what: (done, total) for what, done, total in calls}
    assert last == {
        "encoding text with the first space": (700, 700),
        "encoding text with the second space": (700, 700),
        "training": (80, 80),
    }
    assert all(later[1] >= first[1] for first, later in itertools.pairwise(calls) if first[0] == later[0])


def test_a_bridge_over_images(apart: ModuleType, eyes: Space) -> None:
    """Two image-text spaces; the second one's text is left out, and comes from the first over pictures."""
    images = [apart.seen(text) for text in CORPUS]
    ears_for_images = eyes.select("image")
    made = bridge(eyes, ears_for_images, "image", corpus=images, method="ridge")
    assert made.report.over == "image"
    assert made.report.modalities == ("text",)
    assert made.report.trusted


def test_a_bridged_encoder_can_be_bridged_again(
    apart: ModuleType, ears: Space, eyes: Space, tmp_path: Path
) -> None:
    """A bridged encoder is an encoder: sounds go over two bridges, and the folder still opens."""
    once = bridge(ears, eyes, corpus=CORPUS, media=sounds(apart), method="ridge").space
    twice = bridge(
        once.select("text", "audio"),
        eyes,
        corpus=CORPUS,
        media=sounds(apart),
        method="ridge",
        out=tmp_path / "t",
    )
    assert share_found(apart, twice.space) > 0.7
    again = mm.load(tmp_path / "t")
    assert np.array_equal(again.encode(apart.heard("bab")), twice.space.encode(apart.heard("bab")))


def test_added_encoders_have_the_target_spaces_id(ears: Space, eyes: Space) -> None:
    for encoder in eyes.encoders.values():
        encoder.space_id = "apart/home"
    made = bridge(ears, eyes, corpus=CORPUS, method="ridge").space
    assert [str(m) for m in (eyes | made.select("audio")).modalities] == ["text", "image", "audio"]


def test_held_out_items_are_stored_after_evaluation(apart: ModuleType, ears: Space, eyes: Space) -> None:
    projector = bridge(ears, eyes, corpus=CORPUS).space.encoders["audio"].projector
    assert projector.remembered == 700


def test_only_the_kernel_method_maps_between_spaces_of_different_geometry(
    apart: ModuleType, ears: Space, eyes: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second space scatters its texts at random: no map explains that, but it can be remembered."""

    def scattered(meaning: np.ndarray) -> np.ndarray:
        seed = int.from_bytes(np.round(meaning * 4).astype(np.int8).tobytes()[:8], "big")
        return np.random.default_rng(seed).standard_normal(12)

    monkeypatch.setattr(apart.EarsAudio, "gap", 0.0)
    monkeypatch.setattr(
        apart.EyesText, "understood", lambda self, item: scattered(apart.meaning(item.load()))
    )
    named = CORPUS[:100]
    sounds_of, results = [apart.heard(name) for name in named], {}
    for method in METHODS:
        with pytest.warns(PoorBridge):
            made = bridge(ears, eyes, corpus=CORPUS, method=method, media=sounds(apart))
        results[method] = recall(made.space.encode(sounds_of), made.space.encode(list(named)))["R@10"]
    assert results["kernel"] > 0.9
    assert max(results[method] for method in ("procrustes", "ridge")) < 0.5


def test_a_text_that_cannot_be_encoded_is_skipped_and_counted(ears: Space, eyes: Space) -> None:
    report = bridge(ears, eyes, corpus=[*CORPUS, "lone \ud800 half"], method="ridge").report
    assert report.n_texts == 700
    assert report.warnings[0] == "1 of 701 corpus items could not be encoded and were skipped"


def test_too_few_texts_for_the_dimensions_are_noted(
    apart: ModuleType, ears: Space, eyes: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(apart.DIMS, "ears", 300)
    report = bridge(apart.load("ears"), eyes, corpus=CORPUS[:250], method="ridge").report
    assert report.warnings[0] == (
        "210 training items are fewer than the 300 dimensions of 'apart/ears', so the map is underdetermined; use a "
        "corpus of some thousands"
    )


def test_a_file_of_texts_is_read_line_by_line(ears: Space, eyes: Space, tmp_path: Path) -> None:
    lines = "\ufeff" + "\r\n".join([*CORPUS, "", "  ", CORPUS[0].upper(), f"  {CORPUS[1]} "])
    (tmp_path / "texts.txt").write_text(lines, encoding="utf-8")
    by_file = bridge(ears, eyes, corpus=str(tmp_path / "texts.txt"), method="ridge")
    assert by_file.report.n_texts == 700
    assert by_file.space.fingerprint == bridge(ears, eyes, corpus=CORPUS, method="ridge").space.fingerprint


def test_files_that_are_not_media_are_skipped(
    apart: ModuleType, ears: Space, eyes: Space, tmp_path: Path
) -> None:
    import soundfile

    for number, item in enumerate(sounds(apart, 30)):
        soundfile.write(tmp_path / f"{number}.wav", item.source["array"], 8000, subtype="FLOAT")  # type: ignore[attr-defined]
    (tmp_path / "note.md").write_text("no sound")
    (tmp_path / ".hidden.wav").write_bytes(b"RIFF")
    report = bridge(ears, eyes, corpus=CORPUS, media=tmp_path, method="ridge").report
    assert report.media == {"audio": 30}


def test_a_report_survives_json(ears: Space, eyes: Space, tmp_path: Path) -> None:
    made = bridge(ears, eyes, corpus=CORPUS, method="ridge", out=tmp_path / "j")
    kept_report = json.loads((tmp_path / "j" / "bridge.json").read_text())["report"]
    assert kept_report == json.loads(json.dumps(made.report.to_dict()))
    assert BridgeReport.from_dict(kept_report) == made.report
    assert "R@10" in made.report._repr_html_()
    assert made.report._repr_html_() in made._repr_html_()


def test_recall_equals_a_count_by_hand() -> None:
    rng = np.random.default_rng(0)
    queries, gallery = (rng.standard_normal((40, 6)).astype(np.float32) for _ in range(2))
    cosines = queries @ gallery.T
    ranks = [int(np.sum(row > row[place])) for place, row in enumerate(cosines)]
    assert recall(queries, gallery) == {
        f"R@{k}": pytest.approx(np.mean([rank < k for rank in ranks]), abs=1e-4) for k in (1, 5, 10)
    }


def test_a_map_to_one_point_has_no_recall() -> None:
    rows = np.ones((40, 3), np.float32)
    assert recall(rows, rows) == {"R@1": 0.0, "R@5": 0.0, "R@10": 0.0}


# --- what the bridge leaves as it was --------------------------------------------------------------


def test_an_index_of_the_target_space_is_searched_with_added_modalities(
    apart: ModuleType, ears: Space, eyes: Space, tmp_path: Path
) -> None:
    made = bridge(ears, eyes, corpus=CORPUS, media=sounds(apart), method="ridge").space
    images = mm.Index.create(tmp_path / "pictures.lance", eyes)
    images.add([apart.seen(text) for text in NEW[:40]], ids=NEW[:40])
    across = mm.Index.open(tmp_path / "pictures.lance", made)
    hits = [across.search(apart.heard(text), k=5) for text in NEW[:40]]
    assert (
        np.mean([text in [hit.id for hit in results] for text, results in zip(NEW, hits, strict=False)]) > 0.8
    )
    assert [hit.id for hit in across.search("bab fin", k=5)] == [
        hit.id for hit in images.search("bab fin", k=5)
    ]
    assert across.add([apart.seen(NEW[50])], ids=[NEW[50]]).added == 1
    refused = across.add([apart.heard(NEW[51])], ids=[NEW[51]])
    assert (refused.added, len(refused.failed)) == (0, 1)
    assert refused.failed[0].reason.startswith("audio given to a space with text, image")


def test_an_index_of_the_bridge_is_refused_by_the_target_space(
    apart: ModuleType, ears: Space, eyes: Space, tmp_path: Path
) -> None:
    made = bridge(ears, eyes, corpus=CORPUS, method="ridge").space
    mm.Index.create(tmp_path / "all.lance", made)
    with pytest.raises(IndexStateError, match="their vectors cannot be compared"):
        mm.Index.open(tmp_path / "all.lance", eyes)
    other = bridge(ears, eyes, corpus=CORPUS[:300], method="ridge").space
    with pytest.raises(IndexStateError, match="their vectors cannot be compared"):
        mm.Index.open(tmp_path / "all.lance", other)


def test_a_bridged_encoder_keeps_its_query_encoder(
    apart: ModuleType, ears: Space, eyes: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bridge(ears, eyes, corpus=CORPUS, method="ridge").space
    assert made.query_space is made
    text = made.select("audio").encoders["audio"]
    asking = apart.load("ears").encoders["audio"]
    asking.gap = 3.0
    monkeypatch.setattr(type(text.inner), "query_encoder", asking)
    result = made.query_space.encoders["audio"]
    heard = [apart.heard(text) for text in NEW[:3]]
    rows = torch.from_numpy(asking.encode(heard))
    by_hand = torch.nn.functional.normalize(text.projector(rows), dim=1).detach().numpy()
    assert np.abs(result.encode(heard) - by_hand).max() <= 1e-6
    assert np.abs(result.encode(heard) - text.encode(heard)).max() > 1e-3


def test_the_old_name_of_the_kernel_method_works_and_warns(ears: Space, eyes: Space, tmp_path: Path) -> None:
    first = bridge(ears, eyes, corpus=CORPUS, out=tmp_path / "j")
    saved = json.loads((tmp_path / "j" / "bridge.json").read_text())
    for part in ("job", "report"):
        saved[part]["method"] = "memory"  # as version 0.1 wrote it
    (tmp_path / "j" / "bridge.json").write_text(json.dumps(saved))
    with pytest.warns(DeprecationWarning, match=r"^method='memory' is deprecated, use method='kernel'$"):
        again = bridge(ears, eyes, corpus=CORPUS, method="memory", out=tmp_path / "j")
    assert again.report == first.report
    assert again.report.method == "kernel"
