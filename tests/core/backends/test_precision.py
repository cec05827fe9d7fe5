"""precision="auto": bfloat16 where it is fast and was seen to turn no vector, float32 everywhere else."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import multimodal as mm
from multimodal.core.backends import precision
from multimodal.core.backends.mixed_precision import (
    Bf16Attention,
    Bf16Linear,
    Bf16WideLinear,
    exchange_layers,
)
from multimodal.core.backends.precision import min_centred_cosine, resolve_precision
from multimodal.core.backends.runtime import Runtime
from multimodal.core.encoder import Encoder
from multimodal.core.items import Item, Text
from multimodal.core.modality import Modality
from tests.encoders.promise import LEAST, PROMPTS, centred_cosine, fast_bfloat16

__all__ = ["fast_bfloat16"]  # a fixture
AUTO = Runtime(precision="auto")
WIDTH = 24


class Words(Encoder):
    """Letters counted -> a net. What it takes is read from the items themselves."""

    modality = Modality.TEXT
    dim = WIDTH

    def __init__(self, net: nn.Module, runtime: Runtime = AUTO) -> None:
        self.net, self.runtime = net.eval().requires_grad_(False), runtime

    def prepare(self, items: Sequence[Item]) -> dict[str, Tensor]:
        rows = torch.zeros(len(items), WIDTH)
        for row, item in zip(rows, items, strict=True):
            for letter in str(item.load()):
                row[ord(letter) % WIDTH] += 1
        return {"counts": rows}

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        result: Tensor = self.net(batch["counts"].to(self.runtime.cast))
        return result.float()

    def config(self) -> dict[str, Any]:
        return {}

    def state_dict(self) -> Mapping[str, Tensor]:
        return self.net.state_dict()


class Net(nn.Module):
    """A transformer's parts: a table, attention, an MLP, norms, and sums between them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.into, self.norm = nn.Linear(WIDTH, 4 * WIDTH), nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, 4, batch_first=True)
        self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.seen: list[torch.dtype] = []

    def forward(self, counts: Tensor) -> Tensor:
        states = self.into(counts).unflatten(1, (4, WIDTH)) + 0 * counts[:, None]
        self.seen = [states.dtype]
        mixed = self.norm(states)
        states = states + self.attention(mixed, mixed, mixed, need_weights=False)[0]
        self.seen.append(states.dtype)
        states = states + self.narrow(F.gelu(self.wide(self.norm(states))))
        self.seen.append(states.dtype)
        return states.flatten(1)[:, :WIDTH]


def settled(net: nn.Module) -> Words:
    encoder = Words(net)
    resolve_precision([encoder])
    return encoder


def vectors(encoder: Encoder) -> np.ndarray:
    return encoder.encode([Text(prompt) for prompt in PROMPTS])


# --- what it does ---------------------------------------------------------------------------------


def test_large_matrices_are_rounded_and_what_runs_between_them_is_not(fast_bfloat16: None) -> None:
    exact = vectors(Words(Net(), Runtime()))
    encoder = settled(Net())
    net: Any = encoder.net
    assert encoder.precision_decision is not None and encoder.precision_decision.bfloat16, (
        encoder.precision_decision
    )
    assert [type(item) for item in (net.into, net.attention, net.wide, net.narrow)] == [
        *(Bf16WideLinear, Bf16Attention, Bf16WideLinear, Bf16Linear)
    ]
    assert net.wide.weight.dtype == net.attention.in_proj_weight.dtype == torch.bfloat16
    assert net.norm.weight.dtype == torch.float32
    near = vectors(encoder)
    assert LEAST <= centred_cosine(exact, near) < 1 - 1e-9
    assert net.seen == [torch.float32] * 3


def test_it_is_nearer_to_float32_than_a_model_cast_as_a_whole(fast_bfloat16: None) -> None:
    exact, near = vectors(Words(Net(), Runtime())), vectors(settled(Net()))
    whole = vectors(Words(Net().bfloat16(), Runtime(precision="bfloat16")))
    assert centred_cosine(exact, whole) < centred_cosine(exact, near)


def test_it_changes_no_fingerprint_and_travels_to_other_processes(fast_bfloat16: None) -> None:
    encoder = settled(Net())
    assert encoder.fingerprint == Words(Net(), Runtime()).fingerprint
    assert np.array_equal(vectors(pickle.loads(pickle.dumps(encoder))), vectors(encoder))


def test_the_other_precisions_are_not_tried(fast_bfloat16: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_trial_vectors", lambda encoder: 1 / 0)
    for runtime in (Runtime(), Runtime(precision="bfloat16")):
        encoder = Words(Net().to(runtime.cast), runtime)
        resolve_precision([encoder])
        assert encoder.precision_decision is None and encoder.runtime_info == f"cpu {runtime.precision}"


def test_where_bfloat16_is_emulated_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multimodal.core.backends.runtime._bfloat16_is_fast", lambda kind: False)
    encoder = settled(Net())
    assert encoder.runtime_info == "cpu float32 (auto: bfloat16 is emulated here)"
    exact = Words(Net(), Runtime())
    resolve_precision([exact])
    assert np.array_equal(vectors(encoder), vectors(exact))


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("masked", ["not", "added", "added by head", "hidden"])
@pytest.mark.parametrize("options", [{"need_weights": False}, {"need_weights": True}])
def test_attention_is_torchs_own_but_for_rounding(
    batch_first: bool, masked: str, options: dict[str, bool]
) -> None:
    torch.manual_seed(4)
    exact = nn.MultiheadAttention(WIDTH, 4, batch_first=batch_first, bias=masked != "hidden").eval()
    near = copy.deepcopy(exact)
    exchange_layers([near], wide=9.0)
    assert type(near) is Bf16Attention
    causal = torch.full((7, 7), float("-inf")).triu(1)
    mask = {
        "not": None, "added": causal, "added by head": causal.expand(12, 7, 7), "hidden": causal.isinf(),
    }[masked]  # fmt: skip
    query, key, value = torch.randn(3, *((3, 7) if batch_first else (7, 3)), WIDTH)
    with torch.inference_mode():
        for others in ((key, value), (query, query)):
            wanted, weights = exact(query, *others, attn_mask=mask, **options)
            results, seen = near(query, *others, attn_mask=mask, **options)
            assert results.dtype == torch.float32 and results.shape == wanted.shape
            assert (results - wanted).abs().max() < 0.02 * wanted.abs().max()
            assert (weights is None) == (seen is None)


# --- what it refuses ------------------------------------------------------------------------------


class Steep(nn.Module):
    """Tells things apart by what bfloat16 cannot hold."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = nn.Linear(WIDTH, WIDTH)
        with torch.no_grad():
            self.layer.bias.fill_(300.0)

    def forward(self, counts: Tensor) -> Tensor:
        return self.layer(counts)


class Strict(Steep):
    """Raises for what it did not expect, as a model with code of its own may."""

    def forward(self, counts: Tensor) -> Tensor:
        return counts @ self.layer.weight + self.layer(counts)


class BatchNormed(Steep):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH)

    def forward(self, counts: Tensor) -> Tensor:
        return self.norm(self.layer(counts))


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Steep, "in bfloat16 the centred cosine was "),
        (Strict, "the trial failed in bfloat16 ("),
        (BatchNormed, "BatchNorm does not rescale the rounding errors of bfloat16"),
        (nn.Identity, "it has no layers to exchange"),
    ],
)
def test_what_does_not_bear_it_goes_back_to_float32_to_the_last_bit(
    fast_bfloat16: None, kind: type[nn.Module], why: str
) -> None:
    before = vectors(Words(kind(), Runtime()))
    encoder = settled(kind())
    assert encoder.precision_decision is not None and not encoder.precision_decision.bfloat16
    assert encoder.precision_decision.why.startswith(why), encoder.precision_decision
    assert np.array_equal(vectors(encoder), before)
    assert {type(module).__name__ for module in encoder.net.modules()}.isdisjoint(
        {"Bf16Linear", "Bf16WideLinear"}
    )


def test_a_family_may_know_better_than_a_trial(fast_bfloat16: None) -> None:
    encoder = Words(Net())
    encoder.float32_reason = "it knows"
    resolve_precision([encoder])
    assert encoder.runtime_info == "cpu float32 (auto: it knows)"


def test_a_model_that_fails_anyway_is_left_to_say_so_itself(fast_bfloat16: None) -> None:
    encoder = settled(nn.Linear(WIDTH + 1, WIDTH))
    assert encoder.precision_decision is not None
    assert encoder.precision_decision.why.startswith(
        "the trial failed in float32 (mat1 and mat2 shapes cannot be"
    )


class Borrowed(Net):
    """Takes the weight of a layer and never calls it, as EVA does; and holds one weight in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(WIDTH, WIDTH)
        self.table = nn.Embedding(4 * WIDTH, WIDTH)
        self.table.weight = self.wide.weight

    def forward(self, counts: Tensor) -> Tensor:
        return super().forward(F.linear(counts + self.table.weight.sum(0), self.read.weight))


def test_weights_that_others_read_stay_as_they_were(
    fast_bfloat16: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "MIN_COSINE", 0.99)  # what becomes of its vectors is not asked here
    encoder = settled(Borrowed())
    assert encoder.precision_decision is not None and encoder.precision_decision.bfloat16, (
        encoder.precision_decision
    )
    net: Any = encoder.net
    assert net.read.weight.dtype == net.table.weight.dtype == torch.float32
    assert net.wide.weight.dtype == torch.bfloat16


class OneType(nn.Module):
    """A norm inside the MLP that takes one type only, as CUDA's does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, counts: Tensor) -> Tensor:
        wide = self.wide(counts)
        if wide.dtype is torch.bfloat16:
            raise RuntimeError("expected scalar type Float but found BFloat16")
        return self.narrow(wide)


def test_what_wants_float32_within_an_mlp_gets_it(fast_bfloat16: None) -> None:
    encoder = settled(OneType())
    assert encoder.precision_decision is not None and encoder.precision_decision.bfloat16, (
        encoder.precision_decision
    )
    assert type(encoder.net.wide) is Bf16Linear


def test_encoders_that_share_layers_are_decided_together(fast_bfloat16: None) -> None:
    shared = Net()
    first, second, apart = Words(nn.Sequential(shared)), Words(nn.Sequential(shared, Steep())), Words(Net())
    resolve_precision([first, second, apart])
    assert [
        encoder.precision_decision.bfloat16
        for encoder in (first, second, apart)
        if encoder.precision_decision
    ] == [
        False,
        False,
        True,
    ]
    assert first.precision_decision is second.precision_decision
    assert {parameter.dtype for parameter in shared.parameters()} == {torch.float32}


# --- how it is measured, and told -----------------------------------------------------------------


def test_the_measure_is_the_smallest_cosine_of_centred_rows() -> None:
    rng = np.random.default_rng(3)
    exact = rng.standard_normal((9, 5)).astype(np.float32)
    near = (exact + 0.1 * rng.standard_normal((9, 5))).astype(np.float32)
    assert min_centred_cosine(exact, near) == pytest.approx(centred_cosine(exact, near), abs=1e-9)
    assert min_centred_cosine(exact, exact + 7) == pytest.approx(
        1, abs=1e-6
    )  # what all share is no difference
    assert min_centred_cosine(exact, exact[::-1]) < 0.9


def test_rows_that_are_all_the_same_have_nothing_to_turn() -> None:
    rows = np.ones((4, 3), dtype=np.float32)
    noise = np.random.default_rng(4).standard_normal((4, 3)).astype(np.float32) * 1e-8
    assert min_centred_cosine(rows, rows + noise) == 1.0
    one_apart = rows.copy()
    one_apart[0, 0] = 2
    assert min_centred_cosine(one_apart, rows) == 0.0


def test_auto_is_explained_in_words_and_kept_when_saved(fast_bfloat16: None, tmp_path: Path) -> None:
    space = mm.load("starter", device="cpu", precision="auto")
    decisions = {modality: encoder.precision_decision for modality, encoder in space.encoders.items()}
    kind = {True: "bfloat16 matrices", False: "float32"}
    assert space.runtime_info == {
        modality: f"cpu {kind[decision.bfloat16]} (auto: {decision.why})"
        for modality, decision in decisions.items()
        if decision
    }
    assert (
        space.runtime_info["image"]
        == "cpu float32 (auto: BatchNorm does not rescale the rounding errors of bfloat16)"
    )
    assert space.self_test().ok
    space.save_pretrained(tmp_path / "saved")
    again = mm.load(tmp_path / "saved", device="cpu", precision="auto")
    assert again.fingerprint == space.fingerprint
    words = list(itertools.islice(PROMPTS, 4))
    assert np.array_equal(again.encode(words), space.encode(words))
