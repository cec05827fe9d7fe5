"""align(pipeline, preferences): makes a decoder write what is preferred, and measures what it forgets."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from multimodal.adapt.alignment.preferences import as_judge, read_preferences
from multimodal.adapt.alignment.report import Alignment
from multimodal.core.checks import positive_number, whole_number
from multimodal.core.checks import seed as check_seed
from multimodal.core.errors import InvalidInput

Method = Literal["dpo", "sft", "grpo", "best-of-n"]
# By method: the step of a language model of a hundred million parameters or more is smaller than a small decoder's
CAPTIONER_RATE, LANGUAGE_RATE = 3e-4, 5e-5


def align(
    pipeline: Any,
    preferences: Any,
    *,
    method: Method = "dpo",
    judge: Any = None,
    replay: Any = (),
    replay_share: float = 1.0,
    interpolate: float | Literal["auto"] = "auto",
    beta: float = 0.2,
    likelihood: float = 1.0,
    steps: int = 200,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    temperature: float = 1.0,
    held_out: float = 0.1,
    lora: bool = False,
    seed: int = 0,
) -> Alignment:
    """Aligns a decoder with preferences. What is given stays unchanged; the result has the new weights.

    A captioner on the vectors of a space (the starter's) is trained by a loop of this package, a language model of
    transformers by TRL (extra `align`).

    Args:
        pipeline: A captioning pipeline on a space; or a language model: "hf/./folder", the path of a folder that
            transformers saved, a pair (model, tokenizer), or a pipeline whose backend has both.
        preferences: (input, chosen, rejected), mappings with these keys, or a .csv or .jsonl file of such rows; for
            "sft" without rejected; for "grpo", "best-of-n" and with `judge` inputs alone. Inputs of a captioner are
            items or vectors, those of a language model prompts: texts, or lists of {"role", "content"} messages.
        method: "sft" (likelihood of the chosen), "dpo" (preference of the chosen over the rejected, plus its
            likelihood), "best-of-n" (the best of eight samples by the judge, then sft), or "grpo" (reinforcement by the
            judge's score).
        judge: What is better: a space or a pipeline on one (cosine of input and output), or a function (inputs,
            outputs) -> scores. Where preferences have no chosen output, the best and worst of eight samples are taken.
        replay: For a captioner, against forgetting: inputs of the kind it must still caption as before, or (input,
            caption) pairs; or a mapping of such lists by kind ("speech", "photos"): each is drawn equally often and
            must keep its figure. The share `held_out` of each is held out and measured.
        replay_share: Replayed items per preference in a batch, all kinds together.
        interpolate: For a captioner: the share of the change to keep, 0 to 1; "auto" keeps the largest whose held-out
            replay, of every kind, stays within the 95 % interval of before.
        beta: How strongly the reference holds the model: the β of DPO, the divergence's weight of GRPO.
        likelihood: The weight of the chosen output's likelihood in DPO; 0 is plain DPO, which destroys small decoders.
        steps: Optimiser steps.
        batch_size: Preferences per step. Default: 64, or 8 of a language model.
        learning_rate: The first; it falls linearly. Default: 3e-4, or 5e-5 of a language model.
        temperature: Of samples.
        held_out: The share of preferences for the figures of the report.
        lora: For a language model: trains a LoRA adapter and merges it; less memory.
        seed: Of all random choices.

    Returns:
        The aligned pipeline and a report.

    Raises:
        InvalidInput: Preferences that lack what the method needs, an invalid option, a model that cannot be aligned,
            or a loss that is not finite.
        MediaNotFound: A file or folder that does not exist.
        MissingExtra: A language model without TRL.
    """
    _check(method, judge, interpolate, held_out, temperature)
    n_steps, size = whole_number(steps, "steps"), batch_size and whole_number(batch_size, "batch_size")
    if learning_rate is not None:
        learning_rate = positive_number(learning_rate, "learning_rate")
    needs = _needs(method, judge)
    pairs = read_preferences(preferences, needs=needs)
    if len(pairs) < 2:
        raise InvalidInput("one preference is given, and one is held out for the report; give at least two")
    scorer = None if judge is None else as_judge(judge)
    trainable = getattr(getattr(pipeline, "backend", None), "trainable", None)
    policy = trainable() if callable(trainable) else None
    if policy is not None:
        from multimodal.adapt.alignment.captioner import Settings, align_captioner

        settings = Settings(
            method=method,
            beta=beta,
            likelihood=likelihood,
            replay_share=replay_share,
            interpolate=None if interpolate == "auto" else float(interpolate),
            steps=n_steps,
            batch=size or 64,
            learning_rate=learning_rate or CAPTIONER_RATE,
            temperature=temperature,
            held_out=held_out,
            seed=check_seed(seed),
        )
        return align_captioner(policy, pairs, _replay(replay), scorer, settings, type(pipeline))
    if _given(replay) or interpolate != "auto":
        raise InvalidInput(
            "replay= and interpolate= are for captioners of a space; leave them out for a language model"
        )
    from multimodal.adapt.alignment.language_model import (
        LanguageSettings,
        align_language_model,
        language_model,
    )

    model, tokenizer = language_model(pipeline)
    options = LanguageSettings(
        method=method,
        beta=beta,
        likelihood=likelihood,
        steps=n_steps,
        batch=size or 8,
        learning_rate=learning_rate or LANGUAGE_RATE,
        temperature=temperature,
        held_out=held_out,
        lora=lora,
        seed=check_seed(seed),
    )
    return align_language_model(model, tokenizer, pairs, scorer, options)


def _check(method: str, judge: Any, interpolate: Any, held_out: float, temperature: float) -> None:
    if method not in get_args(Method):
        raise InvalidInput(f"method must be one of {', '.join(map(repr, get_args(Method)))}, got {method!r}")
    if method in ("grpo", "best-of-n") and judge is None:
        raise InvalidInput(
            f"method={method!r} takes the best of samples, so it needs judge=: a space, a pipeline on one, or a "
            "function (inputs, outputs) -> scores"
        )
    if interpolate != "auto" and not (isinstance(interpolate, int | float) and 0 <= interpolate <= 1):
        raise InvalidInput(f"interpolate must be 'auto' or a share from 0 to 1, got {interpolate!r}")
    if not 0 < held_out < 1:
        raise InvalidInput(f"held_out must be a share between 0 and 1, got {held_out!r}")
    if not temperature > 0:
        raise InvalidInput(f"temperature must be above 0, got {temperature!r}")


def _needs(method: Method, judge: Any) -> Sequence[str]:
    if judge is not None:
        return ()
    return ("chosen", "rejected") if method == "dpo" else ("chosen",)


def _replay(replay: Any) -> dict[str, list[tuple[Any, str | None]]]:
    """(input, caption or None) of each, by kind; a list is of one kind without a name."""
    if isinstance(replay, Mapping):
        return {str(kind): _replay_items(items) for kind, items in replay.items()}
    return {"": _replay_items(replay)}


def _replay_items(items: Any) -> list[tuple[Any, str | None]]:
    expected = "replay must be a list of inputs or of (input, caption), or a mapping of such lists by kind"
    if isinstance(items, str | os.PathLike):
        raise InvalidInput(f"{expected}, got the path {Path(items)}")
    if isinstance(items, Mapping) or not isinstance(items, Iterable):
        raise InvalidInput(f"{expected}, got {type(items).__name__}")
    return [
        (value[0], value[1])
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], str)
        else (value, None)
        for value in items
    ]


def _given(replay: Any) -> bool:
    return not (isinstance(replay, tuple) and not replay)
