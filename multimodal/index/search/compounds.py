"""Names of source code that are written as one word, such as "splitext" or "isfile", and the words in them.

Only names that consist of common words of source code altogether are split, so that others stay as they are. The words
were chosen on functions that benchmarks/code_search.py leaves out.
"""

from __future__ import annotations

import functools

MIN_CHARS = 5  # of a name that is split
MAX_PARTS = 3
MIN_PART_CHARS = 2
MIN_LONGEST_CHARS = 3  # of the longest part
_WORDS = """
    abs add all any append arg args array ascii attr attrs backward base bin bit block bool bound branch
    buffer build byte bytes cache call callback case char check child class clean clear close cmd code col
    color column command comment common compile complete copy count create ctx current cursor cut data
    date day db decode default del delete depth dest dict dir dirs doc docs down dump edge edit empty
    encode end entry env err error errors eval event exec exists exit exp export expr ext extract fd field
    file files filter find first flag flags float flush fmt folder format frame free from full func get
    getter global group handle handler has hash head header height hex hook host html http id import index
    info init input insert int is item items iter join key keys keyword kill label last left len length
    level lib like limit line lines link list load local lock log long lookup loop lower main make map
    mask match max mean member merge message meta method min mod mode module month mount move msg multi
    name names nan next node norm null num number obj object offset open option options order out output
    pad page pair param params parent parse part parts path paths pid pop port pos post prefix print
    process prop pull push put query queue quote random range rank raw re read reader real reg regex rel
    reload remove rename replace repr reset resize resolve rev reverse right root round row run save scan
    search section seek select self send seq serve set setter shape shell shift show size skip sleep slice
    sock socket sort source space split sqrt src stack start stat state status std step stop str stream
    string strip struct style sub suffix sum swap switch sym sync sys table tag task tell temp term test
    text thread time to toggle token tool top trace transform tree trim true truncate try type types unit
    update upper url use user utf val valid value values var vec vector version view visit wait walk week
    weight width with word work wrap write writer year zip zone
"""
_WHOLE = """
    forget format history include index input insert inside instance intern interval into invalid inverse
    island issue list member nothing notice number onto output outside reload remember remove rename
    repeat replace report represent request require reset resize resolve restart restore result retry
    return reverse review setting target timer today together toggle token
"""
WORDS = frozenset(_WORDS.split())
WHOLE = frozenset(_WHOLE.split())  # English words that look like compounds


@functools.lru_cache(4096)
def compound_parts(name: str) -> tuple[str, ...]:
    """The words in a name in lower case, in the fewest parts; none of a single word, and of one that is not known.

    >>> compound_parts("splitext"), compound_parts("island")
    (('split', 'ext'), ())
    """
    if len(name) < MIN_CHARS or name in WORDS or name in WHOLE:
        return ()
    best: dict[int, tuple[str, ...]] = {0: ()}  # end of a beginning of the name -> its parts
    for start in range(len(name)):
        if start not in best or len(best[start]) == MAX_PARTS:
            continue
        for end in range(start + MIN_PART_CHARS, len(name) + 1):
            if name[start:end] in WORDS and (end not in best or len(best[start]) + 1 < len(best[end])):
                best[end] = (*best[start], name[start:end])
    parts = best.get(len(name), ())
    return parts if len(parts) > 1 and max(map(len, parts)) >= MIN_LONGEST_CHARS else ()
