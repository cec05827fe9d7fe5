"""Zero-shot classification: labels in words, given by the caller, for pictures, sounds and texts.

The mathematics, with x the unit vector of an input:

    c = the mean of the unit vectors of a label's prompts (one for each template), scaled back to length one
    s = scale * cosine(x, c) + bias, with the scale and bias of the space's head for (modality of x, text)

One label of several (`multi_label=False`): softmax of s over the labels, which sums to one.

Each label on its own (`multi_label=True`): where the head was trained with a sigmoid (SigLIP), sigmoid(s), as trained.
Where it was trained with a softmax (CLIP), s means something only next to another s, so the label is put next to the
neutral word "something" in the same templates: the softmax of these two, which is sigmoid(s - s_neutral).
"""

from __future__ import annotations

import functools
import html
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, overload

from multimodal.core.catalog import close_matches
from multimodal.core.errors import InvalidInput
from multimodal.core.items import Text, as_item
from multimodal.core.modality import Modality
from multimodal.core.pipeline import Pipeline, one_or_many
from multimodal.core.space import Space
from multimodal.core.vectors import unit_rows
from multimodal.pipelines.classification.templates import TEMPLATE_SETS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SLOT = "{}"
NEUTRAL = "something"
DEFAULT_TEMPLATES: dict[Modality, tuple[str, ...]] = {
    Modality.TEXT: ("{}", "this is about {}"),
    Modality.IMAGE: ("{}", "a picture of {}", "a photo of a {}"),
    Modality.AUDIO: ("{}", "the sound of {}"),
    Modality.VIDEO: ("{}", "a video of {}"),
}
LABEL_SETS_KEPT = 64


@dataclass(frozen=True)
class LabelScore:
    """A label and how likely it is, 0 to 1."""

    label: str
    score: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Classification(Sequence[LabelScore]):
    """The labels of one input, likeliest first (equal ones as given). `.label` and `.score` are the first's."""

    scores: tuple[LabelScore, ...]

    @property
    def label(self) -> str:
        return self.scores[0].label

    @property
    def score(self) -> float:
        return self.scores[0].score

    def to_dict(self) -> dict[str, Any]:
        """{"scores": [{"label", "score"}, …]}, ready for JSON."""
        return {"scores": [one.to_dict() for one in self.scores]}

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[LabelScore]:
        return iter(self.scores)

    @overload
    def __getitem__(self, index: int) -> LabelScore: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[LabelScore]: ...
    def __getitem__(self, index: int | slice) -> LabelScore | Sequence[LabelScore]:
        return self.scores[index]

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(one.label)}</td><td>{one.score:.3f}</td>"
            f'<td><progress max="1" value="{one.score:.4f}"></progress></td></tr>'
            for one in self.scores
        )
        return f"<table><tr><th>label</th><th>score</th><th></th></tr>{rows}</table>"


class ZeroShotClassificationPipeline(Pipeline):
    """`classify(Image("x.png"), labels=["cat", "dog"])` -> the labels, likeliest first."""

    task = "zero-shot-classification"

    def __init__(self, space: Space) -> None:
        space.encoder_for(Modality.TEXT)  # labels are words
        self.space = space
        # Encoding the prompts is most of the work and the same for every input: the last label sets are kept.
        self._class_vectors = functools.lru_cache(maxsize=LABEL_SETS_KEPT)(self._encode_classes)

    def __call__(
        self,
        inputs: Any,
        *,
        labels: Iterable[str],
        templates: str | Sequence[str] | None = None,
        multi_label: bool = False,
        top_k: int | None = None,
    ) -> Any:
        """Classifies one input -> Classification; a list of inputs -> a list of them.

        inputs: anything `as_item` takes (a str is text), of modalities that may differ.
        labels: what to choose from, in words. templates: sentences with "{}" where the label goes, whose vectors are
        averaged (default: DEFAULT_TEMPLATES of the input's modality); "imagenet" stands for the 80 published with CLIP,
        "imagenet-simple" for seven of them.
        multi_label: judge each label on its own, so that several or none may fit; see the top of this module.
        top_k: only the likeliest so many. Raises InvalidInput, UnsupportedModality, MediaError.
        """
        import numpy as np

        names, n_kept = _check_labels(labels), _check_top_k(top_k)
        sentences = None if templates is None else _check_templates(templates)
        values, alone = one_or_many(inputs)
        items = [as_item(value) for value in values]
        vectors = self.space.encode(items)
        scores = np.empty((len(items), len(names)), dtype=np.float64)
        for modality in dict.fromkeys(item.modality for item in items):
            where = [position for position, item in enumerate(items) if item.modality == modality]
            classes = self._class_vectors(names, sentences or DEFAULT_TEMPLATES[modality])
            scores[where] = self._scores(vectors[where], classes, modality, multi_label)
        found = [_ranked(names, row, n_kept) for row in scores]
        return found[0] if alone else found

    def _encode_classes(self, labels: tuple[str, ...], templates: tuple[str, ...]) -> NDArray[np.float32]:
        """(len(labels) + 1, dim): a unit row for each label, and last the neutral one."""
        words = (*labels, NEUTRAL)
        prompts = [Text(template.replace(SLOT, word)) for word in words for template in templates]
        vectors = self.space.encode(prompts).reshape(len(words), len(templates), self.space.dim)
        means = unit_rows(vectors.mean(axis=1), self.space.dim)
        means.setflags(write=False)  # shared by every call that finds it in the cache
        return means

    def _scores(
        self,
        vectors: NDArray[np.float32],
        classes: NDArray[np.float32],
        modality: Modality,
        multi_label: bool,
    ) -> NDArray[np.float32]:
        """(n, dim) inputs of one modality, (labels + 1, dim) -> (n, labels) in 0 to 1."""
        import numpy as np

        head = self.space.logit_scale_for(modality, Modality.TEXT)
        pair = (modality, Modality.TEXT)
        if not multi_label:
            return self.space.probabilities(vectors, classes[:-1], activation="softmax", modalities=pair)
        if head.activation == "sigmoid":
            return self.space.probabilities(vectors, classes[:-1], modalities=pair)
        cosines = self.space.similarity(vectors, classes).astype(np.float64)
        margins = head.scale * (cosines[:, :-1] - cosines[:, -1:])
        return np.asarray(
            0.5 * (1.0 + np.tanh(0.5 * margins)), dtype=np.float32
        )  # a sigmoid that cannot overflow


def _ranked(names: Sequence[str], scores: NDArray[np.float64], n_kept: int | None) -> Classification:
    order = sorted(range(len(names)), key=lambda i: -scores[i])[:n_kept]
    return Classification(tuple(LabelScore(names[i], float(scores[i])) for i in order))


def _check_labels(labels: Iterable[str]) -> tuple[str, ...]:
    if isinstance(labels, str) or not isinstance(labels, Iterable):
        raise InvalidInput(f"labels must be a list of names such as ['cat', 'dog'], got {labels!r}")
    given: tuple[object, ...] = tuple(labels)
    if not given:
        raise InvalidInput("the list of labels is empty; give at least one")
    names: dict[str, None] = {}  # in order, and quick to look up: there may be thousands
    for name in given:
        if not isinstance(name, str) or not name.strip():
            raise InvalidInput(f"a label must be a word or more, got {name!r}")
        if name in names:
            raise InvalidInput(f"the label {name!r} is given twice; each must differ from the others")
        names[name] = None
    return tuple(names)


def _check_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    given: tuple[object, ...] = (templates,) if isinstance(templates, str) else tuple(templates)
    if not given:
        raise InvalidInput("the list of templates is empty; leave it out, or give at least '{}'")
    sentences: list[str] = []
    for sentence in given:
        if isinstance(sentence, str) and sentence in TEMPLATE_SETS:
            sentences += TEMPLATE_SETS[sentence]
        elif isinstance(sentence, str) and SLOT in sentence:
            sentences.append(sentence)
        else:
            raise InvalidInput(
                f"the template {sentence!r} has no '{{}}' where the label goes, and is no set by name "
                f"({', '.join(TEMPLATE_SETS)}); {close_matches(str(sentence), TEMPLATE_SETS)}"
                "write it as 'a photo of a {}'"
            )
    return tuple(sentences)


def _check_top_k(top_k: Any) -> int | None:
    if top_k is None:
        return None
    try:
        n = 0 if isinstance(top_k, bool) else operator.index(top_k)
    except TypeError:
        n = 0
    if n < 1:
        raise InvalidInput(f"top_k must be a whole number of at least 1, got {top_k!r}")
    return n
