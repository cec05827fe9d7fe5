"""The search for words, against every caption there is of a small made-up model."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from multimodal.core.backends import decoding

WORDS, MOST, END = 4, 3, 0


class Made:
    """A model of few words: the chance of each next one is drawn from what came before."""

    def __init__(self, seed: int, inputs: int = 1, sharpness: float = 2.0) -> None:
        self.seed, self.inputs, self.sharpness, self.requests = seed, inputs, sharpness, 0

    def logs(self, owner: int, words: tuple[int, ...]) -> torch.Tensor:
        generator = torch.Generator().manual_seed(hash((self.seed, owner, words)) % 2**31)
        return torch.log_softmax(self.sharpness * torch.randn(WORDS, generator=generator), dim=-1)

    def __call__(self, owners: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        self.requests += len(owners)
        rows = zip(owners.tolist(), words.tolist(), strict=True)
        return torch.stack([self.logs(owner, tuple(row)) for owner, row in rows])

    def mean_log_prob(self, owner: int, words: tuple[int, ...], *, ended: bool) -> float:
        whole = (*words, END) if ended else words
        return sum(float(self.logs(owner, whole[:k])[whole[k]]) for k in range(len(whole))) / len(whole)

    def best(self, owner: int) -> tuple[tuple[int, ...], bool, float]:
        """Of all captions that end within MOST words and all that are cut off there."""
        every = [
            (words, length < MOST)
            for length in range(MOST + 1)
            for words in itertools.product(range(1, WORDS), repeat=length)
        ]
        scored = [(*item, self.mean_log_prob(owner, item[0], ended=item[1])) for item in every]
        return max(scored, key=lambda item: item[2])


@given(st.integers(0, 10_000))
def test_beams_wide_enough_find_the_best_caption_there_is(seed: int) -> None:
    made = Made(seed, inputs=2)
    result = decoding.beam_search(made, 2, beams=WORDS**MOST, max_length=MOST, end=END)
    for owner, item in enumerate(result):
        words, ended, mean = made.best(owner)
        assert item.ended == ended
        assert item.mean_log_prob == pytest.approx(mean, abs=1e-5)
        assert tuple(item.tokens) == words


@given(st.integers(0, 10_000), st.integers(2, 6))
def test_a_score_is_the_mean_log_probability_of_what_was_found(seed: int, beams: int) -> None:
    made = Made(seed)
    (best,) = decoding.beam_search(made, 1, beams=beams, max_length=MOST, end=END)
    assert best.mean_log_prob == pytest.approx(
        made.mean_log_prob(0, tuple(best.tokens), ended=best.ended), abs=1e-5
    )
    assert END not in best.tokens


@given(st.integers(0, 10_000))
def test_one_beam_takes_the_likeliest_word_each_time(seed: int) -> None:
    made = Made(seed)
    words: list[int] = []
    while len(words) < MOST and (word := int(made.logs(0, tuple(words)).argmax())) != END:
        words.append(word)
    (best,) = decoding.beam_search(made, 1, beams=1, max_length=MOST, end=END)
    assert best.tokens == words
    assert best.ended == (len(words) < MOST)


@given(st.integers(0, 10_000), st.integers(1, 5))
def test_in_a_batch_each_is_found_as_alone(seed: int, beams: int) -> None:
    made = Made(seed, inputs=3)
    together = decoding.beam_search(made, 3, beams=beams, max_length=MOST, end=END)
    for owner, item in enumerate(together):
        (alone,) = decoding.beam_search(
            lambda owners, words, at=owner: made(torch.full_like(owners, at), words),  # type: ignore[misc]
            1, beams=beams, max_length=MOST, end=END,
        )  # fmt: skip
        assert (item.tokens, item.ended) == (alone.tokens, alone.ended)


def test_a_caption_that_is_certain_ends_the_search_early() -> None:
    def certain(owners: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        logs = torch.full((len(owners), WORDS), -50.0)
        logs[:, 2 if words.shape[1] == 0 else END] = 0.0
        calls.append(len(owners))
        return logs

    calls: list[int] = []
    (best,) = decoding.beam_search(certain, 1, beams=3, max_length=20, end=END)
    assert (best.tokens, best.ended) == ([2], True)
    assert len(calls) < 4


def test_what_never_ends_is_cut_and_says_so() -> None:
    def endless(owners: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        logs = torch.log_softmax(torch.tensor([[-torch.inf, 1.0, 0.0, 0.0]]), dim=-1)
        return logs.expand(len(owners), -1)

    for beams in (1, 3):
        (best,) = decoding.beam_search(endless, 1, beams=beams, max_length=5, end=END)
        assert (best.tokens, best.ended) == ([1] * 5, False)
        assert best.mean_log_prob == pytest.approx(float(torch.log_softmax(torch.tensor([1.0, 0, 0]), 0)[0]))


def test_drawn_words_come_as_often_as_the_model_says() -> None:
    made = Made(3, sharpness=1.0)
    n = 4000
    generator = torch.Generator().manual_seed(1)

    def same(owners: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        return made(torch.zeros_like(owners), words)

    results = decoding.sample_tokens(same, n, max_length=2, end=END, temperature=1.0, generator=generator)
    firsts = [item.tokens[0] if item.tokens else END for item in results]
    for word in range(WORDS):
        expected = math.exp(float(made.logs(0, ())[word]))
        assert firsts.count(word) / n == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(("share", "kept"), [(0.3, 1), (0.5, 1), (0.6, 2), (0.95, 3), (1.0, 4)])
def test_a_nucleus_keeps_the_fewest_that_reach_the_share(share: float, kept: int) -> None:
    chances = torch.tensor([[0.1, 0.5, 0.05, 0.35]])
    result = decoding.top_p_filter(chances, share)
    assert int((result > 0).sum()) == kept
    assert torch.equal(result[result > 0], chances[result > 0])
    assert bool(result[0, 1] > 0)


def test_a_low_temperature_is_as_good_as_the_likeliest() -> None:
    made = Made(9)
    cold = decoding.sample_tokens(
        made, 1, max_length=MOST, end=END, temperature=1e-3, generator=torch.Generator().manual_seed(0)
    )
    assert cold[0].tokens == decoding.sample_tokens(made, 1, max_length=MOST, end=END)[0].tokens
