"""What a question asks for, such as an amount of money or a date, and whether a sentence contains it.

Patterns of English, and a few of Chinese and Japanese. Questions in other languages have no type, and are judged by
their words alone.
"""

from __future__ import annotations

import re

from multimodal.index.search.languages import stem
from multimodal.index.search.terms import words_in

_ONES = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen"
_TENS = (
    "eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|million|dozen"
)
NUMBER_WORD = f"{_ONES}|{_TENS}|half|quarter"
NUMBER = rf"(?:\d[\d.,]*|(?:{NUMBER_WORD})(?:[- ](?:{NUMBER_WORD}))*)"
CJK_NUMBER = r"(?:\d[\d.,]*(?=[\u3040-\u9fff])|[〇一二三四五六七八九十百千万两兩半]+)"
MONTH = "january|february|march|april|may|june|july|august|september|october|november|december"
DAY = "monday|tuesday|wednesday|thursday|friday|saturday|sunday"
CALENDAR = "(?:" + f"{MONTH}|{DAY}|christmas|easter".title() + r")s?\b"  # capitalised, and no names
DATE = rf"(?:1\d\d\d\b|20\d\d\b|\d+:\d|\d+ (?:{MONTH})\b)"  # a year, a time or a day, which count nothing
TIME_UNIT = (
    r"(?:seconds?|minutes?|hours?|days?|nights?|weeks?|fortnights?|months?|years?|centur(?:y|ies)|decades?|summers?|"
    r"winters?)"
)
LENGTH_UNIT = (
    r"(?:millimet\w+|centimet\w+|kilomet\w+|met(?:re|er)s?|miles?|feet|foot|inch\w*|mm|cm|km|m|"
    r"stor(?:e?ys?|ies))\b"
)
MASS_UNIT = r"(?:grams?|kilos?|kilograms?|tonnes?|tons?|pounds?|ounces?|kg|g)\b"
UNIT = (
    rf"(?:{TIME_UNIT}|{LENGTH_UNIT}|{MASS_UNIT}|degrees?|percent|%|litres?|liters?|millilitres?|bars?|watts?|volts?|"
    "pages?|times|people|guests|eggs|balls|beds|pieces)"
)
COLOURS = (
    "black|white|grey|gray|red|blue|green|yellow|orange|brown|pink|purple|violet|silver|gold(?:en)?|amber|beige|"
    "turquoise"
)
_NAMED = "company|brand|make|breed|person|doctor|teacher|author|composer|landlord|university|shop|bank|planet|island"
_PLACED = "city|town|country|place|street|room|village|station|gate|berth|zone|floor|door|side|direction|port|socket"
_COUNTED = "number|percentage|amount|value|score|total|interest|discount|ratio|pressure|code"


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


# Type -> what a question of it says. The first that matches counts.
QUESTIONS: dict[str, re.Pattern[str]] = {
    "money": _any(
        r"\bhow much\b.*\b(cost|pay|paid|charge|price|worth|rent|earn|fee|ask|spend|spent)\w*\b",
        r"\bhow much\b.*\b(owe|loan|fine|salary|tip)\w*\b",
        r"\bwhat (do|does|did|would|will|may)\b.*\b(cost|charge|pay|earn)\b",
        r"\b(price|fee|salary|rate|wage|fare|rent)\b",
        r"\bhow (much|expensive) (is|was|are|were) (the|a|an)\b", "多少钱|多少錢|いくら(?!か)",
    ),
    "frequency": _any(r"\bhow often\b", r"\bhow (many|frequently) times\b"),
    "duration": _any(
        r"\bhow (long|soon|quickly)\b", rf"\bhow many {TIME_UNIT}\b", r"\bhow much time\b", r"\bwhat duration\b"
    ),
    "length": _any(
        r"\bhow (far|high|tall|deep|wide|thick|short|large|big|steep)\b",
        r"\b(what|which) (length|height|depth|width|distance|size)\b",
    ),
    "mass": _any(r"\bhow heavy\b", r"\bhow much (do|does|did)\b.*\bweigh", r"\b(what|which) weight\b"),
    "temperature": _any(
        r"\bhow (hot|cold|warm|cool)\b", r"\btemperature\b", r"\bhow many degrees\b",
        r"\b(at|to) (what|which) degrees?\b",
    ),
    "speed": _any(r"\bhow fast\b", r"\bspeed\b", r"\bat what rate\b"),
    "age": _any(r"\bhow old\b", r"\bwhat age\b"),
    "number": _any(
        r"\bhow (many|much)\b", r"\bhow (full|loud|accurate|strong)\b",
        rf"\b(what|which) (is |was |are )?(the |my |our |your )?(\w+ )?({_COUNTED})\b",
        "几|幾|多少|多[长高大重远]|いくつ|何[個本枚人匹回度年分時]|どのくらい|どれくらい",
    ),
    "time": _any(
        r"\bwhen\b", r"\b(what|which) (year|date|day|month|time|century|weekday|evening|week)s?\b",
        "什么时候|什麼時候|哪[天年]|哪一[天年]|いつ|何[日月曜]",
    ),
    "colour": _any(r"\b(what|which) colou?rs?\b"),
    "name": _any(r"\bwh(o|ose|om)\b", r"\bnames?\b|\bcalled\W*$", rf"\b(what|which) (\w+ )?({_NAMED})\b"),
    "place": _any(r"\bwhere\b", rf"\b(what|which) (\w+ )?({_PLACED})\b"),
    "reason": _any(r"\bwhy\b", r"\bwhat for\b", r"\bhow come\b", r"\b(causes?|caused|reason)\b"),
}  # fmt: skip
# Type -> what answers it.
ANSWERS: dict[str, re.Pattern[str]] = {
    "money": _any(
        r"[€$£]\s?\d", rf"{NUMBER}\s?(?:euros?|dollars?|pounds?|yen|cents?|francs?|[€$£])",
        r"\b(?:costs?|price|pays?|paid|rent|fee|fines?|charges?|for|is|at|are|of|than|to) (?:\w+ )?"
        rf"\d[\d.,]*(?![\d:]|\s*{UNIT}|\s*(?:{MONTH}))",
        r"\b\d[\d.,]* (?:a|an|per) (?:month|year|hour|night|week|day)", r"\b\d[\d.,]*(?: each| extra)\b",
        rf"{CJK_NUMBER}\s?(?:円|日元|元|块|塊|ユーロ|欧元|ドル|美元)",
    ),
    "frequency": _any(
        r"\b(once|twice|daily|weekly|monthly|yearly|hourly|always|never|every|each)\b", rf"\b{NUMBER} times\b",
        rf"\b{NUMBER} (a|an|per) (day|week|month|year|hour)\b",
    ),
    "duration": _any(
        rf"\b(?:{NUMBER}|a|an|several|few|within) (?:and a half )?(?:more |whole |full )?{TIME_UNIT}\b",
        r"\b(overnight|all day|until|till|from .{2,14} to)\b", r"\bwithin an?\b",
    ),
    "length": _any(
        rf"\b{NUMBER}\s?(?:square |cubic )?{LENGTH_UNIT}", rf"\b{NUMBER} (?:by|x) {NUMBER}\b",
        rf"\b{NUMBER}\s?(?:hectares?|acres?|litres?)",
    ),
    "mass": _any(rf"\b{NUMBER}\s?{MASS_UNIT}"),
    "temperature": _any(
        rf"\b(?:minus )?{NUMBER}(?:\s?degrees|\s?°|(?=[,;.]| and| to|$))", r"\bbelow (zero|freezing)\b"
    ),
    "speed": _any(rf"\b{NUMBER}\s?(?:{LENGTH_UNIT}|{TIME_UNIT})", rf"\b{NUMBER} times as fast"),
    "age": _any(
        rf"\b{NUMBER}[ -](?:years?|months?|weeks?)[ -](?:old|of age)\b",
        rf"\b(?:aged?|turn(?:s|ed)|at) (?:of )?{NUMBER}\b(?! ?{UNIT})",
        rf"\b(?:is|was|are|were) {NUMBER}(?! ?{UNIT})\b", r"\b(?:born|built|founded)\b.*\d{4}",
    ),
    "number": _any(rf"\b(?!{DATE}){NUMBER}\b", CJK_NUMBER),
    "time": _any(
        r"\d{1,2}[:.]\d\d\b", r"\b1\d{3}\b", r"\b20\d\d\b", r"\b\d{1,2} ?(?:am|pm|o'clock)\b",
        rf"\b(?:{MONTH}|{DAY})s?\b",
        r"\b\d{1,2}(?:st|nd|rd|th)\b",
        r"\b(?:morning|noon|afternoon|evening|midnight|night|yesterday|today|tomorrow)\b",
        rf"\b(?:spring|summer|autumn|winter|christmas|easter|week {NUMBER})\b", rf"\bat (?:{NUMBER_WORD})\b",
        rf"\bhalf past\b|\b{TIME_UNIT} (?:later|ago|before|after)\b|\bwhen\b",
        rf"{CJK_NUMBER}(?:年|月|日|号|時|时|点)|[春夏秋冬](?:天|季|に|の)|曜日|星期|周[一二三四五六日末]|昨[日天年]|去年|今年|明年",
    ),
    "colour": _any(rf"\b({COLOURS})\b", '["“]'),
    "name": re.compile(
        rf"(?<![.!?:] )(?<!^)(?:[\"“]|\b)(?!{CALENDAR})[A-Z][\w'’-]+|^(?!{CALENDAR})[A-Z][\w'’-]+ (?!{CALENDAR})[A-Z]"
    ),
    "place": _any(
        r"\b(?:in|at|on|near|to|from|behind|under|above|below|beside|inside|outside|between|next to|with|by) "
        r"(?:the |a |an |our |my |his |her |their )?"
        rf"(?!{NUMBER}|{MONTH}|{DAY}|{TIME_UNIT}|most|least|all|once|last|first|time|morning|evening|noon|summer|winter)\w+"
    ),
    "reason": _any(
        r"\b(?:because|since|due to|so that|in order to|as a result|therefore|otherwise|owing to|for the sake)\b",
        r"\b(?:too|as|without|from|to (?:avoid|prevent|keep|stop|save|fit|hear))\b",
    ),
}  # fmt: skip
COUNTED = re.compile(r"\bhow many (\w+)(?: (?:of )?(\w+))?", re.IGNORECASE)
CJK_COUNTER = re.compile("[几幾何]([\u4e00-\u9fff])(?<![个個])")  # the general counter stands for all others
EXTENT = re.compile(r"\bhow long (?:is|are|was|were)\b", re.IGNORECASE)
THING = re.compile(  # a plural after a number
    r"[ -](?:\w+ )??(?!(?:is|was|has|as|its|this|plus|less|across)\b)(\w\w+s)\b", re.IGNORECASE
)
# A plural that is no thing of its own: "how much water" is answered by litres, "how many eggs" is not by minutes
MEASURE = re.compile(
    r"\w*(?:grams|litres|liters|kilos|kilograms|tonnes|tons|pounds|ounces|spoons|cups|bytes|watts|volts|euros|dollars)",
    re.IGNORECASE,
)
COUNTED_WITHIN = 3  # words after a number


def answer_type(question: str) -> str | None:
    """What a question asks for, as a key of `ANSWERS`; None if its words do not say."""
    return next((kind for kind, pattern in QUESTIONS.items() if pattern.search(question)), None)


def has_answer_type(sentence: str, kind: str | None, question: str = "") -> bool:
    """Whether a sentence contains what a question asks for. Words of the question do not count."""
    if kind is None:
        return False
    if kind == "number" and (counter := CJK_COUNTER.search(question)) is not None:
        return re.search(rf"{CJK_NUMBER}\s?{counter[1]}", sentence) is not None
    known = set(words_in(question))
    kinds = (kind, "length") if kind == "duration" and EXTENT.search(question) else (kind,)
    matches = (match for name in kinds for match in ANSWERS[name].finditer(sentence))
    nouns = _counted_nouns(question) if kind == "number" else None
    return any(
        (not words or not words <= known) and (nouns is None or _may_count(sentence[match.end() :], nouns))
        for match in matches
        for words in [set(words_in(match[0]))]
    )


def _counted_nouns(question: str) -> set[str]:
    """The stems of the nouns whose number or amount a question asks for."""
    asked = COUNTED.search(question)
    return {stem(word.lower(), "english") for word in asked.groups() if word} if asked else set()


def _may_count(following: str, nouns: set[str]) -> bool:
    """Whether a number may count the nouns, by the words that follow it: not if it counts another noun."""
    if (ending := THING.match(following)) is None:
        return True
    near = re.findall(r"[\w-]+", following)[:COUNTED_WITHIN]
    if any(stem(word.lower(), "english") in nouns for word in near):
        return True
    return not nouns and MEASURE.fullmatch(ending[1]) is not None


def counts_the_noun(sentence: str, question: str) -> bool | None:
    """Whether a number stands before the noun that "how many" asks about; None for another question."""
    nouns = _counted_nouns(question)
    if not nouns:
        return None
    words = re.findall(r"[\w-]+", sentence)
    return any(
        re.fullmatch(NUMBER, word, re.IGNORECASE) is not None
        and any(stem(near.lower(), "english") in nouns for near in words[at + 1 : at + 1 + COUNTED_WITHIN])
        for at, word in enumerate(words)
    )
