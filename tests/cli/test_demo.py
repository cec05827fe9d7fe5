"""`multimodal demo`: what is asked, the page it writes, and the gallery it shows."""

from __future__ import annotations

import base64
import io
import re
import shutil
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

import multimodal
from multimodal.cli.demo.command import CHOICES, HITS, QUESTIONS, build_demo
from multimodal.cli.demo.generative import CAPTIONED, DRAWN, SEED, TITLES, WRITTEN, make
from multimodal.cli.demo.page import page
from multimodal.cli.demo.result import Demo, name_of
from multimodal.core.paths import assets
from multimodal.core.space import Space
from recipes.gallery import items, pictures
from recipes.starter.data import glyphs
from tests.cli.conftest import Cli

GALLERY = assets() / "gallery"
VOID = {"meta", "link", "img", "rect", "br"}


class Page(HTMLParser):
    """Every tag with its attributes; complains about tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def copy_some(folder: Path) -> Path:
    """A gallery with the files that are asked with, and a few more."""
    asked = {question.query for question in QUESTIONS} | {path for _, path, _ in CHOICES}
    files = {GALLERY / path for path in asked if isinstance(path, Path)}
    for room in ("notes", "pictures", "sounds"):
        files |= set(sorted((GALLERY / room).iterdir())[:6])
    for file in files:
        (folder / file.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / file.parent.name)
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return copy_some(tmp_path / "gallery")


@pytest.fixture(scope="module")
def shown(toy: None, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    return build_demo(multimodal.load("toy"), copy_some(folder / "gallery"), folder / "out")


@pytest.fixture(scope="module")
def text(shown: Demo) -> str:
    """The page about it."""
    return page(shown)


def test_every_direction_is_asked_and_answered(shown: Demo) -> None:
    directions = {(answer.query.modality, answer.question.wanted) for answer in shown.answers}
    expected = {("text", "image"), ("audio", "image"), ("image", "audio"), ("image", "image"), ("text", None)}
    assert directions == expected
    for answer in shown.answers:
        assert len(answer.hits) == HITS
        scores = [hit.score for hit in answer.hits]
        assert scores == sorted(scores, reverse=True)
        if answer.question.wanted is not None:
            assert {hit.modality for hit in answer.hits} == {answer.question.wanted}


def test_a_query_never_finds_itself(shown: Demo) -> None:
    asked = [answer for answer in shown.answers if answer.query.uri is not None]
    assert asked
    for answer in asked:
        assert answer.query.uri not in {hit.uri for hit in answer.hits}


def test_a_picture_and_a_clip_are_sorted_into_labels(shown: Demo) -> None:
    assert [verdict.query.modality for verdict in shown.verdicts] == ["image", "audio"]
    for verdict in shown.verdicts:
        assert sum(score for _, score in verdict.labels) == pytest.approx(1, abs=1e-5)


def test_the_answers_are_those_of_the_index(shown: Demo) -> None:
    index = multimodal.Index.open(shown.index, multimodal.load("toy"))
    assert shown.counts == {"text": 6, "image": len(list(index.rows(modality="image"))), "audio": 9}
    first = shown.answers[0]
    again = index.search(first.question.query, k=HITS, modality=first.question.wanted)
    assert [hit.id for hit in again] == [hit.id for hit in first.hits]


def test_a_space_without_sound_is_asked_only_what_it_takes(small: Path, tmp_path: Path) -> None:
    toy = multimodal.load("toy")
    pair = Space(
        [toy.encoders[multimodal.Modality.TEXT], toy.encoders[multimodal.Modality.IMAGE]],
        toy.logit_scales[None],
    )
    shown = build_demo(pair, small, tmp_path / "out")
    assert {answer.query.modality for answer in shown.answers} == {"text", "image"}
    assert [verdict.query.modality for verdict in shown.verdicts] == ["image"]
    Page(page(shown))


def test_a_second_demo_replaces_the_first(small: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (small / "notes" / "new.txt").write_text(name, encoding="utf-8")
        shown = build_demo(multimodal.load("toy"), small, tmp_path / "out")
        (small / "notes" / "new.txt").rename(small / "notes" / f"{name}.txt")
    index = multimodal.Index.open(shown.index, multimodal.load("toy"))
    texts = [row["text"] for row in index.rows(modality="text")]
    assert sorted(set(texts) & {"one", "two"}) == ["one", "two"]
    assert len(texts) == 8


def test_the_page_has_everything_inside_and_nothing_else(text: str) -> None:
    found = Page(text)
    assert found.all("script") == []
    sources = [tag["src"] for tag in found.all("img") + found.all("audio")]
    assert len(sources) > 40
    assert all(source is not None and source.startswith("data:") for source in sources)
    assert all((tag["href"] or "").startswith("data:") for tag in found.all("link"))
    assert "url(" not in text
    assert not re.search(r"""(src|href)=["']?(https?:|//|file:)""", text)
    policy = next(tag for tag in found.all("meta") if tag.get("http-equiv") == "Content-Security-Policy")
    assert (policy["content"] or "").startswith("default-src 'none'")


def test_the_pictures_and_sounds_in_the_page_can_be_seen_and_heard(text: str) -> None:
    found = Page(text)
    for tag, kind in (("img", "image/webp"), ("audio", "audio/flac")):
        for attributes in found.all(tag):
            head, _, data = (attributes["src"] or "").partition(",")
            assert head == f"data:{kind};base64"
            content = io.BytesIO(base64.b64decode(data, validate=True))
            if tag == "img":
                assert max(Image.open(content).size) <= 256
                assert attributes["alt"]
            else:
                samples, rate_hz = soundfile.read(content)
                assert (rate_hz, samples.ndim) == (16_000, 1)
                assert abs(samples).max() > 0.1
                assert "controls" in attributes
                assert attributes["aria-label"]


def test_every_hit_is_on_the_page_with_its_score(shown: Demo, text: str) -> None:
    for answer in shown.answers:
        for hit in answer.hits:
            assert f'title="{name_of(hit, shown.gallery)}"' in text
            assert f"</span>{hit.score:.2f}</p>" in text


def test_a_note_cannot_write_html_into_the_page(small: Path, tmp_path: Path) -> None:
    for note in (small / "notes").iterdir():
        note.write_text("birthday <script>alert(1)</script> & party", encoding="utf-8")
    text = page(build_demo(multimodal.load("toy"), small, tmp_path / "out"))
    assert "<script" not in text
    assert "birthday &lt;script&gt;alert(1)&lt;/script&gt; &amp; party" in text


def test_the_starter_makes_what_the_pipelines_do(shown: Demo) -> None:
    """A space that no decoder was trained for has none of this."""
    assert shown.makings == ()
    made = make(multimodal.load("starter", device="cpu"), GALLERY)
    assert [one.title for one in made] == [
        title for title, of in zip(TITLES, (CAPTIONED, WRITTEN, DRAWN), strict=True) for _ in of
    ]
    captioning, transcription, generation = (
        multimodal.pipeline(task, model="starter") for task in ("captioning", "transcription", "generation")
    )
    for one in made:
        if one.title == TITLES[2]:
            expected = generation(one.query, seed=SEED).image
            assert one.said is None and one.picture is not None
            assert one.picture.tobytes() == expected.tobytes(), one.command
        else:
            write = captioning if one.title == TITLES[0] else transcription
            assert one.said == write(one.query).text, one.command
    html = page(replace(shown, makings=tuple(made)))
    assert Page(html).all("article")
    assert all(html.count(f"<h2>{title}</h2>") == 1 for title in TITLES)
    assert all(one.said is None or f"<blockquote>{one.said}</blockquote>" in html for one in made)
    assert all(escape(one.command) in html for one in made)
    assert html.count('<img class="drawn" src="data:image/png;base64,') == len(DRAWN)


def test_a_missing_gallery_is_told_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(
        multimodal.MultimodalError, match=r"the gallery is missing from .*; reinstall multimodal"
    ):
        build_demo(multimodal.load("toy"), tmp_path / "nowhere", tmp_path / "out")


def test_demo_prints_tables_and_the_path_of_the_page(
    cli: Cli, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("multimodal.core.paths.assets", lambda: small.parent)
    outcome = cli("demo", "--space", "toy", "--output", tmp_path / "shown")
    assert outcome.code == 0, outcome.stderr
    report = tmp_path / "shown" / "report.html"
    assert f"See the pictures and hear the voices: {report}" in outcome.stdout
    assert Page(report.read_text(encoding="utf-8")).all("img")
    assert max(map(len, outcome.stdout.splitlines()[:-1])) <= 110
    for question in QUESTIONS:
        assert question.title in outcome.stdout
    machine = cli("demo", "--space", "toy", "--output", tmp_path / "shown", "--json")
    found = machine.json()
    assert machine.stderr == ""
    assert found["report"] == str(report)
    assert len(found["answers"]) == len(QUESTIONS)
    assert [len(row["labels"]) for row in found["verdicts"]] == [len(labels) for _, _, labels in CHOICES]


def test_the_gallery_holds_what_its_recipe_lists() -> None:
    assert {file.name for file in (GALLERY / "pictures").iterdir()} == {
        scene.name for scene in items.PICTURES
    }
    assert {file.name for file in (GALLERY / "sounds").iterdir()} == {f"{name}.flac" for name in items.CLIPS}
    for name, text in items.NOTES.items():
        assert (GALLERY / "notes" / f"{name}.txt").read_text(encoding="utf-8") == f"{text}\n"


def test_the_gallery_is_large_enough_to_show_and_small_enough_to_ship() -> None:
    assert len(items.PICTURES) >= 36
    assert len(items.CLIPS) >= 18
    assert len(items.NOTES) >= 18
    assert sum(file.stat().st_size for file in GALLERY.rglob("*") if file.is_file()) <= 1_500_000


def test_everything_in_the_gallery_can_be_decoded() -> None:
    for file in (GALLERY / "pictures").iterdir():
        assert multimodal.Image(file).load().shape == (288, 288, 3)
    for file in (GALLERY / "sounds").iterdir():
        waveform = multimodal.Audio(file).load()
        assert waveform.rate_hz == 16_000
        assert 0.3 < waveform.seconds < 3


@pytest.mark.skipif(not glyphs.NOTO.exists(), reason="drawing needs fonts-noto-color-emoji")
@pytest.mark.parametrize("name", ["dog-and-ball.jpg", "blue-strawberry.jpg", "key.webp"])
def test_the_recipe_draws_the_gallery_again(name: str) -> None:
    scene = next(scene for scene in items.PICTURES if scene.name == name)
    drawn, shipped = (
        np.asarray(pictures.draw(scene), float),
        multimodal.Image(GALLERY / "pictures" / name).load(),
    )
    assert np.abs(drawn - shipped).mean() < 4  # of 255: what JPEG and WebP lose
