"""Images, audio and document pages as sources and in questions: sent as they are, or as words."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import multimodal
from multimodal.core.errors import InvalidInput, UnsupportedModality
from multimodal.core.paths import assets
from multimodal.core.space import Space
from multimodal.index import Index
from multimodal.pipelines.answering.pipeline import AnsweringPipeline
from tests.index.ingest.documents import writers
from tests.pipelines.answering.model_server import ModelServer

GALLERY = assets() / "gallery"
CAT = GALLERY / "pictures/cat-at-home.jpg"
GUITAR = GALLERY / "sounds/guitar.flac"


@pytest.fixture(scope="module")
def media(space: Space, tmp_path_factory: pytest.TempPathFactory) -> Index:
    made = Index.create(tmp_path_factory.mktemp("media") / "m", space)
    made.add([CAT, GUITAR, GALLERY / "pictures/banana.png"])
    return made


def blocks(server: ModelServer, kind: str) -> list[dict[str, Any]]:
    content = server.sent["messages"][-1]["content"]
    return [] if isinstance(content, str) else [block for block in content if block["type"] == kind]


def test_images_go_as_images_where_the_model_takes_them(media: Index, server: ModelServer) -> None:
    server.script({"text": "It is a cat [1]."})
    answer = multimodal.pipeline("answering", model="openai/gpt-x", index=media)(
        "a cat", modality="image", k=1
    )
    (source,) = answer.sent
    assert (source.form, source.text, Path(str(source.hit.uri))) == ("image", "", CAT)
    (block,) = blocks(server, "image_url")
    head, _, data = block["image_url"]["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    shown = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (shown.height, shown.width) == multimodal.Image(CAT).load().shape[:2]
    assert answer.citations[0].hit == source.hit and not answer.citations[0].verified
    assert "<img" in answer._repr_html_()


def test_images_and_audio_go_as_words_where_the_model_takes_none(media: Index, server: ModelServer) -> None:
    ask = multimodal.pipeline("answering", model=f"{server.url}/v1#llama", index=media)
    answer = ask("a cat", modality="image", k=1)
    assert (answer.sent[0].form, answer.sent[0].text) == ("caption", "cat")
    assert 'form="caption"' in server.user_text and "\ncat\n" in server.user_text
    assert "1 media sent as words" in answer._repr_html_()
    spoken = multimodal.pipeline("answering", model=f"{server.url}/v1#llama", index=media, inputs=["audio"])
    answer = spoken("a guitar", modality="audio", k=1)
    assert answer.sent[0].form == "audio"
    (block,) = blocks(server, "input_audio")
    assert base64.b64decode(block["input_audio"]["data"])[:4] == b"RIFF"
    assert "<audio" in answer._repr_html_()


def test_claude_gets_images_in_its_own_form_and_no_audio(media: Index, server: ModelServer) -> None:
    ask = multimodal.pipeline("answering", model="anthropic/claude-x", index=media)
    ask("a cat", modality="image", k=1)
    (block,) = blocks(server, "image")
    assert block["source"]["media_type"] == "image/jpeg"
    with pytest.raises(InvalidInput, match="takes no audio"):
        multimodal.pipeline("answering", model="anthropic/claude-x", index=media, inputs=["audio"])


def test_a_medium_without_words_is_refused_and_never_left_out(
    media: Index, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = multimodal.pipeline("answering", model=f"{server.url}/v1#llama", index=media)
    monkeypatch.setattr(ask, "_describe", lambda task, item: " ")
    with pytest.raises(UnsupportedModality, match="takes no image, and no words were found"):
        ask("a cat", modality="image", k=1)


def test_a_file_that_is_gone_is_reported_as_dropped(
    space: Space, server: ModelServer, tmp_path: Path
) -> None:
    gone = tmp_path / "gone.jpg"
    gone.write_bytes(CAT.read_bytes())
    index = Index.create(tmp_path / "i", space)
    index.add([gone, GALLERY / "pictures/banana.png"])
    gone.unlink()
    answer = multimodal.pipeline("answering", model="openai/gpt-x", index=index)("a cat")
    assert [Path(str(hit.uri)) for hit in answer.dropped.hits] == [gone]
    assert len(answer.sent) == 1


def test_an_image_that_belongs_to_the_question_is_searched_and_sent(
    media: Index, server: ModelServer
) -> None:
    answer = multimodal.pipeline("answering", model="openai/gpt-x", index=media)(
        "Which one is like this?", image=CAT, k=1
    )
    assert Path(str(answer.hits[0].uri)) == CAT
    assert len(blocks(server, "image_url")) == 2
    alone = multimodal.pipeline("answering", model="openai/gpt-x", index=media)(multimodal.Image(CAT))
    assert alone.question == "What do the sources say about this image?"


def test_without_an_index_the_image_of_the_question_is_the_source(server: ModelServer) -> None:
    ask = multimodal.pipeline("visual-question-answering", model="openai/gpt-x")
    answer = ask(image=CAT, question="What is it?")
    assert (len(blocks(server, "image_url")), answer.sent[0].form) == (1, "image")


def test_a_spoken_question_is_transcribed_and_searched_by_its_vector(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = AnsweringPipeline(index)
    heard: list[Any] = []

    def describe(task: str, item: Any) -> str:
        heard.append((task, item))
        return "How high is the water tower?"

    monkeypatch.setattr(ask, "_describe", describe)
    queries: list[Any] = []
    search = Index.search
    monkeypatch.setattr(
        Index, "search", lambda self, query, *a, **o: queries.append(query) or search(self, query, *a, **o)
    )
    spoken = multimodal.Audio(GUITAR)
    answer = ask(spoken)
    assert heard == [("transcription", spoken)]
    assert answer.question == "How high is the water tower?" and "47 metres" in answer.text
    assert [item for item, _ in queries[0]] == [multimodal.Text("How high is the water tower?"), spoken]
    monkeypatch.setattr(ask, "_describe", lambda task, item: "")
    with pytest.raises(InvalidInput, match="no words were recognised"):
        ask(spoken)


def test_a_caption_in_the_metadata_is_quoted(space: Space, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "i", space)
    index.add([(CAT, {"caption": "Mimi, our cat, asleep on the red sofa in 2019."})])
    answer = AnsweringPipeline(index)("Where is our cat Mimi asleep?")
    assert answer.text == "Mimi, our cat, asleep on the red sofa in 2019."
    assert "<img" in answer._repr_html_()


def test_a_page_of_a_document_goes_as_an_image_or_as_its_words(
    space: Space, server: ModelServer, tmp_path: Path
) -> None:
    index = Index.create(tmp_path / "i", space)
    index.add(
        writers.pdf(tmp_path / "manual.pdf", ["Cover", "The water tower is 47 metres high."]), pages="image"
    )
    server.script({"text": '"47 metres high" [1]'})
    answer = multimodal.pipeline("answering", model="openai/gpt-x", index=index)(
        "How high is the tower?", k=1
    )
    (citation,) = answer.citations
    assert (answer.sent[0].form, len(blocks(server, "image_url"))) == ("image", 1)
    assert str(citation) == "[1] manual.pdf, page 2"
    assert (citation.quote, citation.verified) == ("47 metres high", True)
    assert "<img" in answer._repr_html_()
    answer = multimodal.pipeline("answering", model=f"{server.url}/v1#llama", index=index)("How high?", k=1)
    assert answer.sent[0].form == "text" and "47 metres" in server.user_text
    assert (
        AnsweringPipeline(index)("How high is the water tower?").text == "The water tower is 47 metres high."
    )
