"""Music generation with MusicGen of transformers; samples are identical to upstream's after `torch.manual_seed`."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any

from multimodal.core.backends.runtime import Runtime
from multimodal.core.errors import CheckpointError, EncoderError, InvalidInput
from multimodal.core.hub.source import Source
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.encoders.hf.checkpoint import quiet, require_transformers, short
from multimodal.pipelines.generation.options import (
    GenerationOptions,
    GenerationOutput,
    GenerationRequest,
    StepProgress,
    explain_out_of_memory,
)

KINDS = ("musicgen", "musicgen_melody")
OPTIONS = frozenset({"seconds", "guidance", "truncate"})
GENERATION = "generation_config.json"


class MusicGenBackend:
    """`model` is the transformers model. Prompts may have any length."""

    output_modality = Modality.AUDIO
    supported_options = OPTIONS | {"prompt"}
    dim: int | None = None
    space: Space | None = None

    def __init__(self, name: str, model: Any, tokenizer: Any) -> None:
        self.name, self.model, self.tokenizer, self.model_class = name, model, tokenizer, type(model).__name__
        config = model.config
        self.rate_hz = int(config.audio_encoder.sampling_rate)
        self.tokens_hz = float(config.audio_encoder.frame_rate)
        self.n_books = int(config.decoder.num_codebooks)
        self.most = int(config.decoder.max_position_embeddings)
        self._busy = threading.Lock()  # sampling uses torch's global generator

    def to(self, device: Any) -> None:
        self.model.to(device)

    def check(self, requests: Sequence[GenerationRequest], options: GenerationOptions) -> None:
        """See GenerationBackend."""
        refused = sorted(options.specified() - OPTIONS)
        for request in requests:
            refused += [name for name in ("image", "vector") if getattr(request, name) is not None]
        if refused:
            raise InvalidInput(
                f"{self.name!r} is a {self.model_class}, which takes no {', '.join(dict.fromkeys(refused))}; it "
                f"takes a prompt, {', '.join(sorted(OPTIONS))}"
            )
        if options.seconds is not None and self._tokens(options.seconds) > self.most:
            raise InvalidInput(
                f"{self.name!r} generates at most {(self.most - self.n_books + 1) / self.tokens_hz:.1f} seconds, got "
                f"{options.seconds}: ask for less, or generate several pieces"
            )

    def generate(
        self, requests: Sequence[GenerationRequest], options: GenerationOptions, progress: StepProgress
    ) -> list[GenerationOutput]:
        """See GenerationBackend. Requests run in sequence: a batch would share one random generator."""
        with self._busy, explain_out_of_memory(self, 1), quiet():
            return [self._generate(request, options, progress) for request in requests]

    def _generate(
        self, request: GenerationRequest, options: GenerationOptions, progress: StepProgress
    ) -> GenerationOutput:
        import torch
        import transformers

        device = self.model.device
        tokens = self.tokenizer([request.prompt], padding=True, return_tensors="pt").to(device)
        options_given: dict[str, Any] = {}
        total = int(self.model.generation_config.max_length or self.most)
        if options.seconds is not None:
            total = options_given["max_new_tokens"] = self._tokens(options.seconds)
        if options.guidance is not None:
            options_given["guidance_scale"] = float(options.guidance)
        stops = transformers.StoppingCriteriaList([_ProgressReporter(progress, total)])  # type: ignore[list-item]
        with (
            torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=_kind(device)),
            torch.inference_mode(),
        ):
            torch.manual_seed(request.seed)
            output = self.model.generate(**tokens, **options_given, stopping_criteria=stops)
        samples = output[0].float().cpu().numpy().T  # (channels, n) -> (n, channels)
        if not math.isfinite(float(abs(samples).sum())):
            raise EncoderError(
                f"{self.name!r} produced non-finite values: give precision='float32' to from_pretrained"
            )
        if options.seconds is not None:
            samples = samples[: max(round(options.seconds * self.rate_hz), 1)]
        guidance = (
            self.model.generation_config.guidance_scale if options.guidance is None else options.guidance
        )
        return GenerationOutput(
            samples=samples[:, 0] if samples.shape[1] == 1 else samples,
            rate_hz=self.rate_hz,
            guidance=guidance,
        )

    def _tokens(self, seconds: float) -> int:
        """Decoding steps for a duration; the codebooks are delayed by one step each, which adds n_books - 1."""
        return math.ceil(seconds * self.tokens_hz) + self.n_books - 1


class _ProgressReporter:
    """A stopping criterion that reports progress after each token and never stops."""

    def __init__(self, progress: StepProgress, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self, input_ids: Any, scores: Any, **more: Any) -> Any:
        import torch

        self.done += 1
        self.progress(min(self.done, self.total), self.total)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def read(source: Source, runtime: Runtime) -> MusicGenBackend:
    """Loads the model on its device.

    Raises UnknownModel, DownloadError, MissingExtra; CheckpointError for another type of model or mismatched weights.
    """
    require_transformers()
    import transformers

    kind = source.config()["model_type"]
    if kind not in KINDS:
        raise CheckpointError(
            f"{source.name!r} is of type {kind!r}; of transformers' models only MusicGen generates here; for images "
            "use a diffusers checkpoint: 'diffusers/…'"
        )
    folder = source.settings()
    name = (
        "MusicgenForConditionalGeneration" if kind == "musicgen" else "MusicgenMelodyForConditionalGeneration"
    )
    cls = getattr(transformers, name)
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model, loading_info = cls.from_pretrained(
                None,
                config=config,
                state_dict=source.tensors(),
                dtype=runtime.dtype,
                output_loading_info=True,
            )
            generation = source.files([GENERATION])
            if generation:
                model.generation_config = transformers.GenerationConfig.from_pretrained(
                    folder, local_files_only=True
                )
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"transformers cannot load {source.name!r} as a {name}: {short(error)}; fetch or copy it again"
        ) from error
    if loading_info["missing_keys"]:
        missing = sorted(loading_info["missing_keys"])
        raise CheckpointError(
            f"{source.name!r} lacks {len(missing)} weights of its {name} ({missing[0]}, …); it is incomplete or of "
            "another model"
        )
    return MusicGenBackend(
        source.name, model.eval().requires_grad_(False).to(runtime.torch_device), tokenizer
    )


def _kind(device: Any) -> str:
    return "cuda" if device.type == "cpu" else str(device.type)
