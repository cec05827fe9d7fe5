"""Cross-encoders as rerankers, by address, against `CrossEncoder.predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from multimodal.core.backends.reranker import load_reranker
from multimodal.core.errors import CheckpointError, InvalidInput
from multimodal.index import Index
from multimodal.testing import fake_space

pytest.importorskip("sentence_transformers")

TEXTS = ["the lamp is red", "a boat on the lake", "the lake is deep and cold", "bread and butter"]


def save_bert(folder: Path, n_labels: int) -> Path:
    """Saves a BERT classifier of random weights with its tokenizer."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    torch.manual_seed(3)
    words = sorted({word for text in TEXTS for word in text.split()})
    folder.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "how", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32, num_labels=n_labels, initializer_range=0.5,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("reranker") / "tiny", 1)


def predicted(folder: Path, query: str) -> dict[str, float]:
    from sentence_transformers import CrossEncoder

    scores = CrossEncoder(str(folder), device="cpu").predict([(query, text) for text in TEXTS])
    return dict(zip(TEXTS, map(float, scores), strict=True))


def test_a_search_is_ordered_by_the_scores_that_sentence_transformers_predicts(
    folder: Path, tmp_path: Path
) -> None:
    index = Index.create(tmp_path / "i", fake_space())
    index.add(TEXTS)
    expected = predicted(folder, "how deep is the lake")
    assert len({round(score, 5) for score in expected.values()}) == len(TEXTS)
    hits = index.search("how deep is the lake", 4, rerank=f"st/{folder}")
    assert [hit.text for hit in hits] == sorted(expected, key=lambda text: -expected[text])
    assert {hit.text: hit.fused_score for hit in hits} == pytest.approx(expected, abs=1e-5)
    page = index.search("how deep is the lake", 2, offset=1, rerank=f"st/{folder}")
    assert [hit.text for hit in page] == [hit.text for hit in hits[1:3]]
    found = index.search(text="lake", k=4, rerank=f"st/{folder}")
    assert {hit.text for hit in found} == {TEXTS[1], TEXTS[2]}
    with pytest.raises(InvalidInput, match="the query is not a single text"):
        index.search([("a", 1.0), ("b", 1.0)], rerank=f"st/{folder}")


@pytest.mark.parametrize(
    ("rerank", "message"),
    [
        (3, "rerank must be an address such as 'st/./folder', got int"),
        ("./folder", "a reranker is named by its family"),
        ("starter", "a reranker is named by its family"),
        ("hf/./folder", "'hf' has no rerankers; these families have: st"),
    ],
)
def test_what_names_no_reranker_is_refused(rerank: Any, message: str, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "i", fake_space())
    with pytest.raises(InvalidInput, match=message):
        index.search("a", rerank=rerank)


def test_a_classifier_of_several_labels_is_no_reranker(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="with 3 labels, and a reranker is a cross-encoder with one"):
        load_reranker(f"st/{save_bert(tmp_path / 'three', 3)}")
