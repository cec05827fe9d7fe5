"""Fine-tuning the starter from end to end: the space, the report, the adapter, the command."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

import multimodal as mm
from multimodal.adapt import FinetuneReport, apply_adapters, finetune
from multimodal.cli.main import app
from multimodal.core.adapters import AdapterMetadata, split_options, write_metadata
from multimodal.core.errors import IndexStateError, InvalidInput, SpaceMismatch, UnknownModel
from tests.adapt.finetuning.conftest import QUICK, shape
from tests.cli.conftest import Cli, cli

__all__ = ["cli"]  # a fixture

Tuned = tuple[mm.Space, FinetuneReport, Path]


def test_the_report_has_gain_and_forgetting_with_intervals(tuned: Tuned) -> None:
    _, report, _ = tuned
    assert report.forgetting is not None and report.reference_before is not None
    for figure in (report.gain, report.forgetting):
        assert figure.low <= figure.value <= figure.high
    assert report.gain.value == pytest.approx(report.after.value - report.before.value)
    assert (report.before.n, report.reference_before.n) == (5, 96)
    assert [point.weight for point in report.curve] == [0.0, 0.5]
    assert len(report.losses) == 6 and report.losses[-1] < report.losses[0]


def test_the_space_is_new_and_the_old_one_unchanged(tuned: Tuned, starter: mm.Space) -> None:
    space, report, _ = tuned
    assert report.base == starter.fingerprint == mm.load("starter").fingerprint
    assert report.fingerprint == space.fingerprint != starter.fingerprint
    assert space.encoders["text"] is starter.encoders["text"]


def test_the_adapter_is_small_and_loads_as_what_was_trained(tuned: Tuned) -> None:
    space, report, out = tuned
    assert report.size_kb is not None and report.size_kb < 250
    loaded = mm.load("starter", adapter=out)
    assert loaded.fingerprint == space.fingerprint
    item = mm.Image(shape("red", "circle"))
    assert np.array_equal(loaded.encode(item), space.encode(item))
    assert pickle.loads(pickle.dumps(loaded)).fingerprint == space.fingerprint
    assert pickle.loads(pickle.dumps(space)).fingerprint == space.fingerprint


def test_peft_loads_the_folder_by_itself(tuned: Tuned, starter: mm.Space, tmp_path: Path) -> None:
    import copy

    from peft import PeftModel

    space, _, out = tuned
    net = copy.deepcopy(starter.encoders["image"].net)
    PeftModel.from_pretrained(net, str(out))  # in place, not merged
    item = mm.Image(shape("blue", "bar"))
    by_hand = starter.encoders["image"].with_network(net)
    assert by_hand.fingerprint != starter.encoders["image"].fingerprint
    assert np.abs(by_hand.encode([item])[0] - space.encode(item)).max() < 1e-6
    with pytest.raises(InvalidInput, match="the image encoder has an adapter of PEFT that is not merged"):
        mm.Space([by_hand]).save_pretrained(tmp_path / "unmerged")


def test_an_index_knows_the_adapter_that_made_its_vectors(tuned: Tuned, tmp_path: Path) -> None:
    space, _, out = tuned
    index = mm.Index.create(tmp_path / "i.lance", mm.load("starter", adapter=out))
    index.add([mm.Image(shape("red", "circle"))])
    assert mm.Index.open(tmp_path / "i.lance").space.fingerprint == space.fingerprint
    with pytest.raises(IndexStateError, match="their vectors cannot be compared"):
        mm.Index.open(tmp_path / "i.lance", mm.load("starter"))


def test_a_tuned_space_is_saved_exactly(tuned: Tuned, tmp_path: Path) -> None:
    space, _, _ = tuned
    space.save_pretrained(tmp_path / "saved")
    assert mm.load(tmp_path / "saved").fingerprint == space.fingerprint
    item = mm.Image(shape("red", "bar"))
    assert np.array_equal(mm.load(tmp_path / "saved").encode(item), space.encode(item))


def test_an_adapter_of_another_base_is_refused_naming_both(tuned: Tuned, starter: mm.Space) -> None:
    _, _, out = tuned
    other = finetune(starter, [(mm.Image(shape(c, s)), f"{c} {s}") for c in ("red", "blue", "green")
                               for s in ("bar", "circle", "square", "triangle")],
                     method="full", interpolate=None, learning_rate=1e-3, **QUICK)[0]  # fmt: skip
    with pytest.raises(SpaceMismatch) as caught:
        apply_adapters(other, out)
    message = str(caught.value)
    assert starter.encoders["image"].fingerprint[:12] in message
    assert other.encoders["image"].fingerprint[:12] in message


def test_several_adapters_add_up_and_a_weight_of_zero_gives_the_base(tuned: Tuned, starter: mm.Space) -> None:
    space, _, out = tuned
    off = apply_adapters(starter, [out], weights=[0.0])
    assert off.fingerprint == starter.fingerprint
    both = apply_adapters(starter, [out, out], weights=[0.5, 0.5])
    item = mm.Image(shape("green", "square"))
    assert np.abs(both.encode(item) - space.encode(item)).max() < 1e-6
    with pytest.raises(InvalidInput, match="got 1 weights for 2 adapters"):
        apply_adapters(starter, [out, out], weights=[1.0])


def test_the_option_means_the_same_adapter_in_every_command(
    tuned: Tuned, pairs_csv: Path, cli: Cli, tmp_path: Path
) -> None:
    space, _, out = tuned
    given = ("--adapter", out, "--json")
    picture = pairs_csv.with_name("red-circle.png")
    embedded = cli("embed", picture, *given).json()
    assert embedded["fingerprint"] == space.fingerprint
    assert np.abs(np.array(embedded["results"][0]["vector"]) - space.encode(mm.Image(picture))).max() < 1e-6
    assert cli("info", "starter", *given).json()["fingerprint"] == space.fingerprint
    index = tmp_path / "i.lance"
    assert cli("index", picture, "--index", index, *given).json()["fingerprint"] == space.fingerprint
    assert cli("info", index, "--json").json()["adapter"] == str(out)
    plain, named = (cli("search", index, "red", *how).json()["hits"] for how in (("--json",), given))
    assert plain == named and len(plain) == 1
    assert "cannot be compared" in cli("search", index, "red", "--space", "starter").stderr
    assert len(cli("caption", picture, *given).json()["results"]) == 1
    figures = cli("evaluate", "starter", pairs_csv, "--task", "retrieval", *given).json()["results"][0]
    assert figures["fingerprint"] == space.fingerprint
    assert (
        "--adapter is for a model on this machine"
        in cli("--server", "http://127.0.0.1:9", "embed", picture, "--adapter", out).stderr
    )


def test_every_command_that_loads_a_model_takes_an_adapter() -> None:
    from typer.main import get_command

    commands = get_command(app).commands  # type: ignore[attr-defined]
    names = (
        "embed classify teach index search ask caption generate transcribe serve mcp export evaluate audit doctor info "
        "reindex calibrate finetune"
    )
    for name in names.split():
        assert "adapter" in [parameter.name for parameter in commands[name].params], name


def test_every_pipeline_takes_the_adapter_of_its_space(
    tuned: Tuned, starter: mm.Space, tmp_path: Path
) -> None:
    space, _, out = tuned
    item = mm.Image(shape("red", "circle"))
    for model in (starter, "starter"):
        extract = mm.pipeline("feature-extraction", model=model, adapter=out)
        assert np.array_equal(extract(item), space.encode(item))
    index = mm.Index.create(tmp_path / "i.lance", space)
    index.add([item])
    for options in ({}, {"space": "starter"}, {"space": starter}):
        opened = mm.pipeline("retrieval", tmp_path / "i.lance", adapter=out, **options)
        assert opened.index.space.fingerprint == space.fingerprint
    with pytest.raises(InvalidInput, match=r"got Index, which has its space: open it with Index\.open"):
        mm.pipeline("retrieval", index, adapter=out)
    with pytest.raises(InvalidInput, match=r"needs index=, the folder of an index"):
        mm.pipeline("answering", adapter=out)
    caption = mm.pipeline("captioning", adapter=[out], device="cpu")
    again = pickle.loads(pickle.dumps(caption))
    assert again(item) == caption(item) and caption.backend.space.fingerprint == space.fingerprint
    assert isinstance(mm.pipeline("transcription", adapter=out).backend.encoder, mm.Encoder)


def test_a_server_applies_adapters_to_its_spaces(tuned: Tuned) -> None:
    from multimodal.server.config import ServerConfig
    from multimodal.server.state import State

    space, _, out = tuned
    state = State(ServerConfig(load_options={"adapter": str(out)}))
    try:
        state.load()
        assert state.models["starter"].fingerprint == space.fingerprint
    finally:
        state.close()


def test_the_adapter_of_a_decoder_is_not_one_of_a_space(tuned: Tuned, tmp_path: Path) -> None:
    _, _, out = tuned
    (tmp_path / "adapter_config.json").write_text("{}")
    write_metadata(tmp_path, AdapterMetadata("", "0" * 64, "hf/whisper", "1" * 64))
    spaces, decoders = split_options({"adapter": [out, tmp_path], "device": "cpu"})
    assert (spaces["adapter"], decoders["adapter"]) == ([out], [tmp_path])
    assert spaces["device"] == decoders["device"] == "cpu"
    with pytest.raises(InvalidInput, match="was trained on the decoder of 'hf/whisper', not on a space"):
        mm.load("starter", adapter=tmp_path)


def test_a_folder_without_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="holds no adapter: it has no adapter_config"):
        mm.load("starter", adapter=tmp_path)


def test_the_command_trains_and_writes_the_report(cli: Cli, pairs_csv: Path, tmp_path: Path) -> None:
    arguments = (
        "finetune",
        "starter",
        pairs_csv,
        "-o",
        tmp_path / "mine",
        "--steps",
        "2",
        "--batch-size",
        "8",
    )
    outcome = cli(
        *arguments, "--modality", "image", "--replay", "none", "--reference", "none", "--json"
    ).json()
    assert mm.load("starter", adapter=tmp_path / "mine").fingerprint == outcome["space"]["fingerprint"]
    assert json.loads((tmp_path / "mine" / "report.json").read_text())["gain"] == outcome["report"]["gain"]
    page = (tmp_path / "mine" / "report.html").read_text()
    assert page.count("<svg") == 2 and "held-out part of the new data" in page
    again = cli(*arguments)
    assert again.code == 1 and "exists and is not empty" in again.stderr
