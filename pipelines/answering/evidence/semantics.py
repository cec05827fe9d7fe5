"""What the cosine of a question and a text means in a space.

Cosines of different models are not comparable. So each space is given a few questions and texts that do not answer
them: the mean and the spread of their cosines are the origin and the unit in which other cosines are measured. A space
that relates questions to answers in other words puts right answers many units away, another space does not: by that
the two kinds of spaces are distinguished, whatever their names.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass

from multimodal.core.errors import MultimodalError
from multimodal.core.items import Text
from multimodal.core.space import Space

MAX_AFFINITY = 10.0
# Mean affinity of the right pairs from which a space counts as semantic: 6.3 of all-MiniLM-L6-v2, 3.6 of the starter
MIN_SEPARATION = 5.0
# Questions and answers; each question is paired with the answers of the others. None is about notes of the benchmark.
PAIRS = (
    ("Where can I leave my automobile?", "The parking garage is behind the theatre."),
    ("What do kids get for their morning meal?", "Porridge with raisins is served to children at breakfast."),
    ("How did the physician treat the illness?", "The doctor prescribed antibiotics against the infection."),
    ("Who won the football game?", "Our team beat the visitors by two goals."),
    ("When does the shop close?", "The store shuts its doors at eight in the evening."),
    ("Which animals live in the sea there?", "Dolphins and seals swim off that coast."),
    ("What is the weather going to be like?", "Heavy rain and strong winds are expected tomorrow."),
    ("How do I begin making music?", "Beginners should first practise scales on the piano."),
    ("Why was the journey so slow?", "Our train was delayed because a tree lay across the track."),
    ("Who rules the nation?", "The king has governed the country since 2011."),
    ("How much money do employees earn?", "Staff receive a salary of 3,000 euros a month."),
    ("What can I do against a headache?", "Aspirin relieves pain quickly."),
    ("Where was the photograph taken?", "She shot this picture on a beach in Spain."),
    ("Which garment keeps me warm?", "A thick woollen coat is best in winter."),
    ("How is bread made?", "Knead flour and water, let the dough rise and bake it."),
    ("What should one read?", "This novel is the finest book of the year."),
)


@dataclass(frozen=True)
class Semantics:
    """What the cosines of a space mean.

    Attributes:
        unrelated: The mean cosine of a question with a text that does not answer it.
        spread: The standard deviation of those; None for a space without text.
        separation: The mean distance of questions and their answers in other words from `unrelated`, in units of the
            spread.
    """

    unrelated: float = 0.0
    spread: float | None = None
    separation: float = 0.0

    @property
    def is_semantic(self) -> bool:
        """Whether the space relates questions to answers in other words."""
        return self.separation >= MIN_SEPARATION

    def affinity(self, cosine: float) -> float:
        """How far a cosine is above that of unrelated texts, in units of their spread: 0 to MAX_AFFINITY."""
        if self.spread is None:
            return 0.0
        return max(0.0, min(MAX_AFFINITY, (cosine - self.unrelated) / self.spread))


NONE = Semantics()
_measured: weakref.WeakKeyDictionary[Space, Semantics] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def semantics_of(space: Space | None) -> Semantics:
    """The semantics of a space, measured once for each."""
    if space is None:
        return NONE
    with _lock:
        if space not in _measured:
            _measured[space] = _measure(space)
        return _measured[space]


def _measure(space: Space) -> Semantics:
    import numpy as np

    questions, answers = zip(*PAIRS, strict=True)
    try:
        cosines = (
            space.query_space.encode(list(map(Text, questions))) @ space.encode(list(map(Text, answers))).T
        )
    except MultimodalError:  # it has no encoder of text
        return NONE
    is_right = np.eye(len(PAIRS), dtype=bool)
    unrelated = float(cosines[~is_right].mean())
    spread = max(1e-6, float(cosines[~is_right].std()))
    return Semantics(unrelated, spread, (float(cosines[is_right].mean()) - unrelated) / spread)


def similarity_lost(space: Space | None, question: str, kept: str, text: str) -> float:
    """How much less similar to a text a question is without some of its words.

    Words that the text says otherwise lose much, and so do words that belong to what it is about; both are counted
    beside the share of words that it lacks.

    Args:
        space: The space; None for none.
        question: The question.
        kept: The question without the words.
        text: The text.

    Returns:
        The difference of the cosines in units of `Semantics.spread`, negative if the words only disturb; 0 if no words
        or all words are left out, and in a space without text.
    """
    spread = semantics_of(space).spread
    if space is None or spread is None or not kept or kept == question:
        return 0.0
    whole, part = space.query_space.encode([Text(question), Text(kept)])
    return float((whole - part) @ space.encode([Text(text)])[0]) / spread
