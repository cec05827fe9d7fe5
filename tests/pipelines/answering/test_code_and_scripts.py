"""Extractive answers from source code, and from notes in scripts without spaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from multimodal.core.space import Space
from multimodal.index import Index
from multimodal.pipelines.answering.evidence.unspaced import content_terms, is_unspaced
from multimodal.pipelines.answering.pipeline import AnsweringPipeline

SOURCES = {
    "weather.py": '''"""Weather."""

FREEZING = 32


def celsius_to_fahrenheit(degrees):
    """Convert a temperature from Celsius to Fahrenheit."""
    return degrees * 9 / 5 + FREEZING


class RainGauge:
    def add_reading(self, millimetres):
        """Store one reading of the gauge."""
        self.readings.append(millimetres)
''',
    "mail.py": '''def parseMailHeader(line):
    """Split a header line of a message into its name and value."""
    name, _, value = line.partition(":")
    return name.strip(), value.strip()
''',
}
NOTES = {
    "鍵.txt": "予備の鍵は二階の佐藤さんが持っている。自転車置き場の鍵は玄関の扉の裏に掛けてある。",
    "灯台.txt": "灯台は1881年に点灯し、1990年から無人になった。高さは三十三メートルある。",
    "仓库.txt": "会议在三月四日召开。新仓库定在苏州，合同由小李准备。",
    "路由器.txt": "路由器的密码写在底部。红灯表示线路断了，更新最多需要七分钟。",
}


@pytest.fixture(scope="module")
def ask(space: Space, tmp_path_factory: pytest.TempPathFactory) -> AnsweringPipeline:
    folder = tmp_path_factory.mktemp("sources")
    for name, text in (SOURCES | NOTES).items():
        (folder / name).write_text(text, encoding="utf-8")
    index = Index.create(tmp_path_factory.mktemp("index") / "sources.lance", space)
    index.add(folder)
    return AnsweringPipeline(index)


@pytest.mark.parametrize(
    ("question", "file", "symbol", "lines"),
    [
        ("How is a temperature converted to Fahrenheit?", "weather.py", "celsius_to_fahrenheit", (6, 8)),
        ("Which function parses the header of a mail?", "mail.py", "parseMailHeader", (1, 4)),
    ],
)
def test_a_question_about_a_function_is_answered_by_its_lines(
    ask: AnsweringPipeline, question: str, file: str, symbol: str, lines: tuple[int, int]
) -> None:
    answer = ask(question)
    assert not answer.refused and answer.verified
    (citation,) = answer.citations
    assert citation.quote in SOURCES[file] and f"def {symbol}" in citation.quote
    assert Path(str(citation.hit.uri)).name == file
    found = citation.hit.metadata
    assert (found["symbol"], found["start_line"], found["end_line"]) == (symbol, *lines)


@pytest.mark.parametrize(
    ("question", "note", "words"),
    [
        ("予備の鍵は誰が持っていますか？", "鍵.txt", "佐藤さん"),
        ("灯台はいつから無人になりましたか？", "灯台.txt", "1990年"),
        ("新仓库定在哪个城市？", "仓库.txt", "苏州"),
        ("路由器的密码写在哪里？", "路由器.txt", "底部"),
    ],
)
def test_questions_in_scripts_without_spaces_are_answered(
    ask: AnsweringPipeline, question: str, note: str, words: str
) -> None:
    answer = ask(question)
    assert words in answer.text
    assert Path(str(answer.citations[0].hit.uri)).name == note


@pytest.mark.parametrize(
    "question",
    ["猫の誕生日はいつですか？", "苹果树是谁种的？", "新仓库的租金是多少？", "鍵は何本ありますか？"],
)
def test_a_question_in_such_a_script_that_nothing_answers_is_refused(
    ask: AnsweringPipeline, question: str
) -> None:
    assert ask(question).refused


def test_terms_without_spaces_are_pairs_of_characters_without_function_words() -> None:
    assert content_terms("灯台はいつから無人になりましたか") == ["灯台", "無人"]
    assert content_terms("路由器的密码写在哪里") == ["路由", "由器", "密码", "码写", "写在"]
    assert is_unspaced("灯台はいつ？") and not is_unspaced("When is the 灯 lit?")
