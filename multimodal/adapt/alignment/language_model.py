"""Aligns a language model of transformers, by the trainers of TRL."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import os
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from multimodal.adapt.alignment.preferences import Judge, Preference, best_and_worst, scored
from multimodal.adapt.alignment.report import Alignment, AlignmentReport
from multimodal.core.errors import CheckpointError, InvalidInput, MediaNotFound, MissingExtra

SAMPLED = 8  # outputs of one prompt
LONGEST = 256  # tokens of an output that is written
MAX_WRITTEN = 64  # held-out prompts that are answered for the figures
EXPECTED = (
    "a captioning pipeline on a space ('starter'), 'hf/./folder', the path of a folder that transformers saved, or a "
    "pair (model, tokenizer)"
)


@dataclass(frozen=True)
class LanguageSettings:
    """The options of `align` for a language model; see there."""

    method: str
    beta: float
    likelihood: float
    steps: int
    batch: int
    learning_rate: float
    temperature: float
    held_out: float
    lora: bool
    seed: int


def language_model(value: Any) -> tuple[Any, Any]:
    """(model, tokenizer) of what `align` was given. Raises InvalidInput, MediaNotFound, CheckpointError."""
    if isinstance(value, tuple) and len(value) == 2:
        return value
    backend = getattr(value, "backend", value)
    model, tokenizer = getattr(backend, "model", None), getattr(backend, "tokenizer", None)
    if isinstance(model, torch.nn.Module) and callable(tokenizer):
        return model, tokenizer
    if not isinstance(value, str | os.PathLike):
        raise InvalidInput(f"align takes {EXPECTED}; got {type(value).__name__}")
    folder = Path(os.fspath(value).removeprefix("hf/")).expanduser()
    if not folder.is_dir():
        raise MediaNotFound(
            f"{folder} is no folder; align takes {EXPECTED}: save a model of the Hub to a folder first"
        )
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise MissingExtra("aligning a language model", package="trl", extra="align") from error
    try:
        return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder} holds no language model that transformers opens ({error})"
        ) from error


def align_language_model(
    model: Any,
    tokenizer: Any,
    preferences: Sequence[Preference],
    judge: Judge | None,
    settings: LanguageSettings,
) -> Alignment:
    """Trains a copy of the model; see `align`."""
    started = time.perf_counter()
    try:
        import datasets  # noqa: F401
        import trl  # noqa: F401
    except ImportError as error:
        raise MissingExtra("aligning a language model", package="trl", extra="align") from error
    if tokenizer.pad_token is None:
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.pad_token = tokenizer.eos_token
    notes: list[str] = []
    before = clone(model)
    with _quiet():
        preferences = _completed(before, tokenizer, preferences, judge, settings, notes)
        order = np.random.default_rng(settings.seed).permutation(len(preferences)).tolist()
        count = max(1, round(len(order) * settings.held_out))
        held = [preferences[k] for k in sorted(order[:count])]
        learned = [preferences[k] for k in sorted(order[count:])]
        if not learned:
            raise InvalidInput("every preference is held out; give more, or a smaller held_out=")
        aligned = _train(clone(model), before, tokenizer, learned, judge, settings)
        figures = [_figures(network, tokenizer, held, judge) for network in (before, aligned)]
    report = AlignmentReport(
        method=settings.method,
        n_preferences=len(learned),
        n_held_out=len(held),
        before=figures[0],
        after=figures[1],
        reference=None,
        interpolation=1.0,
        curve={},
        seconds=round(time.perf_counter() - started, 1),
        notes=tuple(notes),
    )

    def write(folder: str | os.PathLike[str]) -> None:
        aligned.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return Alignment((aligned, tokenizer), report, write)


def _train(
    model: Any,
    reference: Any,
    tokenizer: Any,
    preferences: Sequence[Preference],
    judge: Judge | None,
    settings: LanguageSettings,
) -> Any:
    import trl
    from datasets import Dataset
    from transformers import PrinterCallback

    rows = [_row(preference, tokenizer, settings.method) for preference in preferences]
    with tempfile.TemporaryDirectory() as folder:
        common = {
            "output_dir": folder,
            "max_steps": settings.steps,
            "per_device_train_batch_size": settings.batch,
            "learning_rate": settings.learning_rate,
            "seed": settings.seed,
            "save_strategy": "no",
            "report_to": "none",
            "logging_steps": settings.steps,
            "disable_tqdm": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "use_cpu": not torch.cuda.is_available(),
        }
        shared: dict[str, Any] = {
            "model": model.train(),
            "train_dataset": Dataset.from_list(rows),
            "processing_class": tokenizer,
            "peft_config": _lora(settings),
        }
        if settings.method == "dpo":
            losses = ["sigmoid", "sft"] if settings.likelihood else ["sigmoid"]
            arguments = trl.DPOConfig(
                **common, beta=settings.beta, loss_type=losses, loss_weights=[1.0, settings.likelihood][: len(losses)]
            )  # fmt: skip
            # Without a reference TRL would load one by the name in the model's configuration
            trainer = trl.DPOTrainer(args=arguments, ref_model=None if settings.lora else reference, **shared)
        elif settings.method == "grpo":
            trainer = _grpo_trainer(trl, common, shared, preferences, judge, settings)
        else:
            trainer = trl.SFTTrainer(args=trl.SFTConfig(**common), **shared)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        losses_seen = [row["train_loss"] for row in trainer.state.log_history if "train_loss" in row]
        if not all(map(math.isfinite, losses_seen)):
            raise InvalidInput("the loss is not finite, so nothing was changed; lower learning_rate=")
        trained = trainer.model
    if settings.lora:
        trained = trained.merge_and_unload()
    return clone(trained)


def clone(model: Any) -> Any:
    """A copy with the same weights, in evaluation mode.

    TRL replaces the `forward` of a model by one that refers to it, so that `copy.deepcopy` of a trained model would
    compute with the weights of the original.
    """
    copied = type(model)(copy.deepcopy(model.config))
    copied.load_state_dict(model.state_dict())
    copied.generation_config = copy.deepcopy(model.generation_config)
    return copied.to(model.device, model.dtype).eval()


def _grpo_trainer(
    trl: Any,
    common: dict[str, Any],
    shared: dict[str, Any],
    preferences: Sequence[Preference],
    judge: Judge | None,
    settings: LanguageSettings,
) -> Any:
    assert judge is not None  # checked by `align`
    by_prompt = {_text_of(row["prompt"]): preference.input for row, preference in
                 zip(shared["train_dataset"], preferences, strict=True)}  # fmt: skip

    def reward(prompts: list[Any], completions: list[Any], **_: Any) -> list[float]:
        inputs = [by_prompt[_text_of(prompt)] for prompt in prompts]
        return scored(judge, inputs, [_text_of(completion) for completion in completions]).tolist()

    size = SAMPLED * math.ceil(settings.batch / SAMPLED)
    arguments = trl.GRPOConfig(
        **common | {"per_device_train_batch_size": size},
        num_generations=SAMPLED,
        max_completion_length=LONGEST,
        temperature=settings.temperature,
        beta=settings.beta,
    )
    return trl.GRPOTrainer(reward_funcs=reward, args=arguments, **shared)


def _lora(settings: LanguageSettings) -> Any:
    if not settings.lora:
        return None
    from peft import LoraConfig

    return LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")


def _row(preference: Preference, tokenizer: Any, method: str) -> dict[str, Any]:
    """A row of a dataset of TRL: conversations where the model has a chat template, else plain text."""
    prompt = preference.input
    if tokenizer.chat_template is not None:
        prompt = _messages(prompt)

        def output(text: str | None) -> Any:
            return [{"role": "assistant", "content": text}]
    else:

        def output(text: str | None) -> Any:
            return f"{text}{tokenizer.eos_token or ''}"

    if method == "dpo":
        return {
            "prompt": prompt,
            "chosen": output(preference.chosen),
            "rejected": output(preference.rejected),
        }
    if method == "grpo":
        return {"prompt": prompt}
    return {"prompt": prompt, "completion": output(preference.chosen)}


def _messages(prompt: Any) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)


def _text_of(value: Any) -> str:
    """A text, or the last content of a conversation with the others before it."""
    if isinstance(value, str):
        return value
    return "\n".join(str(message["content"]) for message in value)


def prompt_text(tokenizer: Any, prompt: Any) -> str:
    """The prompt as the model reads it, up to where its output begins."""
    if tokenizer.chat_template is None:
        if not isinstance(prompt, str):
            raise InvalidInput("a prompt of messages needs a tokenizer with a chat template; give a text")
        return prompt
    text: str = tokenizer.apply_chat_template(_messages(prompt), tokenize=False, add_generation_prompt=True)
    return text


def write(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Any],
    *,
    temperature: float = 0.0,
    seed: int = 0,
    longest: int = LONGEST,
) -> list[str]:
    """The output of a language model for each prompt: greedy, or sampled if `temperature` is above 0."""
    texts = [prompt_text(tokenizer, prompt) for prompt in prompts]
    side, tokenizer.padding_side = tokenizer.padding_side, "left"
    try:
        inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(
            model.device
        )
    finally:
        tokenizer.padding_side = side
    inputs.pop("token_type_ids", None)
    options: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        options = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(seed)
        rows = model.generate(
            **inputs, max_new_tokens=longest, pad_token_id=tokenizer.pad_token_id, **options
        )
    new = rows[:, inputs["input_ids"].shape[1] :]
    return [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]


def _completed(
    model: Any,
    tokenizer: Any,
    preferences: Sequence[Preference],
    judge: Judge | None,
    settings: LanguageSettings,
    notes: list[str],
) -> list[Preference]:
    """The preferences, where needed chosen by the judge among samples of the model."""
    is_open = any(preference.chosen is None for preference in preferences)
    if settings.method == "grpo" or (not is_open and settings.method != "best-of-n"):
        return list(preferences)
    assert judge is not None  # checked by `align`
    inputs = [preference.input for preference in preferences]
    drawn = [
        write(model, tokenizer, inputs, temperature=settings.temperature, seed=settings.seed + turn)
        for turn in range(SAMPLED)
    ]
    made = best_and_worst(inputs, list(zip(*drawn, strict=True)), judge)
    if len(made) < len(inputs):
        notes.append(
            f"{len(inputs) - len(made):,} of {len(inputs):,} prompts were left out: their samples are the same"
        )
    if len(made) < 2:
        raise InvalidInput(
            f"the judge finds a better and a worse output for {len(made)} of {len(inputs)} prompts only; give more "
            "prompts, or a higher temperature="
        )
    return made


def _figures(
    model: Any, tokenizer: Any, preferences: Sequence[Preference], judge: Judge | None
) -> dict[str, float]:
    """See `AlignmentReport.before`."""
    figures: dict[str, float] = {}
    if all(preference.chosen is not None for preference in preferences):
        better = [_log_probs(model, tokenizer, p.input, str(p.chosen)) for p in preferences]
        figures["chosen log-probability"] = float(np.mean([sum(row) / len(row) for row in better]))
        if all(preference.rejected is not None for preference in preferences):
            worse = [_log_probs(model, tokenizer, p.input, str(p.rejected)) for p in preferences]
            pairs = zip(better, worse, strict=True)
            figures["preferred"] = float(np.mean([sum(good) > sum(bad) for good, bad in pairs]))
    asked = preferences[:MAX_WRITTEN]
    written = write(model, tokenizer, [preference.input for preference in asked])
    if asked[0].chosen is not None:
        chosen = [str(preference.chosen).strip() for preference in asked]
        figures["exact"] = float(np.mean([a == b for a, b in zip(written, chosen, strict=True)]))
    if judge is not None:
        inputs = [preference.input for preference in asked]
        figures["reward"] = float(scored(judge, inputs, written).mean())
    return figures


def _log_probs(model: Any, tokenizer: Any, prompt: Any, output: str) -> list[float]:
    """The log-probability of each token of an output."""
    before = tokenizer(prompt_text(tokenizer, prompt), add_special_tokens=False)["input_ids"]
    after = tokenizer(output + (tokenizer.eos_token or ""), add_special_tokens=False)["input_ids"]
    ids = torch.tensor([before + after], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0, len(before) - 1 : -1].float()
    chosen = torch.log_softmax(logits, dim=-1).gather(1, ids[0, len(before) :, None])[:, 0]
    values: list[float] = chosen.tolist()
    return values


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the advice and the bars of TRL and its libraries, which concern their own command lines."""
    import datasets

    names = ("transformers", "trl", "accelerate", "datasets", "peft")
    loggers = [logging.getLogger(name) for name in names]
    levels, bars = [logger.level for logger in loggers], datasets.are_progress_bars_disabled()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if not bars:
            datasets.enable_progress_bars()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
