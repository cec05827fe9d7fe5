"""Every name that open_clip knows leads somewhere, a slip of the pen is answered with what is near, cards are true."""

import re
import sys

import open_clip
import pytest
import timm
import torch

import multimodal as mm
from multimodal.core.errors import CheckpointError, InvalidInput, MissingExtra, UnknownModel
from multimodal.encoders import openclip
from multimodal.encoders.openclip import names
from multimodal.encoders.openclip.networks import image_tower, is_causal, is_masked, text_tower
from multimodal.encoders.openclip.preprocessing import KEYS, transform, validate, with_defaults
from tests.encoders.openclip.openclip_checkpoints import architecture, published

__all__ = ["architecture", "published"]  # fixtures

MODELS = open_clip.list_models()
CARDS = {card.name.removeprefix("openclip/"): card for card in openclip.CARDS}


def test_every_architecture_is_routed_from_its_configuration():
    """Built without memory: each of timm's classes once, and every tower of open_clip's own, with one layer."""
    classes, towers = set(), set()
    for model in MODELS:
        config = open_clip.get_model_config(model)
        shared = {"embed_dim": config["embed_dim"], "quick_gelu": config.get("quick_gelu", False)}
        image, text = config["vision_cfg"], config["text_cfg"]
        name = image.get("timm_model_name")
        kind = "own" if name is None else timm.models.model_entrypoint(name).__module__
        if kind == "own" or kind not in classes:
            less = {"layers": 1} if isinstance(image.get("layers"), int) else {}
            with torch.device("meta"):
                assert image_tower(shared | {"tower": image | less}, model).image_size
            classes.add(kind)
        if "hf_model_name" not in text:
            text = {k: v for k, v in text.items() if not k.startswith(("hf_token", "tokenizer"))} | {
                "layers": 1
            }
            if repr(text) in towers:
                continue
            towers.add(repr(text))
            tower = text_tower(shared | {"tower": text}, model)
            assert not (is_causal(tower) and text.get("no_causal_mask")) and not is_masked(tower)
    assert len(classes) > 6


def test_every_tag_is_found_and_prepared_as_it_says():
    for model, tag in open_clip.list_pretrained():
        address = names.parse(f"{model}:{tag}")
        assert isinstance(address, names.PretrainedTag)
        validate(
            {key: value for key, value in address.published.items() if key in KEYS}, tag, CheckpointError
        )
        transform(with_defaults(address.published), (224, 224))
        home = names.canonical(address)
        assert names.canonical(names.parse(home.removeprefix("openclip/"))) == home
        assert not home.partition(":")[0].endswith("-quickgelu")


def test_architectures_that_were_trained_with_either_activation_are_known():
    quick = {model for model in MODELS if names.is_activation_ambiguous(model)}
    assert {"ViT-B-32", "ViT-L-14", "RN50", "ViT-H-14-worldwide"} <= quick
    assert not quick & {
        "ViT-B-32-quickgelu",
        "roberta-ViT-B-32",
        "ViT-B-16-SigLIP",
        "MobileCLIP-S1",
        "EVA02-B-16",
    }


UNKNOWN = {
    "": "'openclip/' does not name an architecture: write for example 'openclip/ViT-B-32:laion2b_s34b_b79k'",
    "ViT-B-23:openai": "open_clip has no architecture 'ViT-B-23'; did you mean 'ViT-B-32' or 'ViT-S-32' or "
        "'ViT-M-32'? write for example 'openclip/ViT-B-32:laion2b_s34b_b79k', 'openclip/hf-hub:owner/name' or "
        "'openclip/local-dir:/path/to/folder'; open_clip.list_models() lists all architectures",
    "laion/CLIP-something-b79K": "open_clip has no architecture 'laion/CLIP-something-b79K'; a repository of the "
        "Hub is written 'openclip/hf-hub:laion/CLIP-something-b79K'; write for example "
        "'openclip/ViT-B-32:laion2b_s34b_b79k', 'openclip/hf-hub:owner/name' or 'openclip/local-dir:/path/to/folder'; "
        "open_clip.list_models() lists all architectures",
    "ViT-H-14": "'openclip/ViT-H-14' does not name weights; its tags: laion2b_s32b_b79k, metaclip_fullcc, "
        "metaclip_altogether, dfn5b; write for example 'openclip/ViT-H-14:laion2b_s32b_b79k', or a weights file",
    "ViT-M-32": "'openclip/ViT-M-32' does not name weights; open_clip has no weights for it: give a weights file, "
        "'openclip/ViT-M-32:/path/to/weights.safetensors'",
    "ViT-bigG-14:laion2b_s39b_b160": "ViT-bigG-14 has no pretrained tag 'laion2b_s39b_b160'; did you mean "
        "'laion2b_s39b_b160k'? its tags: laion2b_s39b_b160k, metaclip_fullcc; write for example "
        "'openclip/ViT-bigG-14:laion2b_s39b_b160k', or a weights file",
    "ViT-L-14-336-quickgelu:x": "ViT-L-14-336-quickgelu has no pretrained tag 'x'; its tags: openai; write for example "
        "'openclip/ViT-L-14-336-quickgelu:openai', or a weights file",
    "ViT-B-32-quickgelu:datacomp_xl_s13b_b90k": "ViT-B-32-quickgelu has no pretrained tag 'datacomp_xl_s13b_b90k'; "
        "those weights were trained without QuickGELU: write 'openclip/ViT-B-32:datacomp_xl_s13b_b90k'; its tags: "
        "openai, laion400m_e31, laion400m_e32, metaclip_400m, metaclip_fullcc; write for example "
        "'openclip/ViT-B-32-quickgelu:openai', or a weights file",
    "ViT-B-32:/no/such/file.pt": "there is no weights file at /no/such/file.pt",
    "ViT-B-32:./no-such-file": "there is no weights file at no-such-file",
    "ViT-B-32:/": "'openclip/ViT-B-32:/' is a folder, expected a weights file: a folder with an "
        "open_clip_config.json is written 'openclip/local-dir:/'",
    "hf-hub:": "the name is empty: write a repository, 'openclip/hf-hub:owner/name'",
    "local-dir:": "the name is empty: write a folder, 'openclip/local-dir:/path/to/folder'",
}  # fmt: skip


@pytest.mark.parametrize("rest", UNKNOWN)
def test_what_is_unknown_is_answered_with_what_is_near(rest):
    with pytest.raises(UnknownModel, match=f"^{re.escape(UNKNOWN[rest])}$"):
        mm.load(f"openclip/{rest}")


def test_names_may_be_written_as_openai_wrote_them():
    assert names.parse("ViT-B/32:openai") == names.parse("ViT-B-32:openai")
    assert names.parse("ViT-L/14:LAION2B-s32b-b82k").tag == "laion2b_s32b_b82k"


@pytest.mark.parametrize("option", [{"precision": "half"}, {"decode": "quick"}])
def test_an_option_that_is_none_is_refused(option):
    with pytest.raises(InvalidInput, match="must be one of"):
        mm.load("openclip/ViT-B-32:openai", **option)


def test_without_open_clip_the_cure_is_reported(published, monkeypatch, tmp_path):
    published("ViT-B-32").space.save_pretrained(tmp_path / "saved")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    cure = r"needs open_clip_torch: pip install 'multimodal\[openclip\]'$"
    with pytest.raises(MissingExtra, match=f"^'openclip/ViT-B-32:openai' {cure}"):
        mm.load("openclip/ViT-B-32:openai")
    with pytest.raises(MissingExtra, match=f"^this saved space {cure}"):
        mm.load(tmp_path / "saved")


def test_without_transformers_only_what_needs_it_is_refused(published, monkeypatch):
    plain, siglip, roberta = (
        published(name).name for name in ("ViT-B-32", "ViT-B-16-SigLIP", "roberta-ViT-B-32")
    )
    monkeypatch.setitem(sys.modules, "transformers", None)
    cure = r"needs transformers: pip install 'multimodal\[hf\]'$"
    with pytest.raises(MissingExtra, match=f"^the tokenizer of local-dir:.* {cure}"):
        mm.load(siglip, device="cpu")
    with pytest.raises(MissingExtra, match=f"^the text tower of local-dir:.* {cure}"):
        mm.load(roberta, device="cpu")
    assert mm.load(plain, device="cpu").dim == 32


@pytest.mark.parametrize("name", CARDS)
def test_a_card_tells_what_open_clip_knows(name):
    card, address = CARDS[name], names.parse(name)
    assert names.canonical(address) == card.name
    assert card.dim == open_clip.get_model_config(address.model)["embed_dim"]
    assert card.source == address.published["hf_hub"].rstrip("/")
    assert card.modalities == ("text", "image")
    assert not card.figure or re.fullmatch(r"ImageNet [5-8]\d\.\d", card.figure)


def test_licences_that_forbid_business_are_marked():
    forbidden = {name for name, card in CARDS.items() if not card.commercial}
    assert forbidden == {name for name, card in CARDS.items() if card.licence not in ("MIT", "Apache-2.0")}
    makers = {name for name, card in CARDS.items() if "apple/" in card.source or "MobileCLIP" in name}
    assert makers | {name for name in CARDS if "metaclip" in name or "nllb" in name} == forbidden


@pytest.mark.parametrize("name", ["ViT-B-32:openai", "RN50:openai", "ViT-L-14:datacomp_xl_s13b_b90k"])
def test_the_size_on_a_card_is_that_of_its_weights(name):
    config = open_clip.get_model_config(names.parse(name).model)
    with torch.device("meta"):
        weights = open_clip.CLIP(**config).state_dict().values()
    assert CARDS[name].size_mb == round(sum(weight.numel() for weight in weights) * 4 / 1e6)
