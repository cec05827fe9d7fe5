"""Terms of questions and texts in Chinese and Japanese, which are written without spaces.

A run of ideographs or katakana is compared by its pairs of neighbouring characters, as keyword search compares it.
Function words are removed first: a question is full of them, and a note that answers it has others.
"""

from __future__ import annotations

import re

from multimodal.index.search.terms import IS_UNSPACED, RUNS, character_pairs

HIRAGANA = "\u3041-\u309f"
SPLIT_BY_SCRIPT = re.compile(f"[{HIRAGANA}]+|[^{HIRAGANA}]+")
IS_HIRAGANA = re.compile(f"[{HIRAGANA}]")
_JAPANESE = (
    "どのくらい|どれくらい|いくら|いくつ|どちら|どこ|だれ|どれ|どの|どう|いつ|なぜ|なに|なん|でしょうか|ましたか|でしたか|"
    "ますか|ですか|ました|でした|ません|ます|です|している|しました|ください|あります|います|ある|いる|した|して|する|なり|なる|なっ|"
    "この|その|あの|から|まで|より|には|では|とは|は|が|を|に|の|へ|と|も|で|か|や|ね|よ"
)
_CHINESE = (
    "为什么|為什麼|什么|什麼|怎么|怎麼|怎样|怎樣|多少|多久|"
    "哪里|哪裡|哪儿|哪个|哪個|哪些|哪|谁|誰|几|幾|是不是|是|的|了|吗|嗎|呢|吧"
)
FUNCTION_HIRAGANA = re.compile(_JAPANESE)
FUNCTION_IDEOGRAPHS = re.compile(f"{_CHINESE}|何")
# What a question asks for, which its answer need not say: "which city", "what colour", "when"
_ASKED = "城市|地方|名字|名前|名称|时候|時候|时间|時間|颜色|顏色|色|场所|場所|一天|[天年日月]"
ASKED = re.compile(f"(?:{_ASKED})+")


def is_unspaced(text: str) -> bool:
    """Whether a text is in a script without spaces, by most of its letters."""
    letters = [character for character in text if character.isalpha()]
    return 2 * len(IS_UNSPACED.findall(text)) > len(letters) > 0


def lacks_content(question: str, text: str) -> bool:
    """Whether a text has not even one character of some content word of a question.

    Words are what stands between function words, so they may be several joined.

    >>> lacks_content("苹果树是谁种的", "苹果树在门口"), lacks_content("苹果树在哪里", "苹果树在门口")
    (True, False)
    """
    return any(not set(part) & set(text) for part in _content_parts(question))


def _content_parts(question: str) -> list[str]:
    """The runs of ideographs and katakana between function words, without what is asked for."""
    runs = [run for run in RUNS.findall(question) if IS_UNSPACED.match(run)]
    scripts = [part for run in runs for part in SPLIT_BY_SCRIPT.findall(run) if not IS_HIRAGANA.match(part)]
    parts = [part for script in scripts for part in FUNCTION_IDEOGRAPHS.split(script)]
    return [part for part in parts if part and not ASKED.fullmatch(part)]


def content_terms(token: str) -> list[str]:
    """The terms of a token of keyword search, without function words.

    >>> content_terms("自行车库的钥匙在哪里")
    ['自行', '行车', '车库', '钥匙', '匙在']
    """
    terms: list[str] = []
    for run in RUNS.findall(token):
        if not IS_UNSPACED.match(run):
            terms.append(run.lower())
            continue
        for part in SPLIT_BY_SCRIPT.findall(run):
            function_words = FUNCTION_HIRAGANA if IS_HIRAGANA.match(part) else FUNCTION_IDEOGRAPHS
            for kept in function_words.split(part):
                is_particle = len(kept) == 1 and IS_HIRAGANA.match(kept)
                terms += character_pairs(kept) or ([kept] if kept and not is_particle else [])
    return terms
