from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import multimodal
from multimodal.core.errors import IndexStateError, InvalidInput
from multimodal.core.space import Space
from multimodal.index import Index
from multimodal.pipelines.retrieval import RetrievalPipeline

RED = np.zeros((2, 2, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
BLUE = RED[..., ::-1]


@pytest.fixture
def index(clip: Space, tmp_path: Path) -> Index:
    made = Index.create(tmp_path / "i", clip)
    made.add([("red red", {"n": 1}), ("blue", {"n": 2}), (RED, {"n": 1}), (BLUE, {"n": 2})],
             ids=["red text", "blue text", "red image", "blue image"])  # fmt: skip
    return made


def test_a_query_of_any_modality_finds_items_of_any_modality(index: Index) -> None:
    find = RetrievalPipeline(index)
    assert [hit.id for hit in find("blue")[:2]] == ["blue image", "blue text"]
    assert [hit.id for hit in find(RED, k=2)] == ["red image", "red text"]
    (best,) = find("red", k=1, modality="image")
    assert (best.id, best.modality, best.score, best.metadata) == ("red image", "image", 1.0, {"n": 1})
    assert [hit.id for hit in find("red", k=1, where={"n": 2}, modality=["text", "image"])] == ["blue image"]


def test_several_queries_at_once_give_a_list_each(index: Index) -> None:
    find = RetrievalPipeline(index)
    assert find(["blue", RED], k=3) == [find("blue", k=3), find(RED, k=3)]
    assert find(np.array([[0.0, 0.0, 1.0]]), k=3) == [find("blue", k=3)]


def test_it_is_found_by_its_task_with_an_index_or_its_folder(index: Index, clip: Space) -> None:
    made = multimodal.pipeline("retrieval", model=index)  # type: ignore[arg-type]
    assert type(made) is multimodal.RetrievalPipeline is RetrievalPipeline and made.index is index
    for folder in (index.path, str(index.path)):
        opened = multimodal.pipeline("retrieval", model=folder, space=clip)
        assert opened("red") == made("red")


def test_a_space_is_no_index(clip: Space) -> None:
    with pytest.raises(
        InvalidInput, match=r"^RetrievalPipeline searches an Index, got Space: create one with Index\.create"
    ):
        multimodal.pipeline("retrieval", model=clip)


def test_a_folder_without_index_is_refused_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(
        IndexStateError,
        match=r"^no index at '.*nowhere': the folder does not exist; create one with Index\.create",
    ):
        RetrievalPipeline.from_pretrained(tmp_path / "nowhere")


def test_the_pipeline_passes_all_search_options_on(index: Index) -> None:
    find = RetrievalPipeline(index)
    assert find(text="blue") == index.search(text="blue")
    assert find(similar_to="red text", k=2, offset=1) == index.search(similar_to="red text", k=2, offset=1)
    assert find("red", ids=["blue text"], exact=True) == index.search("red", ids=["blue text"], exact=True)
    assert find([("red", 1.0), ("blue", -0.5)], deduplicate=True) == index.search(
        [("red", 1.0), ("blue", -0.5)], deduplicate=True
    )
    assert find("red", mode="hybrid") == index.search("red", mode="hybrid")
