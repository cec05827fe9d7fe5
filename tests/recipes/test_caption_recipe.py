"""The captioner's recipe: one caption for every wording of a scene, and nothing learned of what judges it."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from multimodal.pipelines.captioning.backends.networks import END, LONGEST, CaptionNet
from recipes.starter.captioner import caption_data, captions, train_captions

NAMES = [
    "dog",
    "pizza",
    "strawberry",
    "black cat",
    "man and woman",
    "person: red hair",
    "apple",
    "cat",
    "heart",
]
KNOWN = set(NAMES)
HELD = captions.HeldOut(((0, 4),), ((0, 1),))
APART = captions.HeldOut((), ((0, 1), (0, 2), (3, 7)))


@given(st.integers(0, 100_000))
def test_every_wording_of_a_scene_leads_to_its_one_caption(seed: int) -> None:
    rng = random.Random(seed)
    scene = captions.random_scene(rng, len(NAMES), HELD)
    assert caption_data.understood(captions.caption(scene, NAMES, rng), KNOWN) == caption_data.describe(
        scene, NAMES, KNOWN
    )


def test_captions_read_as_people_say_them() -> None:
    subject = captions.Subject
    assert caption_data.describe((subject(2),), NAMES, KNOWN) == "strawberry"
    assert caption_data.describe((subject(2, 4, 0),), NAMES, KNOWN) == "a small blue strawberry"
    assert caption_data.describe((subject(1), subject(0)), NAMES, KNOWN) == "a dog and a pizza"
    assert caption_data.describe((subject(6, 0),), NAMES, KNOWN) == "a red apple"
    assert (
        caption_data.describe((subject(7, captions.COLOUR_NAMES.index("black")),), NAMES, KNOWN)
        == "black cat"
    )


def test_what_is_about_nothing_of_this_world_is_not_understood() -> None:
    for text in ("to remain unmolested", "a", "", "a blue", "a dog and a"):
        assert caption_data.understood(text, KNOWN) is None


def test_words_are_written_in_order_and_ended() -> None:
    words = train_captions.Words(["a small blue strawberry", "dog"])
    (first, second) = words.rows(["a small blue strawberry", "dog"])
    assert [words.words[k] for k in first.tolist() if k != END] == ["a", "small", "blue", "strawberry"]
    assert (len(first), second.tolist()[1:]) == (LONGEST, [END] * (LONGEST - 1))


def test_what_comes_later_is_not_seen() -> None:
    torch.manual_seed(0)
    net = CaptionNet(20).eval()
    vector = torch.nn.functional.normalize(torch.randn(1, 256), dim=-1)
    words = torch.randint(1, 20, (1, 8))
    other = words.clone()
    other[0, 5:] = torch.randint(1, 20, (3,))
    with torch.inference_mode():
        a, b = net(vector, words), net(vector, other)
        assert torch.equal(a[:, :6], b[:, :6])
        assert not torch.equal(a[:, 6:], b[:, 6:])
        torch.testing.assert_close(net(vector, words[:, :5])[:, -1], a[:, 5])


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bank of thirteen captions, each of its own direction in all three modalities."""
    monkeypatch.setattr(captions, "held_out", lambda count: APART)
    rng = np.random.default_rng(0)
    said = [*NAMES, "a red dog", "a dog and a strawberry", "a small cat", "a cat and an apple"]
    points = rng.normal(size=(len(said), 256))
    for part in caption_data.PARTS:
        vectors = np.repeat(points, 8, axis=0) + 0.3 * rng.normal(size=(8 * len(said), 256))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        np.savez(
            caption_data.file_of(tmp_path, part),
            vectors=vectors.astype(np.float16),
            captions=np.array(said).repeat(8),
        )
    return tmp_path


def test_a_few_steps_teach_it_to_say_what_a_vector_means(work: Path) -> None:
    torch.manual_seed(1)
    bank = caption_data.read(work)
    words = train_captions.Words(bank.captions)
    assert torch.equal(bank.modality.unique(), torch.arange(3))
    batches = train_captions.Batches(bank, words, NAMES, seed=2)
    net = CaptionNet(len(words.words))
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(24):
        loss = train_captions.loss_of(net, *batches.draw())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-6:]) < 0.5 * sum(losses[:6])


def test_a_batch_is_one_kind_and_its_rows_mean_what_they_say(work: Path) -> None:
    bank = caption_data.read(work)
    words = train_captions.Words(bank.captions)
    batches = train_captions.Batches(bank, words, NAMES, seed=2)
    means = torch.stack([bank.vectors[bank.said == k].mean(0) for k in range(len(bank.captions))])
    for _ in range(6):
        vectors, targets = batches.draw()
        texts = [" ".join(words.words[k] for k in row if k != END) for row in targets.tolist()]
        assert len({caption in KNOWN for caption in texts}) == 1
        drawn = slice(0, train_captions.BATCH)
        nearest = (vectors @ means.T)[drawn].argmax(1)
        assert [bank.captions[k] for k in nearest.tolist()] == texts[drawn]
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))


def test_made_pairs_are_near_both_and_never_one_that_is_held_out(work: Path) -> None:
    bank = caption_data.read(work)
    words = train_captions.Words(bank.captions)
    batches = train_captions.Batches(bank, words, NAMES, seed=3)
    means = {name: bank.vectors[bank.said == k].mean(0) for k, name in enumerate(bank.captions)}
    seen = set()
    for _ in range(10):
        vectors, targets = batches.pairs()
        for vector, row in zip(vectors, targets.tolist(), strict=True):
            texts = " ".join(words.words[k] for k in row if k != END)
            pair = next(
                (a, b) for a in NAMES for b in NAMES if a != b and caption_data.joined([a, b], KNOWN) == texts
            )
            seen.add(frozenset(pair))
            ranked = sorted(NAMES, key=lambda name: -float(vector @ means[name]))
            assert set(ranked[:2]) == set(pair)
    assert not seen & {frozenset((NAMES[a], NAMES[b])) for a, b in APART.pairs}
    assert len(seen) == 9 * 8 // 2 - 3


def test_training_goes_on_from_a_captioner_with_the_same_words_and_no_other(
    work: Path, tmp_path: Path
) -> None:
    words = train_captions.Words(NAMES)
    net = CaptionNet(len(words.words))
    torch.save({"net": net.state_dict(), "words": words.words}, tmp_path / "captions.pt")
    train_captions.export(tmp_path, train_captions.ASSETS, tmp_path)
    result = train_captions.shipped(tmp_path, words)
    assert all(torch.equal(result[name], value.half().float()) for name, value in net.state_dict().items())
    with pytest.raises(ValueError, match="has other words than these captions: train one from scratch"):
        train_captions.shipped(tmp_path, train_captions.Words(NAMES[:3]))
