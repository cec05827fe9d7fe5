"""float32 products by oneDNN: the same numbers to the last digits, and PyTorch's own way wherever that is not meant."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from multimodal.core.backends import onednn as nets
from multimodal.core.backends.attention import RowAttention
from multimodal.core.backends.onednn import OneDnnAttention, OneDnnLinear, is_onednn_faster, use_onednn

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this PyTorch was built without oneDNN"
)
pytestmark = needs_onednn


@pytest.fixture
def amd(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which oneDNN is the faster."""
    monkeypatch.setattr(nets, "is_onednn_faster", lambda: True)


def close(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    """Against a product in float64, in units of float32's rounding of the sums."""
    return torch.allclose(actual.double(), expected.double(), rtol=1e-5, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=0, max_size=2), st.integers(1, 40), st.integers(1, 40), st.booleans()
)
def test_a_product_is_that_of_float64(shape: list[int], width: int, wide: int, bias: bool) -> None:
    generator = torch.Generator().manual_seed(width * 100 + wide)
    rows = torch.randn(*shape, 5, width, generator=generator)
    layer = nn.Linear(width, wide, bias=bias)
    expected = nn.functional.linear(
        rows.double(), layer.weight.double(), layer.bias.double() if bias else None
    )
    with torch.inference_mode():
        assert close(nets.linear(rows, layer.weight, layer.bias), expected)
        turned = rows.transpose(-2, -1).contiguous().transpose(-2, -1)  # not contiguous
        assert close(nets.linear(turned, layer.weight, layer.bias), expected)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("mask", [None, "float", "bool", "per head"])
def test_attention_is_that_of_pytorch(amd: None, batch_first: bool, mask: str | None) -> None:
    torch.manual_seed(0)
    plain = nn.MultiheadAttention(24, 3, batch_first=batch_first).eval()
    fast = copy.deepcopy(plain)
    use_onednn([fast])
    assert type(fast) is OneDnnAttention
    rows = torch.randn(4, 7, 24) if batch_first else torch.randn(7, 4, 24)
    hidden = torch.ones(7, 7).triu(1).bool()
    masks = {
        None: None,
        "bool": hidden,
        "float": torch.zeros(7, 7).masked_fill(hidden, -torch.inf),
        "per head": hidden[None].expand(12, -1, -1),
    }
    how = {"need_weights": False, "attn_mask": masks[mask]}
    with torch.inference_mode():
        torch.testing.assert_close(fast(rows, rows, rows, **how)[0], plain(rows, rows, rows, **how)[0])
        _, weights = fast(rows, rows, rows, need_weights=True)
        torch.testing.assert_close(weights, plain(rows, rows, rows, need_weights=True)[1])


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("mask", [None, "float", "bool"])
def test_attention_cast_to_bfloat16_is_as_near_to_float32_as_that_of_pytorch(
    monkeypatch: pytest.MonkeyPatch, batch_first: bool, mask: str | None
) -> None:
    """On every CPU, and its products are of contiguous rows, which is all that makes it fast."""
    monkeypatch.setattr(nets, "is_onednn_faster", lambda: False)
    torch.manual_seed(0)
    exact = nn.MultiheadAttention(24, 3, batch_first=batch_first).eval()
    plain, fast = copy.deepcopy(exact).bfloat16(), copy.deepcopy(exact).bfloat16()
    use_onednn([fast, exact])
    assert type(fast) is OneDnnAttention
    assert type(exact) is OneDnnAttention  # but its products are by PyTorch's default library
    rows = torch.randn(4, 7, 24) if batch_first else torch.randn(7, 4, 24)
    hidden = torch.ones(7, 7).triu(1).bool()
    masks = {None: None, "bool": hidden, "float": torch.zeros(7, 7).masked_fill(hidden, -torch.inf)}
    contiguous: list[bool] = []
    linear = nn.functional.linear

    def watched(input: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        contiguous.append(input.is_contiguous())
        return linear(input, *rest)

    def product(net: nn.Module, kind: torch.dtype) -> torch.Tensor:
        own = masks[mask]
        own = own.to(kind) if mask == "float" and own is not None else own
        items = rows.to(kind)
        result: torch.Tensor = net(items, items, items, need_weights=False, attn_mask=own)[0]
        return result.float()

    with torch.inference_mode():
        wanted, theirs = product(exact, torch.float32), product(plain, torch.bfloat16)
        monkeypatch.setattr(nets.F, "linear", watched)
        ours = product(fast, torch.bfloat16)
    assert contiguous == [True] * 2  # query, key and value in one
    assert (ours - wanted).abs().max() < 1.5 * (theirs - wanted).abs().max() + 1e-3


def test_a_model_keeps_its_state_and_its_gradients(amd: None) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 8))
    fast = copy.deepcopy(plain)
    use_onednn([fast])
    assert [type(item) for item in fast] == [OneDnnLinear, nn.GELU, OneDnnLinear]
    for name, tensor in plain.state_dict().items():
        assert torch.equal(fast.state_dict()[name], tensor)
    rows = torch.randn(20, 16)
    for net in (plain, fast):
        net(rows).sum().backward()
    assert torch.equal(plain[0].weight.grad, fast[0].weight.grad)
    with torch.inference_mode():
        torch.testing.assert_close(pickle.loads(pickle.dumps(fast))(rows), plain(rows))


def test_layers_of_another_kind_or_type_stay_as_they_are(amd: None) -> None:
    class Own(nn.Linear):
        """A layer that somebody else made."""

    net = nn.ModuleList([Own(8, 8), nn.Conv1d(8, 8, 1), nn.Linear(8, 8).bfloat16()])
    expected = [item(torch.ones(8, 8, dtype=item.weight.dtype)) for item in (net[0], net[2])]
    use_onednn([net])
    assert type(net[0]) is Own and type(net[1]) is nn.Conv1d
    with torch.inference_mode():
        results = [item(torch.ones(8, 8, dtype=item.weight.dtype)) for item in (net[0], net[2])]
    assert all(torch.equal(a, b) for a, b in zip(results, expected, strict=True))


@pytest.mark.parametrize(
    "factor, expected", [(0.5, False), (1.0, False), (1.2, False), (1.5, True), (2.0, True)]
)
def test_the_faster_library_is_chosen_by_a_trial_with_a_margin(
    monkeypatch: pytest.MonkeyPatch, factor: float, expected: bool
) -> None:
    seconds = iter([factor * 1e-3, 1e-3])  # of PyTorch's default, then of oneDNN
    monkeypatch.setattr(nets, "_seconds", lambda run: next(seconds))
    is_onednn_faster.cache_clear()
    try:
        net = nn.Linear(8, 8)
        use_onednn([net])
        assert is_onednn_faster() is expected
        assert type(net) is (OneDnnLinear if expected else nn.Linear)
    finally:
        is_onednn_faster.cache_clear()


def test_a_trial_takes_milliseconds_and_runs_the_product() -> None:
    runs: list[int] = []
    seconds = nets._seconds(lambda: runs.append(0) or torch.zeros(1))
    assert len(runs) == nets.TRIAL_ROUNDS + 1 and 0 <= seconds < 1


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 6)), min_size=1, max_size=4),
    st.booleans(),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_sequences_without_padding_get_what_each_gets_alone(
    spans: list[tuple[int, int]], bias: bool, dtype: torch.dtype
) -> None:
    torch.manual_seed(sum(n * length for n, length in spans))
    exact = nn.MultiheadAttention(24, 3, bias=bias, batch_first=True).eval()
    if bias:
        nn.init.normal_(exact.in_proj_bias)
    fast = copy.deepcopy(exact).to(dtype)
    use_onednn([fast])
    assert isinstance(fast, RowAttention)
    rows = torch.randn(sum(n * length for n, length in spans), 24)
    expected, last, start = [], [], 0
    with torch.inference_mode():
        for n, length in spans:
            for _ in range(n):
                text = rows[None, start : start + length]
                hidden = torch.ones(length, length).triu(1).bool()
                alone = exact(text, text, text, need_weights=False, attn_mask=hidden)[0][0]
                expected.append(alone)
                last.append(alone[-1:])
                start += length
        found = fast.attend_causal(rows.to(dtype), spans)
        found_last = fast.attend_from_last(rows.to(dtype), spans)
    tolerance = 1e-5 if dtype is torch.float32 else 0.05
    assert found.dtype is found_last.dtype is dtype
    torch.testing.assert_close(found.float(), torch.cat(expected), atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(found_last.float(), torch.cat(last), atol=tolerance, rtol=tolerance)
