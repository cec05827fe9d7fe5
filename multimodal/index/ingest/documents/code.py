"""Source code, cut at functions and classes: Python by `ast`, other languages by tree-sitter.

A class longer than a passage is cut at its methods; a function stays whole up to `ReadOptions.code_chars`, and is then
cut at its own definitions and between lines. What stands between definitions is cut between lines. Each part names its
symbol and its lines.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from multimodal.core.errors import MediaUnsupported, MissingExtra
from multimodal.index.fragments import LANGUAGES
from multimodal.index.ingest.documents.part import UNPRINTABLE, Part, ReadOptions, Source
from multimodal.index.ingest.documents.quiet import ignore_warnings
from multimodal.index.ingest.documents.text import decode_or_raise, read_bytes

MAX_DEPTH = 4  # of definitions within definitions
# Beginnings of lines that belong to the definition directly below them: comments, decorators, attributes
COMMENTS = ("//", "/*", "*", "--", "@", "#[")
HASH_COMMENTS = ("#", "@")
HASH_LANGUAGES = ("python", "ruby", "bash", "perl", "r", "julia", "elixir")
PARSED_NAME = "multimodal_parsed_code"  # the module in which Python places warnings on what it parses
# Kinds of nodes in the grammars of tree-sitter end in these; what precedes is one of DEFINED
DEFINITION = ("_definition", "_declaration", "_item", "_specifier", "_statement")
DEFINED = (
    "function", "method", "class", "struct", "interface", "trait", "enum", "impl", "constructor", "record", "object",
    "module", "mod", "namespace", "protocol", "extension", "type", "union", "internal_module",
)  # fmt: skip
FUNCTIONS = (
    "function",
    "method",
    "constructor",
    "subroutine",
    "lexical_declaration",
)  # others hold functions
# Kinds that are named otherwise: Ruby's, C++ templates, what JavaScript exports
WRAPPERS = ("export_statement", "decorated_definition", "template_declaration", "declaration_list")
OTHERS = (
    "method",
    "singleton_method",
    "class",
    "module",
    "function_signature",
    "subroutine_declaration_statement",
)


class Unit(NamedTuple):
    """A definition: its qualified name, and its first and last line, counted from 1.

    inner: definitions within it. is_function: whether it is run as a whole, unlike a class or a module.
    """

    symbol: str
    first: int
    last: int
    inner: tuple[Unit, ...] = ()
    is_function: bool = True


def read_code(source: Source, name: str, options: ReadOptions) -> Iterator[Part]:
    """Yields the definitions of a source file, and what stands between them.

    Args:
        source: The file.
        name: Its name, whose suffix tells the language.
        options: How to read it.

    Raises:
        MediaError: It is no text, or too large.
        MissingExtra: The language is not Python, and tree-sitter-language-pack is not installed.
    """
    content, shown = read_bytes(source, options.max_text_bytes)
    text = UNPRINTABLE.sub("", decode_or_raise(content, shown).replace("\r\n", "\n").replace("\r", "\n"))
    language = LANGUAGES.get(PurePath(name).suffix.lower())
    if language is None:
        raise MediaUnsupported(f"{shown}: its suffix is of no known programming language; name it .txt")
    units = _python_units(text) if language == "python" else _tree_sitter_units(text, language)
    comments = HASH_COMMENTS if language in HASH_LANGUAGES else COMMENTS
    function_chars = max(options.code_chars, options.passage_chars)
    cutter = _Cutter(text.split("\n"), comments, options.passage_chars, function_chars)
    yield from cutter.parts(units, 1, len(cutter.lines), "")


# --- definitions to parts ---------------------------------------------------------------------------


class _Cutter:
    """Cuts lines at definitions. size: characters of a part. function_size: of a part of a function."""

    def __init__(
        self, lines: Sequence[str], comments: tuple[str, ...], size: int, function_size: int
    ) -> None:
        self.lines, self.comments = lines, comments
        self.size, self.function_size = size, function_size

    def parts(self, units: Sequence[Unit], first: int, last: int, symbol: str) -> Iterator[Part]:
        """Yields the lines from `first` to `last`: each unit by itself, and what stands between units."""
        position = first
        for unit in self.with_comments(units):
            if unit.first < position:  # on the same line as the unit before
                continue
            yield from self.groups(position, unit.first - 1, symbol, self.size)
            size = self.function_size if unit.is_function else self.size
            if not unit.inner or self.n_chars(unit.first, unit.last) <= size:
                yield from self.groups(unit.first, unit.last, unit.symbol, size)
            else:
                yield from self.parts(unit.inner, unit.first, unit.last, unit.symbol)
            position = unit.last + 1
        yield from self.groups(position, last, symbol, self.size)

    def groups(self, first: int, last: int, symbol: str, size: int) -> Iterator[Part]:
        """Yields lines joined to at most `size` characters, or one line that is longer."""
        start, n_chars = first, 0
        for number in range(first, last + 1):
            length = len(self.lines[number - 1]) + 1
            if n_chars and n_chars + length > size:
                yield from self.part(start, number - 1, symbol)
                start, n_chars = number, 0
            n_chars += length
        yield from self.part(start, last, symbol)

    def part(self, first: int, last: int, symbol: str) -> Iterator[Part]:
        """Yields the lines without empty ones around them; nothing if all are empty."""
        while first <= last and not self.lines[first - 1].strip():
            first += 1
        while last >= first and not self.lines[last - 1].strip():
            last -= 1
        if first <= last:
            named: dict[str, str | int] = {"symbol": symbol} if symbol else {}
            yield Part("\n".join(self.lines[first - 1 : last]), named | {"lines": f"{first}-{last}"})

    def n_chars(self, first: int, last: int) -> int:
        return sum(len(line) + 1 for line in self.lines[first - 1 : last])

    def with_comments(self, units: Sequence[Unit]) -> list[Unit]:
        """Units that begin with the comments directly above them."""
        extended: list[Unit] = []
        end = 0
        for unit in units:
            first = unit.first
            while first - 1 > end and self.lines[first - 2].lstrip().startswith(self.comments):
                first -= 1
            extended.append(unit._replace(first=first))
            end = unit.last
        return extended


# --- Python -----------------------------------------------------------------------------------------


def _python_units(text: str) -> list[Unit]:
    """The definitions of Python source; none if it is not valid in the running version."""
    ignore_warnings(PARSED_NAME)  # such as on "\d" in a string
    try:
        tree = ast.parse(text, filename=f"{PARSED_NAME}.py")
    except (SyntaxError, ValueError, RecursionError, MemoryError, Warning):
        return []
    return list(_python_definitions(tree.body, "", 0))


def _python_definitions(body: Sequence[ast.stmt], prefix: str, depth: int) -> Iterator[Unit]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            symbol = prefix + node.name
            inner = _python_definitions(node.body, f"{symbol}.", depth + 1) if depth < MAX_DEPTH else ()
            is_function = not isinstance(node, ast.ClassDef)
            yield Unit(symbol, first, node.end_lineno or node.lineno, tuple(inner), is_function)


# --- other languages --------------------------------------------------------------------------------


def _tree_sitter_units(text: str, language: str) -> list[Unit]:
    try:
        from tree_sitter_language_pack import get_parser
    except ImportError as error:
        raise MissingExtra(
            f"reading {language}", package="tree-sitter-language-pack", extra="documents"
        ) from error
    parser: Any = get_parser(language)  # type: ignore[arg-type]
    return list(_definitions(parser.parse(text.encode()).root_node, "", 0))


def _definitions(node: Any, prefix: str, depth: int) -> Iterator[Unit]:
    for child in node.named_children:
        if child.type in WRAPPERS and (inner := list(_definitions(child, prefix, depth))):
            if len(inner) == 1:  # with its export or template
                yield inner[0]._replace(first=child.start_point[0] + 1, last=_last_line(child))
            else:
                yield from inner
        elif _is_definition(child) and (name := _name(child)):
            symbol = prefix + name
            found = _definitions(_body(child), f"{symbol}.", depth + 1) if depth < MAX_DEPTH else ()
            is_function = any(word in child.type for word in FUNCTIONS)
            yield Unit(symbol, child.start_point[0] + 1, _last_line(child), tuple(found), is_function)


def _last_line(node: Any) -> int:
    """The last line of a node; one that ends with a line break ends on the line before the next."""
    row, column = node.end_point[0], node.end_point[1]
    return max(node.start_point[0] + 1, row if column == 0 else row + 1)


def _is_definition(node: Any) -> bool:
    kind: str = node.type
    if kind in OTHERS:
        return True
    if kind == "lexical_declaration":  # of JavaScript: const name = () => ...
        return any(
            value is not None and value.type in ("arrow_function", "function_expression")
            for declarator in node.named_children
            for value in [declarator.child_by_field_name("value")]
        )
    stem = next((kind.removesuffix(end) for end in DEFINITION if kind.endswith(end)), "")
    return stem.endswith(DEFINED)


def _body(node: Any) -> Any:
    return node.child_by_field_name("body") or node


def _name(node: Any) -> str:
    """The name of a definition: its own field, or that of its declarator, of the type it extends, or of its first
    named child."""
    for _ in range(8):  # a pointer to an array of functions has as many declarators
        named = node.child_by_field_name("name") or node.child_by_field_name("type")
        if node.type.startswith("function_def") or named is None:
            declarator = node.child_by_field_name("declarator")
            if declarator is not None:
                node = declarator
                continue
        if named is not None:
            return _decoded(named)
        if node.type.endswith(("identifier", "name", "constant")):
            return _decoded(node)
        inner = next(
            (c for c in node.named_children if c.type.endswith(("identifier", "declarator", "_spec"))), None
        )
        if inner is None:
            return ""
        node = inner
    return ""


def _decoded(node: Any) -> str:
    text: bytes = node.text or b""
    return " ".join(text.decode(errors="replace").split())[:200]
