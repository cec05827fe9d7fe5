"""`multimodal demo`: its queries and their hits, the report it writes, and the gallery it shows."""

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
from multimodal.cli.demo.build import CLASSIFICATIONS, HITS, QUERIES, build_demo
from multimodal.cli.demo.data import CONFIDENT, Demo, display_name
from multimodal.cli.demo.generative import CAPTIONED, DRAWN, SEED, TITLES, TRANSCRIBED, generate_all
from multimodal.cli.demo.page import page
from multimodal.core.paths import assets
from multimodal.core.space import Space
from recipes.gallery import images, items
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
    """A gallery with the files of the queries, and a few more."""
    sources = {query.source for query in QUERIES} | {path for _, path, _ in CLASSIFICATIONS}
    files = {GALLERY / path for path in sources if isinstance(path, Path)}
    for subfolder in ("notes", "pictures", "sounds"):
        files |= set(sorted((GALLERY / subfolder).iterdir())[:6])
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


def test_every_direction_is_searched(shown: Demo) -> None:
    directions = {(result.item.modality, result.query.target) for result in shown.queries}
    expected = {("text", "image"), ("audio", "image"), ("image", "audio"), ("image", "image"), ("text", None)}
    assert directions == expected
    for result in shown.queries:
        assert len(result.hits) == HITS
        scores = [hit.score for hit in result.hits]
        assert scores == sorted(scores, reverse=True)
        if result.query.target is not None:
            assert {hit.modality for hit in result.hits} == {result.query.target}


def test_a_query_never_finds_itself(shown: Demo) -> None:
    by_file = [result for result in shown.queries if result.item.uri is not None]
    assert by_file
    for result in by_file:
        assert result.item.uri not in {hit.uri for hit in result.hits}


def test_an_image_and_a_clip_are_classified(shown: Demo) -> None:
    assert [result.item.modality for result in shown.classifications] == ["image", "audio"]
    for result in shown.classifications:
        assert sum(score for _, score in result.labels) == pytest.approx(1, abs=1e-5)


def test_the_hits_are_those_of_the_index(shown: Demo) -> None:
    index = multimodal.Index.open(shown.index, multimodal.load("toy"))
    assert shown.counts == {"text": 6, "image": len(list(index.rows(modality="image"))), "audio": 9}
    first = shown.queries[0]
    again = index.search(first.query.source, k=HITS, modality=first.query.target)
    assert [hit.id for hit in again] == [hit.id for hit in first.hits]


def test_a_space_without_audio_gets_the_other_queries(small: Path, tmp_path: Path) -> None:
    toy = multimodal.load("toy")
    pair = Space(
        [toy.encoders[multimodal.Modality.TEXT], toy.encoders[multimodal.Modality.IMAGE]],
        toy.logit_scales[None],
    )
    shown = build_demo(pair, small, tmp_path / "out")
    assert {result.item.modality for result in shown.queries} == {"text", "image"}
    assert [result.item.modality for result in shown.classifications] == ["image"]
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
    result = Page(text)
    assert result.all("script") == []
    sources = [tag["src"] for tag in result.all("img") + result.all("audio")]
    assert len(sources) > 40
    assert all(source is not None and source.startswith("data:") for source in sources)
    assert all((tag["href"] or "").startswith("data:") for tag in result.all("link"))
    assert "url(" not in text
    assert not re.search(r"""(src|href)=["']?(https?:|//|file:)""", text)
    policy = next(tag for tag in result.all("meta") if tag.get("http-equiv") == "Content-Security-Policy")
    assert (policy["content"] or "").startswith("default-src 'none'")


def test_the_images_and_audio_in_the_page_can_be_seen_and_heard(text: str) -> None:
    result = Page(text)
    for tag, kind in (("img", "image/webp"), ("audio", "audio/flac")):
        for attributes in result.all(tag):
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
    for result in shown.queries:
        for hit in result.hits:
            assert f'title="{display_name(hit, shown.gallery)}"' in text
            assert f"</span>{hit.score:.2f}</p>" in text


def test_a_note_cannot_write_html_into_the_page(small: Path, tmp_path: Path) -> None:
    for note in (small / "notes").iterdir():
        note.write_text("birthday <script>alert(1)</script> & party", encoding="utf-8")
    text = page(build_demo(multimodal.load("toy"), small, tmp_path / "out"))
    assert "<script" not in text
    assert "birthday &lt;script&gt;alert(1)&lt;/script&gt; &amp; party" in text


def test_the_starter_generates_what_the_pipelines_do(shown: Demo) -> None:
    """A space without decoders generates nothing."""
    assert shown.generated == ()
    made = generate_all(multimodal.load("starter", device="cpu"), GALLERY)
    assert [result.title for result in made] == [
        title for title, of in zip(TITLES, (CAPTIONED, TRANSCRIBED, DRAWN), strict=True) for _ in of
    ]
    captioning, transcription, generation = (
        multimodal.pipeline(task, model="starter") for task in ("captioning", "transcription", "generation")
    )
    for result in made:
        if result.title == TITLES[2]:
            expected = generation(result.item, seed=SEED).image
            assert result.text is None and result.image is not None
            assert result.image.tobytes() == expected.tobytes(), result.command
        else:
            write = captioning if result.title == TITLES[0] else transcription
            assert result.text == write(result.item).text, result.command
    html = page(replace(shown, generated=tuple(made)))
    assert Page(html).all("article")
    assert all(html.count(f"<h2>{title}</h2>") == 1 for title in TITLES)
    assert all(result.text is None or f"<blockquote>{result.text}</blockquote>" in html for result in made)
    assert all(escape(result.command) in html for result in made)
    assert html.count('<img class="drawn" src="data:image/png;base64,') == len(DRAWN)


# Of each query on the whole gallery: the names of first hits that are right.
RIGHT = {
    "a purple car": {"purple-car"},
    "a hot drink": {"cup-of-coffee"},
    "a musical instrument": {"trumpet", "guitar-on-stage", "piano-keys"},
    "rocket": {"rocket-at-night"},
    "horse": {"horse-on-meadow"},
    "fish-in-the-sea": {"fish"},
    "rainbow": {"rainbow"},
    "dog-on-meadow": {"puppy-portrait", "dog-and-ball"},
    "red-apple": {"green-apple"},
    "birthday party": {"birthday-cake"},
    "snow": {"snowman", "first-snow"},
}


@pytest.fixture(scope="module")
def of_starter(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo as it runs by default, without its generative part."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("multimodal.cli.demo.build.generate_all", lambda *_: [])
        space = multimodal.load("starter", device="cpu")
        return build_demo(space, GALLERY, tmp_path_factory.mktemp("starter"))


def test_the_starter_answers_every_query_of_the_demo_rightly(of_starter: Demo) -> None:
    assert len(of_starter.queries) == len(QUERIES)
    for result in of_starter.queries:
        source = result.query.source
        expected = RIGHT[source if isinstance(source, str) else source.stem]
        assert Path(result.hits[0].uri or "").stem in expected, source
        for hit in result.hits:
            if hit.probability is not None and hit.probability >= CONFIDENT:
                assert Path(hit.uri or "").stem in expected, source
    for classification in of_starter.classifications:
        name = Path(classification.item.uri or "").stem
        assert (classification.labels[0][0].removeprefix("a ").replace(" ", "-")) == name
        assert classification.labels[0][1] > CONFIDENT


def test_only_confident_hits_are_marked_on_the_page(of_starter: Demo) -> None:
    classes = [str(tag.get("class")) for tag in Page(page(of_starter)).all("li")]
    marked = [
        f"{hit.modality} confident"
        for result in of_starter.queries
        for hit in result.hits
        if (hit.probability or 0) >= CONFIDENT
    ]
    assert 5 <= len(marked) < len(QUERIES) * HITS / 2
    assert [name for name in classes if name.endswith("confident")] == marked


def test_a_missing_gallery_names_the_cure(tmp_path: Path) -> None:
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
    assert f"Report with images and sound: {report}" in outcome.stdout
    assert Page(report.read_text(encoding="utf-8")).all("img")
    assert max(map(len, outcome.stdout.splitlines()[:-1])) <= 110
    for query in QUERIES:
        assert query.title in outcome.stdout
    machine = cli("demo", "--space", "toy", "--output", tmp_path / "shown", "--json")
    output = machine.json()
    assert machine.stderr == ""
    assert output["report"] == str(report)
    assert len(output["queries"]) == len(QUERIES)
    assert [len(row["labels"]) for row in output["classifications"]] == [
        len(labels) for _, _, labels in CLASSIFICATIONS
    ]


def test_the_gallery_holds_what_its_recipe_lists() -> None:
    assert {file.name for file in (GALLERY / "pictures").iterdir()} == {scene.name for scene in items.IMAGES}
    assert {file.name for file in (GALLERY / "sounds").iterdir()} == {f"{name}.flac" for name in items.CLIPS}
    for name, text in items.NOTES.items():
        assert (GALLERY / "notes" / f"{name}.txt").read_text(encoding="utf-8") == f"{text}\n"


def test_the_gallery_is_large_enough_to_show_and_small_enough_to_ship() -> None:
    assert len(items.IMAGES) >= 36
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
    scene = next(scene for scene in items.IMAGES if scene.name == name)
    drawn, shipped = (
        np.asarray(images.draw(scene), float),
        multimodal.Image(GALLERY / "pictures" / name).load(),
    )
    assert np.abs(drawn - shipped).mean() < 4  # of 255: what JPEG and WebP lose
