"""Generation of images: whether a judge finds the prompt of each image among all prompts, its score, and KID."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from multimodal.core.errors import InvalidInput
from multimodal.core.items import Image, Item, Text
from multimodal.core.modality import Modality
from multimodal.core.pipeline import as_space
from multimodal.core.space import Space
from multimodal.evaluation.data import Table
from multimodal.evaluation.encoding import Runner, describe, unique
from multimodal.evaluation.metrics.generated import clip_score, kernel_distance
from multimodal.evaluation.metrics.retrieval import item_values, rank
from multimodal.evaluation.result import ItemResult
from multimodal.evaluation.tasks.outcome import Options, Outcome, identity, item_key

SHARED = (
    "the judge is the space whose vectors condition the generator: it cannot be independent of what it scores"
)


def run(model: Any, table: Table, options: Options, runner: Runner) -> Outcome:
    """hit@k of each image's own prompt among all prompts and CLIPScore, by `judge`; KID where the data has images."""
    outcome = Outcome()
    rows = [row for row in table.rows if Modality.TEXT in row.items]
    outcome.excluded["no prompt"] += len(table.rows) - len(rows)
    if not rows:
        raise InvalidInput(f"{table.name}: no row has a prompt; expected the column text")
    prompts, places = unique([row.items[Modality.TEXT] for row in rows])
    judge = _judge(model, options, outcome)
    made: dict[int, Image] = {}

    def work(part: Sequence[Item]) -> list[Any]:
        texts = [str(item.load()) for item in part]
        results = model(texts, seed=[options.seed] * len(texts), **options.call)
        if any(result.image is None for result in results):
            raise InvalidInput(f"{identity(model)[0]} generates audio; images are expected")
        images = [Image(result.image) for result in results]
        made.update((id(item), image) for item, image in zip(part, images, strict=True))
        return list(judge.encode(images))

    name = f"generation:{identity(model)[1]}:{judge.fingerprint}:{options.seed}:{options.call}"
    vectors, failures = runner.results(name, prompts, work)
    if failures:
        raise InvalidInput(f"nothing could be generated from {describe(prompts[min(failures)])!r}")
    import numpy as np

    images = np.stack(vectors)
    texts, _ = runner.vectors(judge, prompts)
    ranks = rank(images, texts, [[row] for row in range(len(prompts))])
    groups = {place: row.group for row, place in zip(rows, places, strict=True)}
    for place, prompt in enumerate(prompts):
        text = describe(prompt)
        answer = describe(prompts[ranks.nearest[place]])
        key = item_key(Text(text), text)
        outcome.items.append(ItemResult(key, text, text, answer, groups[place], made.get(id(prompt))))
    own = item_values(ranks)
    outcome.values = {name: own[name] for name in ("hit@1", "hit@5", "hit@10")}
    outcome.values["clip_score"] = clip_score(images, texts)
    outcome.means = list(outcome.values)
    outcome.values["rank"] = ranks.best
    outcome.gallery = len(prompts)
    real = [row.items[Modality.IMAGE] for row in rows if Modality.IMAGE in row.items]
    if len(real) > 1 and len(images) > 1:
        seen, unreadable = runner.vectors(judge, real)
        kept = [row for row in range(len(real)) if row not in unreadable]
        outcome.figures["kid"] = kernel_distance(images, seen[kept])
    outcome.settings = {"judge": judge.name, "seed of the images": options.seed}
    return outcome


def _judge(model: Any, options: Options, outcome: Outcome) -> Space:
    """The space that scores, with a note where it is the generator's own."""
    own = getattr(model, "space", None) or getattr(getattr(model, "backend", None), "space", None)
    if options.judge is None and not isinstance(own, Space):
        raise InvalidInput("generation needs a judge, a space with text and images: judge='openclip/…'")
    judge = own if options.judge is None and isinstance(own, Space) else as_space(options.judge)
    if isinstance(own, Space) and own.fingerprint == judge.fingerprint:
        outcome.notes.append(SHARED)
    return judge
