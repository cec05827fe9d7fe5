"""Zero-shot classification: labels in words, given by the caller, for inputs of any modality.

With x the unit vector of an input:

    c = the mean of the unit vectors of a label's prompts (one per template), normalised to unit length
    s = scale * cosine(x, c) + bias, with the scale and bias of the space for (modality of x, text)

One label of several (`multi_label=False`): softmax of s over the labels, which sums to one.

Independent labels (`multi_label=True`): for a model trained with a sigmoid (SigLIP), sigmoid(s), as trained. For a
model trained with a softmax (CLIP), a single s has no absolute meaning, so each label is compared with the neutral word
"something" in the same templates: the softmax of the two, which is sigmoid(s - s_neutral).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from multimodal.core.catalog import close_matches
from multimodal.core.checks import whole_number
from multimodal.core.classification.prompts import DEFAULT_TEMPLATES, SLOT, encode_labels
from multimodal.core.classification.result import Classification, ranked_labels
from multimodal.core.errors import InvalidInput
from multimodal.core.items import as_items
from multimodal.core.modality import Modality
from multimodal.core.pipeline import Pipeline, one_or_many
from multimodal.core.progress import count_progress
from multimodal.core.space import Space
from multimodal.pipelines.classification.templates import TEMPLATE_SETS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.adapt.fewshot.classifier import Classifier

NEUTRAL = "something"
CACHED_LABEL_SETS = 64


class ZeroShotClassificationPipeline(Pipeline):
    """Classifies inputs of any modality into labels given as text.

    >>> classify = ZeroShotClassificationPipeline.from_pretrained("starter")     # doctest: +SKIP
    >>> classify(Image("pet.png"), labels=["cat", "dog"]).label                  # doctest: +SKIP
    'cat'

    With `examples=` it is taught by examples instead, see `multimodal.adapt.few_shot`:

    >>> classify = multimodal.pipeline("zero-shot-classification", examples="photos")    # doctest: +SKIP
    >>> classify(Image("photo.jpg")).label                                               # doctest: +SKIP
    'heron'

    Args:
        space: The space that encodes inputs and labels.
        examples: As of `few_shot`; `labels` are then given here, or are those of the examples.
        labels: As of `few_shot`, with `examples`.
        reject: As of `few_shot`, with `examples`.

    Attributes:
        space: The space that encodes inputs and labels.
        classifier: What the examples taught; None without `examples`.
    """

    task = "zero-shot-classification"

    def __init__(
        self,
        space: Space,
        *,
        examples: Any = None,
        labels: Iterable[str] | Mapping[str, str] | None = None,
        reject: float | None = None,
    ) -> None:
        self.space = space
        self.classifier: Classifier | None = None
        if examples is not None:
            from multimodal.adapt.fewshot.api import few_shot

            self.classifier = few_shot(space, examples, labels, reject=reject)
        elif labels is not None or reject is not None:
            raise InvalidInput("labels= and reject= of the pipeline go with examples=; give the labels of each call "
                               "as classify(inputs, labels=[…])")  # fmt: skip
        else:
            space.encoder_for(Modality.TEXT)  # labels are encoded as text
        # Encoding the prompts is most of the work and does not depend on the inputs: recent label sets are cached
        self._class_vectors = functools.lru_cache(maxsize=CACHED_LABEL_SETS)(self._encode_classes)

    def __call__(
        self,
        inputs: Any,
        *,
        labels: Iterable[str] | None = None,
        templates: str | Sequence[str] | None = None,
        multi_label: bool = False,
        top_k: int | None = None,
        progress: bool | Callable[[int], object] | None = None,
    ) -> Any:
        """Classifies one input, or a list of them.

        Args:
            inputs: Anything that `as_item` takes, or a list of these, of mixed modalities too. A str is text, never
                a path: give a `Path` or `Image("x.png")` for a file.
            labels: The labels to choose from, in words. Not with `examples`, which have labels.
            templates: Sentences with "{}" in place of the label, whose vectors are averaged; "imagenet" stands for
                the 80 that were published with CLIP, "imagenet-simple" for seven of them. Default: DEFAULT_TEMPLATES
                of the modality.
            multi_label: Scores each label independently, so that several or none may fit.
            top_k: Returns only the most probable labels.
            progress: True for a progress bar, or a function to call with the number of inputs just encoded.

        Returns:
            A `Classification`, or a list of them in the order of the inputs; with `examples` a
            `multimodal.adapt.FewShotClassification`.

        Raises:
            InvalidInput: Invalid labels, templates or options.
            UnsupportedModality: A modality that the space does not encode.
            MediaError: A file that cannot be decoded.
        """
        import numpy as np

        if self.classifier is not None:
            if labels is not None or templates is not None or multi_label:
                raise InvalidInput("labels, templates and multi_label are for zero-shot classification; this pipeline "
                                   "was taught by examples, whose labels it has")  # fmt: skip
            return self.classifier(inputs, top_k=top_k, progress=progress)
        if labels is None:
            raise InvalidInput("no labels given: classify(inputs, labels=['cat', 'dog']), or make the pipeline with "
                               "examples=")  # fmt: skip
        names, n_kept = _check_labels(labels), None if top_k is None else whole_number(top_k, "top_k")
        sentences = None if templates is None else _check_templates(templates)
        values, is_single = one_or_many(inputs)
        items = as_items(values)
        with count_progress(progress, "classifying", len(items)) as report:
            vectors = self.space.encode(items, progress=report)
        scores = np.empty((len(items), len(names)), dtype=np.float64)
        for modality in dict.fromkeys(item.modality for item in items):
            positions = [position for position, item in enumerate(items) if item.modality == modality]
            classes = self._class_vectors(names, sentences or DEFAULT_TEMPLATES[modality])
            scores[positions] = self._scores(vectors[positions], classes, modality, multi_label)
        results = [Classification(ranked_labels(names, row, n_kept)) for row in scores]
        return results[0] if is_single else results

    def label_vectors(
        self,
        labels: Iterable[str],
        *,
        modality: Modality | str,
        templates: str | Sequence[str] | None = None,
    ) -> NDArray[np.float32]:
        """Computes the vector of each label, as it is compared with inputs of a modality.

        Args:
            labels: The labels, in words.
            modality: Of the inputs; it decides the default templates.
            templates: As for the call.

        Returns:
            Unit rows (labels, dim).

        Raises:
            InvalidInput: Invalid labels or templates.
        """
        names = _check_labels(labels)
        sentences = (
            DEFAULT_TEMPLATES[Modality(modality)] if templates is None else _check_templates(templates)
        )
        return self._class_vectors(names, sentences)[:-1]

    def _encode_classes(self, labels: tuple[str, ...], templates: tuple[str, ...]) -> NDArray[np.float32]:
        """(labels + 1, dim): a unit vector for each label, and last for the neutral word."""
        means = encode_labels(self.space, (*labels, NEUTRAL), templates, Modality.TEXT)
        means.setflags(write=False)  # shared through the cache
        return means

    def _scores(
        self,
        vectors: NDArray[np.float32],
        classes: NDArray[np.float32],
        modality: Modality,
        multi_label: bool,
    ) -> NDArray[np.float32]:
        """Vectors (n, dim) of one modality and classes (labels + 1, dim) -> probabilities (n, labels)."""
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


def _check_labels(labels: Iterable[str]) -> tuple[str, ...]:
    if isinstance(labels, str) or not isinstance(labels, Iterable):
        raise InvalidInput(f"labels must be a list of names such as ['cat', 'dog'], got {labels!r}")
    given: tuple[object, ...] = tuple(labels)
    if not given:
        raise InvalidInput("the list of labels is empty; give at least one")
    names: dict[str, None] = {}  # ordered, with fast look-up: there may be thousands
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
