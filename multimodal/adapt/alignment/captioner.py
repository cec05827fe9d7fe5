"""Aligns a captioner of vectors: a small loop of its own, with replay and interpolation against forgetting."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from multimodal.adapt.alignment import objectives
from multimodal.adapt.alignment.policy import CaptionPolicy
from multimodal.adapt.alignment.preferences import Judge, Preference, best_and_worst, scored
from multimodal.adapt.alignment.report import Alignment, AlignmentReport
from multimodal.core.errors import InvalidInput

SHARES = (
    0.0,
    0.125,
    0.25,
    0.375,
    0.5,
    0.625,
    0.75,
    0.875,
    1.0,
)  # of the change, tried for interpolation="auto"
SAMPLED = 8  # captions of one input
MAX_REFERENCE = 1000  # held-out replay of each kind that is captioned for the report
Z_95 = 1.96
REFERENCE = "reference"  # the figure of what must not be forgotten; "reference, speech" is of one kind


@dataclass(frozen=True)
class Settings:
    """The options of `align` for a captioner; see there."""

    method: str
    beta: float
    likelihood: float
    replay_share: float
    interpolate: float | None
    steps: int
    batch: int
    learning_rate: float
    temperature: float
    held_out: float
    seed: int


@dataclass(frozen=True)
class Batch:
    """Vectors (n, dim) with tokens (n, t) of the chosen and the rejected caption."""

    vectors: Tensor
    chosen: Tensor
    rejected: Tensor | None

    def rows(self, where: Tensor) -> Batch:
        """Some of the rows."""
        return Batch(
            self.vectors[where],
            self.chosen[where],
            None if self.rejected is None else self.rejected[where],
        )


@dataclass(frozen=True)
class Reference:
    """What the captioner must not forget: vectors (n, dim) and their captions."""

    vectors: Tensor
    captions: list[str]

    def rows(self, where: Sequence[int]) -> Reference:
        """Some of the rows."""
        return Reference(self.vectors[list(where)], [self.captions[k] for k in where])


def align_captioner(
    policy: CaptionPolicy,
    preferences: Sequence[Preference],
    replay: Mapping[str, Sequence[tuple[Any, str | None]]],
    judge: Judge | None,
    settings: Settings,
    make_pipeline: Callable[[Any], Any],
) -> Alignment:
    """Trains a copy of the captioner and keeps as much of the change as the reference allows."""
    started = time.perf_counter()
    before = copy.deepcopy(policy.net).float().eval().requires_grad_(False)
    notes: list[str] = []
    preferences = _completed(policy, before, preferences, judge, settings, notes)
    vectors = policy.vectors([preference.input for preference in preferences])
    trained, held = _split(len(preferences), settings)
    learned, remembered = _replayed(policy, before, replay, settings)
    net = copy.deepcopy(before).requires_grad_(True)
    task = _Training(policy, before, net, judge, settings)
    task.run(vectors[trained], [preferences[k] for k in trained], learned)
    judged = _Judged(policy, vectors[held], [preferences[k] for k in held], judge)
    curve = _curve(judged, remembered, before, net, settings)
    share = _choose(curve, {kind: len(old.captions) for kind, old in remembered.items()}, settings, notes)
    result = interpolated(before, net, share)
    report = AlignmentReport(
        method=settings.method,
        n_preferences=len(trained),
        n_held_out=len(held),
        before=_without_reference(curve[0.0]),
        after=_without_reference(curve[share]),
        reference=_change(curve, share, REFERENCE) if remembered else None,
        interpolation=share,
        curve=curve,
        seconds=round(time.perf_counter() - started, 1),
        notes=tuple(notes),
        kinds={kind: _change(curve, share, _figure_of(kind)) for kind in remembered if kind},
    )  # fmt: skip
    return Alignment(
        make_pipeline(policy.replaced(result)), report, lambda folder: policy.save(result, folder)
    )


def _completed(
    policy: CaptionPolicy,
    net: nn.Module,
    preferences: Sequence[Preference],
    judge: Judge | None,
    settings: Settings,
    notes: list[str],
) -> list[Preference]:
    """The preferences, where needed chosen by the judge among samples of the captioner."""
    open_ = [preference for preference in preferences if preference.chosen is None]
    if settings.method == "grpo" or (not open_ and settings.method != "best-of-n"):
        return list(preferences)
    assert judge is not None  # checked by `align`
    inputs = [preference.input for preference in preferences]
    vectors = policy.vectors(inputs)
    drawn = [
        policy.write(net, vectors, temperature=settings.temperature, seed=settings.seed + turn)
        for turn in range(SAMPLED)
    ]
    samples = [[text for text in texts if text.strip()] or ["?"] for texts in zip(*drawn, strict=True)]
    made = best_and_worst(inputs, samples, judge)
    if len(made) < len(inputs):
        notes.append(
            f"{len(inputs) - len(made):,} of {len(inputs):,} inputs were left out: their samples are the same"
        )
    if len(made) < 2:
        raise InvalidInput(
            f"the judge finds a better and a worse caption for {len(made)} of {len(inputs)} inputs only; give more "
            "inputs, or a higher temperature="
        )
    return made


def _split(n: int, settings: Settings) -> tuple[list[int], list[int]]:
    order = np.random.default_rng(settings.seed).permutation(n).tolist()
    count = max(1, round(n * settings.held_out)) if n > 1 else 0
    return sorted(order[count:]), sorted(order[:count])


def _replayed(
    policy: CaptionPolicy,
    net: nn.Module,
    replay: Mapping[str, Sequence[tuple[Any, str | None]]],
    settings: Settings,
) -> tuple[dict[str, Reference], dict[str, Reference]]:
    """(what is trained along, what measures forgetting), by kind."""
    learned, remembered = {}, {}
    for kind, items in replay.items():
        reference = _reference(policy, net, items)
        if reference.captions:
            learning, kept = _split(len(reference.captions), settings)
            learned[kind] = reference.rows(learning)
            remembered[kind] = reference.rows(kept[:MAX_REFERENCE])
    return _not_empty(learned), _not_empty(remembered)


def _not_empty(references: dict[str, Reference]) -> dict[str, Reference]:
    return {kind: reference for kind, reference in references.items() if reference.captions}


def _reference(policy: CaptionPolicy, net: nn.Module, replay: Sequence[tuple[Any, str | None]]) -> Reference:
    """Replay with its captions; where none is given, what the captioner writes now."""
    vectors = policy.vectors([value for value, _ in replay])
    captions = [caption for _, caption in replay]
    missing = [k for k, caption in enumerate(captions) if caption is None]
    if missing:
        for k, text in zip(missing, policy.write(net, vectors[missing]), strict=True):
            captions[k] = text
    kept = [k for k, caption in enumerate(captions) if caption]
    return Reference(vectors[kept], [str(captions[k]) for k in kept])


class _Training:
    """The training of one copy of the captioner."""

    def __init__(
        self,
        policy: CaptionPolicy,
        before: nn.Module,
        net: nn.Module,
        judge: Judge | None,
        settings: Settings,
    ) -> None:
        self.policy, self.before, self.net, self.judge, self.settings = policy, before, net, judge, settings
        self.generator = torch.Generator().manual_seed(settings.seed)

    def run(
        self, vectors: Tensor, preferences: Sequence[Preference], replay: Mapping[str, Reference]
    ) -> None:
        """Optimises the network in place. Raises InvalidInput if the loss is not finite."""
        settings = self.settings
        optimizer = torch.optim.AdamW(self.net.parameters(), lr=settings.learning_rate, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / settings.steps)
        data = None if settings.method == "grpo" else self._batch(vectors, preferences)
        old = self._old_batch(replay)
        for step in range(settings.steps):
            if data is None:
                loss = self._grpo(vectors, preferences, step)
            else:
                loss = self._supervised(data.rows(self._draw(len(data.vectors))))
            if old is not None:
                part = old.rows(self._draw_of_each([len(kind.captions) for kind in replay.values()]))
                loss = loss + objectives.token_loss(*self._log_probs(self.net, part.vectors, part.chosen))
            if not torch.isfinite(loss):
                raise InvalidInput(
                    f"the loss is {loss.item()} at step {step}, so nothing was changed; lower learning_rate="
                )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        self.net.eval().requires_grad_(False)

    def _batch(self, vectors: Tensor, preferences: Sequence[Preference]) -> Batch:
        chosen = self.policy.tokens([str(preference.chosen) for preference in preferences])
        if self.settings.method != "dpo":
            return Batch(vectors, chosen, None)
        return Batch(
            vectors, chosen, self.policy.tokens([str(preference.rejected) for preference in preferences])
        )

    def _old_batch(self, replay: Mapping[str, Reference]) -> Batch | None:
        """The replay of all kinds, one kind after the other."""
        if not replay:
            return None
        tokens = self.policy.tokens([text for kind in replay.values() for text in kind.captions])
        return Batch(torch.cat([kind.vectors for kind in replay.values()]), tokens, None)

    def _draw_of_each(self, counts: Sequence[int]) -> Tensor:
        """Rows of the replay: as many of one kind as of another, however many there are of each."""
        ends = np.cumsum(counts)
        share = self.settings.replay_share / len(counts)
        return torch.cat([
            int(end) - n + self._draw(n, share) for n, end in zip(counts, ends, strict=True)
        ])  # fmt: skip

    def _draw(self, n: int, share: float = 1.0) -> Tensor:
        count = max(1, round(self.settings.batch * share))
        return torch.randint(n, (count,), generator=self.generator)

    def _log_probs(self, net: nn.Module, vectors: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return self.policy.log_probs(net, vectors, tokens)

    def _supervised(self, batch: Batch) -> Tensor:
        log_probs, counted = self._log_probs(self.net, batch.vectors, batch.chosen)
        likelihood = objectives.token_loss(log_probs, counted)
        if batch.rejected is None:
            return likelihood
        worse = objectives.totals(*self._log_probs(self.net, batch.vectors, batch.rejected))
        with torch.no_grad():
            old_better, old_worse = (
                objectives.totals(*self._log_probs(self.before, batch.vectors, tokens))
                for tokens in (batch.chosen, batch.rejected)
            )
        better = objectives.totals(log_probs, counted)
        preference = objectives.dpo_loss(better, worse, old_better, old_worse, self.settings.beta)
        return preference + self.settings.likelihood * likelihood

    def _grpo(self, vectors: Tensor, preferences: Sequence[Preference], step: int) -> Tensor:
        assert self.judge is not None  # checked by `align`
        rows = self._draw(len(vectors), 1 / SAMPLED).repeat_interleave(SAMPLED)
        written = self.policy.write(
            self.net, vectors[rows], temperature=self.settings.temperature, seed=self.settings.seed + step
        )
        inputs = [preferences[k].input for k in rows.tolist()]
        rewards = torch.from_numpy(scored(self.judge, inputs, written)).float().view(-1, SAMPLED)
        tokens = self.policy.tokens(written)
        log_probs, counted = self._log_probs(self.net, vectors[rows], tokens)
        with torch.no_grad():
            reference, _ = self._log_probs(self.before, vectors[rows], tokens)
        advantage = objectives.advantages(rewards).flatten()
        return objectives.grpo_loss(log_probs, counted, reference, advantage, self.settings.beta)


@dataclass(frozen=True)
class _Judged:
    """The held-out preferences, and the figures of a network on them."""

    policy: CaptionPolicy
    vectors: Tensor
    preferences: Sequence[Preference]
    judge: Judge | None

    def figures(self, net: nn.Module) -> dict[str, float]:
        """See `AlignmentReport.before`."""
        figures: dict[str, float] = {}
        written = self.policy.write(net, self.vectors)
        chosen = [preference.chosen for preference in self.preferences]
        if all(text is not None for text in chosen):
            better, counted = self._scored([str(text) for text in chosen], net)
            figures["exact"] = float(np.mean([a == b for a, b in zip(written, chosen, strict=True)]))
            figures["chosen log-probability"] = float((better.sum() / counted.sum()).item())
            if all(preference.rejected is not None for preference in self.preferences):
                worse, _ = self._scored([str(preference.rejected) for preference in self.preferences], net)
                figures["preferred"] = float((better.sum(dim=1) > worse.sum(dim=1)).float().mean())
        if self.judge is not None:
            inputs = [preference.input for preference in self.preferences]
            figures["reward"] = float(scored(self.judge, inputs, written).mean())
        return figures

    def _scored(self, captions: list[str], net: nn.Module) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            log_probs, counted = self.policy.log_probs(net, self.vectors, self.policy.tokens(captions))
        return log_probs * counted, counted


def interpolated(before: nn.Module, after: nn.Module, share: float) -> nn.Module:
    """A network whose weights lie between two: before + share · (after - before) (WiSE-FT, Wortsman et al. 2022)."""
    mixed = copy.deepcopy(before)
    new = after.state_dict()
    state = {name: torch.lerp(old, new[name], share) for name, old in before.state_dict().items()}
    mixed.load_state_dict(state)
    return mixed.eval().requires_grad_(False)


def _curve(
    judged: _Judged,
    remembered: Mapping[str, Reference],
    before: nn.Module,
    after: nn.Module,
    settings: Settings,
) -> dict[float, dict[str, float]]:
    shares = SHARES if settings.interpolate is None else (0.0, settings.interpolate)
    curve = {}
    for share in shares:
        net = interpolated(before, after, share)
        figures = judged.figures(net)
        right = {
            kind: [a == b for a, b in zip(judged.policy.write(net, old.vectors), old.captions, strict=True)]
            for kind, old in remembered.items()
        }
        if right:
            figures[REFERENCE] = float(np.mean([hit for hits in right.values() for hit in hits]))
        curve[share] = figures | {_figure_of(kind): float(np.mean(hits)) for kind, hits in right.items()}
    return curve


def _choose(
    curve: dict[float, dict[str, float]], n_reference: Mapping[str, int], settings: Settings, notes: list[str]
) -> float:
    """The largest share at which every kind of the reference stays within the interval of before."""
    if settings.interpolate is not None:
        return settings.interpolate
    if not n_reference:
        notes.append(
            "no replay= was given, so nothing is known about what was forgotten, and the change was kept"
        )
        return 1.0
    lowest = {_figure_of(kind): _lowest(curve[0.0][_figure_of(kind)], n) for kind, n in n_reference.items()}
    share = 0.0
    for candidate in sorted(curve):
        if any(curve[candidate][name] < value for name, value in lowest.items()):
            break
        share = candidate
    if share == 0.0:
        notes.append("every share of the change lowers the reference below its interval, so nothing was kept")
    return share


def _lowest(old: float, n: int) -> float:
    """The lower end of the 95 % interval of a share of n items."""
    return old - Z_95 * float(np.sqrt(max(old * (1 - old), 0.25 / n) / n))


def _figure_of(kind: str) -> str:
    return f"{REFERENCE}, {kind}" if kind else REFERENCE


def _change(curve: dict[float, dict[str, float]], share: float, figure: str) -> dict[str, float]:
    return {"before": curve[0.0][figure], "after": curve[share][figure]}


def _without_reference(figures: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if not name.startswith(REFERENCE)}
