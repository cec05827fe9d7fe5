"""Moderation of questions and drafts: a function, a classifier of transformers, or a remote moderation endpoint.

None is used by default. A moderation that fails raises: a text that could not be checked is not shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from multimodal.core.backends.runtime import Runtime
from multimodal.core.errors import AnswerError, CheckpointError, InvalidInput
from multimodal.pipelines.answering.addresses import is_remote, parse_address, refuse_offline

Moderate = Callable[[str], str | None]

SAFE_LABELS = frozenset(
    ("safe", "ok", "neutral", "normal", "acceptable", "benign", "clean", "none", "non-toxic", "not toxic", "nontoxic",
     "non_toxic", "not_toxic", "no-hate", "nothate", "not hate", "non-offensive", "legit", "not_injection")
)  # fmt: skip
THRESHOLD = 0.5  # probability of an unsafe label
DEFAULT_LENGTH = 512  # tokens of a window, where the classifier states none


def load_safety(safety: Any, runtime: Runtime, *, offline: bool, timeout_s: float) -> Moderate | None:
    """The moderation by its address, as a function: text -> the category that is not allowed, or None.

    Args:
        safety: None, a function, "hf/<owner>/<name>", "openai/<model>" or "https://server/v1#<model>".
        runtime: How a local classifier runs.
        offline: Refuses a remote endpoint, and downloads nothing.
        timeout_s: Seconds to wait for a remote endpoint.

    Raises:
        InvalidInput: `safety` is none of these.
        CheckpointError: The checkpoint is no classifier, or its labels have no names.
    """
    if safety is None:
        return None
    if callable(safety):
        return lambda text: _category(safety(text))
    if isinstance(safety, str) and safety.startswith("hf/"):
        return _classifier(safety, runtime, offline)
    if isinstance(safety, str) and is_remote(safety) and not safety.startswith("anthropic/"):
        return _endpoint(safety, offline, timeout_s)
    raise InvalidInput(
        f"safety must be a function of a text, 'hf/<owner>/<name>', 'openai/<model>' or 'https://server/v1#<model>', "
        f"got {safety!r}"
    )


def _category(verdict: Any) -> str | None:
    """What a function returned: a category or True for what is not allowed; None, False or "" for the rest."""
    return (verdict if isinstance(verdict, str) else "unsafe") if verdict else None


def _endpoint(address: str, offline: bool, timeout_s: float) -> Moderate:
    from multimodal.pipelines.answering.backends.openai_chat import openai_client
    from multimodal.pipelines.answering.backends.remote import require_sdk, translated, unusable

    remote = parse_address(address)
    if offline:
        refuse_offline(remote)
    require_sdk("openai", address)
    key = remote.key()
    client = openai_client(remote, key, timeout_s)

    def moderate(text: str) -> str | None:
        import openai

        try:
            response = client.moderations.create(model=remote.model, input=text)
        except Exception as error:
            failure = translated(openai, remote, error, key)
            raise failure if isinstance(failure, AnswerError) else AnswerError(str(failure)) from error
        try:
            result = response.results[0]
            flagged, categories = bool(result.flagged), result.categories.model_dump()
        except (AttributeError, IndexError, TypeError):
            raise unusable(remote, response) from None
        return next((name for name, is_set in categories.items() if is_set), "unsafe") if flagged else None

    return moderate


def _classifier(address: str, runtime: Runtime, offline: bool) -> Moderate:
    import torch
    from transformers import AutoTokenizer
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    from multimodal.core.hub.source import source_of
    from multimodal.encoders.hf import generative
    from multimodal.encoders.hf.cards import CARDS
    from multimodal.encoders.hf.checkpoint import quiet, require_transformers

    require_transformers()
    source = source_of(
        address.removeprefix("hf/"), revision=None, offline=offline, with_code=False, cards=CARDS
    )
    folder = generative.folder_with_templates(source)
    config = generative.read_config(source, folder)
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise CheckpointError(f"{address!r} is of type {config.model_type!r}, which classifies no text")
    labels = [str(config.id2label[number]).lower() for number in range(config.num_labels)]
    if all(label.startswith("label_") for label in labels):
        raise CheckpointError(
            f"the labels of {address!r} have no names, so that nothing says which is unsafe: name them in id2label of "
            "its config.json, 'safe' among them"
        )
    cls = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    model = generative.load_model(source, cls, config, runtime, folder)
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    is_multi_label = getattr(config, "problem_type", None) == "multi_label_classification"
    longest = min(tokenizer.model_max_length, generative.context_length(config) or DEFAULT_LENGTH)
    window = {"truncation": True, "max_length": longest, "stride": longest // 8, "padding": True}

    def moderate(text: str) -> str | None:
        """Every window of the text is checked: what is not allowed may stand at its end."""
        inputs = tokenizer([text or " "], return_tensors="pt", return_overflowing_tokens=True, **window)
        inputs.pop("overflow_to_sample_mapping", None)
        with torch.inference_mode():
            logits = model(**inputs.to(model.device)).logits.float()
        chances = (logits.sigmoid() if is_multi_label else logits.softmax(-1)).tolist()
        return next(filter(None, (_worst(row, labels, is_multi_label) for row in chances)), None)

    return moderate


def _worst(chances: Sequence[float], labels: Sequence[str], is_multi_label: bool) -> str | None:
    """The most probable label that is not safe, if the text is unsafe by its probabilities."""
    unsafe = [pair for pair in zip(chances, labels, strict=True) if pair[1] not in SAFE_LABELS]
    worst = max(unsafe, default=(0.0, ""))
    chance = worst[0] if is_multi_label else sum(pair[0] for pair in unsafe)
    return worst[1] if chance >= THRESHOLD else None
