"""The data of the network for several tasks: charts say where each of their letters and values stands."""

import math
import random

import numpy as np
import pytest
import torch

from multimodal.encoders.starter.omni.networks import OmniNet
from multimodal.encoders.starter.omni.reading import Cursor
from multimodal.encoders.starter.omni.vocabulary import IS, ROW, to_text
from recipes.omni import charts, names, train
from recipes.omni.samples import IGNORED, cell_of, collate


@pytest.fixture(scope="module")
def drawn() -> list[charts.Chart]:
    rng = random.Random(3)
    return [charts.draw(rng, kind) for kind in charts.KINDS for _ in range(8)]


def test_the_text_of_a_chart_holds_its_names_and_values(drawn):
    for chart in drawn:
        parts = [f"{name}{IS}{value}" for name, value in chart.rows]
        assert chart.text.split(ROW)[1:] == parts
        assert 3 <= len(chart.rows) <= 6
        if chart.kind == "pie":
            assert sum(value for _, value in chart.rows) == 100


def test_following_the_right_positions_gives_the_right_values(drawn):
    """The axis that a reader computes from two ticks agrees with the values, to the half pixel of the drawing."""
    for chart in drawn:
        cursor, values = Cursor(), []
        for character, (x, y, _) in zip(chart.text, chart.places.tolist(), strict=True):
            value = cursor.write(character, (x, y))[2]
            if character == IS and ROW in cursor.text:
                values.append(value)
        if chart.kind == "pie":
            assert all(map(math.isnan, values))
        else:
            assert np.allclose(values, [value for _, value in chart.rows], atol=0.75)


def test_letters_are_drawn_where_they_are_noted():
    """A letter's place is darker than the paper around it."""
    chart = next(
        chart
        for chart in (charts.draw(random.Random(seed), "bar") for seed in range(50))
        if chart.pixels[0, 0] == 255 and not any(c in "il1.:'-" for c, _, _ in chart.letters)
    )
    for _, x, y in chart.letters:
        patch = chart.pixels[max(0, int(y) - 4) : int(y) + 5, max(0, int(x) - 2) : int(x) + 4]
        assert patch.min() < 170


def test_held_out_words_are_never_names_of_training():
    rng = random.Random(0)
    seen = {names.name(rng) for _ in range(5_000)}
    assert names.words(held_out=True)
    assert not seen & {word for word in names.words(held_out=True) if len(word) > 5}


def test_a_batch_holds_what_the_decoder_writes_and_where_it_points(drawn):
    batch = collate(drawn, np.random.default_rng(0))
    for row, chart in enumerate(drawn):
        length = len(chart.text)
        assert to_text(batch.tokens[row, 1 : length + 1].tolist()) == chart.text
        for at, (x, y, _) in enumerate(chart.places.tolist()):
            assert int(batch.cells[row, at]) == (IGNORED if math.isnan(x) else cell_of(x, y))


def test_every_task_has_a_loss_that_trains_its_part(drawn):
    torch.manual_seed(0)
    net = OmniNet().train()
    losses = train.chart_losses(net, collate(drawn[::6], np.random.default_rng(0)))
    losses |= train.scene_losses(
        net, torch.zeros(2, 3, 64, 64, dtype=torch.uint8), ["dog", "a dog and a cat"]
    )
    losses |= train.speech_losses(net, torch.rand(2, 60, 64), torch.tensor([60, 50]), ["dog", "cat"])
    torch.stack(list(losses.values())).sum().backward()
    assert set(losses) == set(train.WEIGHTS)
    for part in (net.chart_eye, net.memory, net.decoder):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
