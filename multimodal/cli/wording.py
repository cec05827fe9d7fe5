"""Error messages of the library, which name Python arguments, in terms of the command line.

The library words a cure as `offline=True` or `multimodal.limits(max_pixels=…)`. A user of the command line gives
options, so that messages are rewritten where they leave the console, for the options that the command has.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

KEYWORD = re.compile(
    r"(?<![\w./-])(?P<name>[a-z]\w*)=(?P<value>True|False|'[^']*'|\"[^\"]*\"|[\w./+-]*\w)(?![\w(\[{=])"
)
SNAKE_CASE = re.compile(r"(?<![\w./-])[a-z]+(?:_[a-z]+)+(?![\w=(.-])")
LIMIT = re.compile(r"multimodal\.limits\(max_(?P<kind>pixels|seconds|bytes)=(?P<number>\d+)\)")
COLUMN = re.compile(r"columns=\{'(?P<role>\w+)': (?:\.\.\.|…)\}")
REPEATED = re.compile(r"(?P<option>--[a-z-]+ [\w.+-]+) \((?P=option)\)")
PYTHON_ONLY = re.compile(r"(?<![\w./-])(?:preprocess|like|quick_gelu)=")
PHRASES = (
    (re.compile(r" to from_pretrained\b"), ""),
    (
        re.compile(r"create one with Index\.create\('(?P<path>[^']*)', space\)"),
        r"create one with: multimodal index FOLDER --index \g<path>",
    ),
    (
        re.compile(r"index\.rows\(\) lists (?:them|all items)"),
        "multimodal search --json prints the id of each hit",
    ),
)
TEXT_FILE = re.compile(r"to encode the \w+,? pass Text\(path\.read_text\(\)\)")
PYTHON_NOTE = (
    "; these arguments exist in Python only: load the model there, space.save_pretrained('FOLDER'), and name "
    "./FOLDER"
)
# the command that runs: set when it is resolved
running_command: ContextVar[Any] = ContextVar("multimodal_command", default=None)
ALIASES = {
    "calibrated=False": "--uncalibrated",
    "group_by=True": "--group-by-document",
    "similar_to=": "--similar-to",
}


def in_cli_terms(message: str, command: Any = None) -> str:
    """The message with CLI options where it names Python arguments.

    Args:
        message: Of an error of the library.
        command: The command whose options may be named; the one that runs by default.

    Returns:
        The message; arguments that the command has no option for stay as they are.
    """
    flags = options_of(running_command.get() if command is None else command)
    message = LIMIT.sub(lambda match: _limit(match, flags), message)
    message = COLUMN.sub(r"--column \g<role>=NAME", message)
    # `multimodal index` reads files of text; the other commands take texts as arguments
    cure = "name it .txt or pass the text itself" if "dedupe" in flags else "pass the text itself"
    message = TEXT_FILE.sub(f"to use its text, {cure}", message)
    for pattern, replacement in PHRASES:
        message = pattern.sub(replacement, message)
    for argument, option in ALIASES.items():
        if option in flags.values():
            message = message.replace(argument, option)
    message = KEYWORD.sub(lambda match: _option(match, flags), message)
    message = SNAKE_CASE.sub(lambda match: flags.get(match[0], match[0]), message)
    message = REPEATED.sub(r"\g<option>", message)
    return message + PYTHON_NOTE if PYTHON_ONLY.search(message) else message


def options_of(command: Any) -> Mapping[str, str]:
    """Parameter name -> its option, such as "min_probability" -> "--min-probability"; without arguments."""
    flags = {}
    for parameter in getattr(command, "params", ()):
        long = [name for name in parameter.opts if name.startswith("--")]
        if long:
            flags[str(parameter.name)] = long[0]
    return flags


def _option(match: re.Match[str], flags: Mapping[str, str]) -> str:
    option, value = flags.get(match["name"]), match["value"]
    if option is None:
        return match[0]
    if value == "True":
        return option
    return f"no {option}" if value == "False" else f"{option} {value.strip(chr(39) + chr(34))}"


def _limit(match: re.Match[str], flags: Mapping[str, str]) -> str:
    if match["kind"] == "seconds" and "max_hours" in flags:
        return f"{flags['max_hours']} {math.ceil(int(match['number']) / 3.6) / 1000:g}"
    return f"multimodal --limit {match['kind']}={match['number']} COMMAND"
