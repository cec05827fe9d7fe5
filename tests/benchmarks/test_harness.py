"""The harness of the benchmarks: what it reckons, on rounds reckoned by hand, and one that really runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import search, startup
from benchmarks.captions import BENCHMARK
from benchmarks.harness.benchmark import conclude
from benchmarks.harness.data import captions, clustered, photos
from benchmarks.harness.machine import flops, gemm_gflops, hardware
from benchmarks.harness.models import as_open_clip
from benchmarks.harness.report import lines
from benchmarks.harness.rounds import Competitor, CompetitorFailed, Timed, parted, ratio, summary, turns
from benchmarks.harness.similarity import over_rounds, similarity
from benchmarks.images import image_gflop

# The rates are 10, 20, 5 and 20, 30, 40 a second; in core seconds twice that
ROUNDS = [
    {"slow": Timed(10, 1.0, 0.5, 100.0), "fast": Timed(10, 0.5, 0.25, 50.0)},
    {"slow": Timed(20, 1.0, 0.5, 120.0), "fast": Timed(30, 1.0, 0.5, 60.0)},
    {"slow": Timed(5, 1.0, 0.5, 110.0), "fast": Timed(40, 1.0, 0.5, 55.0)},
]


def test_a_summary_holds_medians_the_spread_and_the_highest_peak() -> None:
    slow = summary(ROUNDS, ["slow"], "seconds")["slow"]
    assert slow == {
        "a second": 10, "a core second": 20, "slowest round": 5, "fastest round": 20, "peak_mb": 120.0,
        "ratios": {"slow": 1.0},
    }  # fmt: skip


def test_a_ratio_is_taken_within_each_round_and_not_between_medians() -> None:
    assert ratio(ROUNDS, "fast", "slow", "seconds") == 2.0  # of 2, 1.5 and 8; the medians' own would be 3
    assert ratio(ROUNDS, "slow", "fast", "core_s") == 0.5
    assert ratio(ROUNDS, "fast", "nobody", "seconds") is None


def test_who_joined_later_is_compared_only_where_both_ran() -> None:
    rounds = [ROUNDS[0], {**ROUNDS[1], "late": Timed(60, 1.0, 1.0, 1.0)}]
    assert ratio(rounds, "late", "slow", "seconds") == 3.0
    assert summary(rounds, ["slow"], "seconds")["late"]["a second"] == 60


def test_each_competitor_is_first_once_in_as_many_rounds() -> None:
    names = ["a", "b", "c"]
    assert [turns(names, number)[0] for number in range(3)] == names
    assert all(sorted(turns(names, number)) == names for number in range(7))


def test_parts_hold_every_input_once() -> None:
    parts = parted(range(10), 4)
    assert sorted(item for part in parts for item in part) == list(range(10))
    assert {len(part) for part in parts} == {2, 3}


def test_similarity_forgives_length_and_tells_a_turned_row() -> None:
    rows = np.random.default_rng(0).standard_normal((50, 16)).astype(np.float32) + 3
    same = similarity(7 * rows, rows)
    assert same["least centred cosine"] == pytest.approx(1) and same["largest difference"] < 1e-6
    turned = rows.copy()
    turned[5] = rows[6]
    similarities = similarity(turned, rows)
    first, second = (rows[at] / np.linalg.norm(rows[at]) for at in (6, 5))
    mean = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).mean(0)
    expected = (first - mean) @ (second - mean) / np.linalg.norm(first - mean) / np.linalg.norm(second - mean)
    assert similarities["least centred cosine"] == pytest.approx(expected, abs=1e-5)
    assert similarities["median centred cosine"] == pytest.approx(1)
    assert over_rounds([same, similarities])["least centred cosine"] == similarities["least centred cosine"]


def test_a_share_of_the_peak_is_work_done_by_work_possible() -> None:
    results = {
        "rates by": "core_s", "hardware": {"flags": ["avx512_bf16"]}, "gflop each": 2.0, "likeness by round": [{}],
        "gemm gflop/s": [{"float32": 100.0, "bfloat16": 400.0}], "rounds": [{"multimodal, bfloat16":
        Timed(10, 1.0, 0.1, 5.0)._asdict(), "txtai": Timed(10, 1.0, 1.0, 5.0)._asdict()}],
    }  # fmt: skip
    conclude(results, BENCHMARK)
    assert results["summary"]["multimodal, bfloat16"]["share of peak"] == pytest.approx(0.5)
    assert results["summary"]["txtai"]["share of peak"] == pytest.approx(0.2)
    assert results["roofline"]["float32, captions a second"] == 50
    complete = results | {
        "unit": "captions", "cores": 1, "benchmark": "captions", "n": 10, "rounds in all": 8, "left out": {"x": "y"},
        "hardware": hardware(), "versions": {},
    }  # fmt: skip
    text = "\n".join(lines(complete))
    assert "50 % of bfloat16" in text and "Left out: x, y is not installed." in text
    assert "competitors had 0.55 of their core" in text


def test_vit_b_32_costs_what_torch_counts() -> None:
    """8.8 GFLOP, 4.4 billion products and sums as open_clip's own table has it."""
    import open_clip
    import torch

    with torch.device("meta"):
        visual = open_clip.model.CLIP(32, {"image_size": 64, "layers": 2, "width": 64, "head_width": 64,
                                           "patch_size": 32}, {"layers": 1, "width": 8, "heads": 1}).visual  # fmt: skip
        pixels = torch.zeros(1, 3, 64, 64)
    counted = flops(lambda: visual(pixels)) / 1e9
    assert image_gflop("tiny") == pytest.approx(counted, rel=0.05)
    assert image_gflop("ViT-B/32") == pytest.approx(8.8, rel=0.02)


def test_the_peak_of_a_product_is_a_speed() -> None:
    results = gemm_gflops(side=128)
    assert set(results) == {"float32", "bfloat16"} and all(value > 0 for value in results.values())


def test_weights_go_over_to_open_clip_whole() -> None:
    import open_clip
    import torch
    from transformers import CLIPConfig, CLIPModel

    tower = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 1}
    text = tower | {"vocab_size": 100, "max_position_embeddings": 8, "eos_token_id": 99}
    config = CLIPConfig(
        projection_dim=16, text_config=text, vision_config=tower | {"image_size": 64, "patch_size": 32}
    )
    theirs = CLIPModel(config).eval()
    ours = open_clip.model.CLIP(
        16, {"image_size": 64, "layers": 2, "width": 64, "head_width": 64, "patch_size": 32},
        {"context_length": 8, "vocab_size": 100, "width": 64, "heads": 1, "layers": 2}, quick_gelu=True,
    ).eval()  # fmt: skip
    ours.load_state_dict(as_open_clip(theirs.state_dict()))
    pixels, tokens = torch.randn(2, 3, 64, 64), torch.tensor([[1, 2, 99, 0, 0, 0, 0, 0]])
    with torch.no_grad():
        images, texts = theirs.get_image_features(pixels), theirs.get_text_features(tokens)
        for item, other in ((images, ours.encode_image(pixels)), (texts, ours.encode_text(tokens))):
            item = getattr(item, "pooler_output", item)
            torch.testing.assert_close(item, other, atol=1e-5, rtol=1e-4)


def test_inputs_are_the_same_each_time_and_mixed(tmp_path: Path) -> None:
    assert captions(50) == captions(50) and len(set(captions(500))) == 500
    lengths = [len(caption.split()) for caption in captions(500)]
    assert min(lengths) < 6 and max(lengths) > 25 and 8 <= np.median(lengths) <= 15
    made = photos(tmp_path / "a", 4, small=True)
    again = photos(tmp_path / "b", 4, small=True)
    assert [Path(item).read_bytes() for item in made] == [Path(item).read_bytes() for item in again]
    assert len({Path(item).stem.split("-")[1] for item in made}) > 1


def test_the_nearest_are_those_of_brute_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, query_file = clustered(tmp_path, 700, 16, 5)
    rows, queries = np.load(base), np.load(query_file)
    monkeypatch.setattr(search, "WRITTEN_AT_ONCE", 90)
    result = search.nearest(rows, queries)
    right = np.argsort(-(queries @ rows.T), 1)[:, :10]
    assert search.recall(result, right) == 1
    assert search.recall(right[:, ::-1], right) == 1  # the order does not matter
    assert search.recall(np.full_like(right, -1), right) == 0


def test_a_competitor_that_lacks_its_package_is_reported_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lacking.py").write_text(
        "def one(folder):\n    import no_such_peer\nCOMPETITORS = {'one': one}\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path.cwd()}")
    with Competitor("lacking", "one", 1, tmp_path, tmp_path) as competitor:
        competitor.ready()
    assert competitor.missing == "no_such_peer"


def test_a_competitor_that_breaks_ends_the_run_with_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "breaking.py").write_text(
        "def one(folder):\n    def work(inputs, out):\n        raise ValueError('too hot')\n    return work\n"
        "COMPETITORS = {'one': one}\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path.cwd()}")
    with Competitor("breaking", "one", 1, tmp_path, tmp_path) as competitor:
        competitor.ready()
        with pytest.raises(CompetitorFailed, match=r"one exited with code 1:[\s\S]*ValueError: too hot"):
            competitor.do([1], tmp_path / "out", keep=False)


def test_a_start_is_measured_and_a_missing_package_is_none() -> None:
    took = startup.start("pass")
    assert took is not None and 0 < took.core_s < took.seconds * 4 and took.peak_mb > 1
    assert startup.start("import no_such_peer") is None
    with pytest.raises(RuntimeError, match="'1/0' exited with code 1"):
        startup.start("1/0")


def test_a_small_search_runs_to_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [
        "--small",
        "--kinds",
        "clustered",
        "--only",
        "numpy",
        "multimodal",
        "--data",
        str(tmp_path / "data"),
    ]
    result = search.main([*argv, "--results", str(tmp_path / "results")])
    kept = json.loads((tmp_path / "results/search-clustered-2000-small.json").read_text())
    assert kept["summary"]["numpy"]["recall@10"] == 1
    assert kept["summary"]["multimodal"]["recall@10"] >= 0.99
    assert kept["summary"]["multimodal"]["ratios"]["numpy"] > 0
    assert len(kept["rounds"]) == 2 and kept["versions"]["python"] == sys.version.split()[0]
    assert result["summary"] == kept["summary"]
    assert "| multimodal |" in capsys.readouterr().out
