"""Abbreviations in names of source code, such as "dir" for "directory": a query for the word finds them."""

from __future__ import annotations

# word: its abbreviations. Those that are words of their own, such as "is" or "new", are left out.
_TABLE = """
    address: addr; argument: arg args; asynchronous: async; attribute: attr attrs; boolean: bool; buffer: buf;
    calculate: calc; character: char chars; command: cmd; compare: cmp; configuration: config conf cfg;
    connection: conn; context: ctx; current: cur; database: db; decimal: dec; delete: del; destination: dst dest;
    dictionary: dict; difference: diff; directory: dir dirs; document: doc docs; element: elem;
    environment: env environ; error: err; evaluate: eval; exception: exc; execute: exec; expression: expr;
    extension: ext; filename: fname; format: fmt; function: func fn; hexadecimal: hex; index: idx;
    information: info; initialize: init; initialise: init; instance: inst; integer: int; iterable: iter;
    iterator: iter; iterate: iter; length: len; library: lib; maximum: max; message: msg; minimum: min;
    module: mod; number: num; object: obj; package: pkg; parameter: param params; password: passwd pwd;
    pointer: ptr; position: pos; previous: prev; process: proc; reference: ref; regular: re regex;
    remove: rm; repository: repo; request: req; response: resp; result: res; return: ret; separator: sep;
    sequence: seq; socket: sock; source: src; specification: spec; standard: std; statistics: stats; string: str;
    synchronize: sync; temporary: tmp temp; text: txt; timestamp: ts; tuple: tup; value: val; variable: var;
    version: ver; window: win
"""
ABBREVIATIONS: dict[str, tuple[str, ...]] = {
    word.strip(): tuple(short.split()) for word, short in (entry.split(":") for entry in _TABLE.split(";"))
}


def abbreviations_of(word: str) -> tuple[str, ...]:
    """The abbreviations of an English word in lower case, also of its plural.

    >>> abbreviations_of("directories"), abbreviations_of("tree")
    (('dir', 'dirs'), ())
    """
    singular = word.removesuffix("ies") + "y" if word.endswith("ies") else word.removesuffix("s")
    return ABBREVIATIONS.get(word) or ABBREVIATIONS.get(singular, ())
