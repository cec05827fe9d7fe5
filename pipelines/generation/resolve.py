"""Resolves the name of a generation model to its backend."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from multimodal.core.backends.runtime import Runtime
from multimodal.core.catalog import close_matches, load, parse_model_name
from multimodal.core.errors import CheckpointError, InvalidInput, UnknownModel
from multimodal.core.paths import assets
from multimodal.core.space import Space
from multimodal.pipelines.generation.options import GenerationBackend

KNOWN = (
    "diffusers/stable-diffusion-v1-5/stable-diffusion-v1-5", "diffusers/stabilityai/sdxl-turbo",
    "diffusers/stabilityai/stable-diffusion-xl-base-1.0", "diffusers/stabilityai/stable-diffusion-3.5-medium",
    "diffusers/black-forest-labs/FLUX.1-schnell", "diffusers/PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
    "diffusers/Efficient-Large-Model/Sana_600M_512px_diffusers", "diffusers/stabilityai/stable-diffusion-2-1-unclip",
    "diffusers/kandinsky-community/kandinsky-2-2-decoder", "diffusers/cvssp/audioldm2",
    "diffusers/stabilityai/stable-audio-open-1.0", "hf/facebook/musicgen-small",
)  # fmt: skip
ACCEPTED = (
    f"write 'starter', 'diffusers/<owner>/<name>' (as in {KNOWN[1]!r}), 'hf/facebook/musicgen-small', or a folder as "
    "'./my-model'"
)


@dataclass(frozen=True)
class LoadOptions:
    """The options of loading that only checkpoints of diffusers support; see `GenerationPipeline.from_pretrained`."""

    variant: str | None = None
    prior: str | None = None
    ip_adapter: str | None = None
    vector_length: float | None = None
    offload: bool = False

    def __post_init__(self) -> None:
        length = self.vector_length
        number = isinstance(length, int | float) and not isinstance(length, bool) and math.isfinite(length)
        if length is not None and not (number and length > 0):
            raise InvalidInput(f"vector_length must be a number above 0, got {length!r}")


def resolve_backend(
    name: str, runtime: Runtime, revision: str | None, offline: bool, load_options: LoadOptions
) -> GenerationBackend:
    """Loads the model onto its device. Raises what `GenerationPipeline.from_pretrained` raises."""
    if name == "starter":
        return space_backend(load(name), load_options)
    library, rest = _split(name)
    if library == "diffusers":
        with warnings.catch_warnings():  # importing diffusers triggers deprecation warnings of torch
            warnings.simplefilter("ignore")
            return _diffusers(rest, name, runtime, revision, offline, load_options)
    _refuse_options(name, load_options)
    from multimodal.core.hub.source import source_of
    from multimodal.encoders.hf.cards import CARDS
    from multimodal.pipelines.generation.backends import musicgen as musicgen

    source = source_of(rest, revision=revision, offline=offline, with_code=False, cards=CARDS)
    return musicgen.read(replace(source, name=name), runtime)


def space_backend(space: Space, load_options: LoadOptions, decoder: Path | None = None) -> GenerationBackend:
    """The decoder in a folder, or the one that ships, on the vectors of a space.

    Raises SpaceMismatch if it was trained for another space, CorruptSpace if it cannot be read.
    """
    from multimodal.pipelines.generation.backends.space import SpaceGenerationBackend

    _refuse_options(space.name, load_options)
    return SpaceGenerationBackend(space, decoder or assets() / "starter" / "decoders" / "draw")


def _refuse_options(name: str, load_options: LoadOptions) -> None:
    given = [
        option.name for option in fields(load_options) if getattr(load_options, option.name) != option.default
    ]
    if given:
        raise InvalidInput(f"{name!r} is not a checkpoint of diffusers and takes no {', '.join(given)}")


def _split(name: str) -> tuple[str, str]:
    """("diffusers" or "hf", the rest of the name). Raises UnknownModel with close matches."""
    library, rest, folder = parse_model_name(name)
    if not library and folder is not None:
        if not folder.is_dir():
            raise UnknownModel(f"{name!r} names the folder {str(folder)!r}, which does not exist")
        return "hf" if (folder / "config.json").is_file() else "diffusers", name
    if library in ("diffusers", "hf"):
        return library, rest
    hint = close_matches(name, ("starter", *KNOWN)) or close_matches(
        name, [known.rpartition("/")[2] for known in KNOWN]
    )
    raise UnknownModel(f"no generation model is called {name!r}; {hint}{ACCEPTED}")


def _diffusers(
    rest: str, name: str, runtime: Runtime, revision: str | None, offline: bool, load_options: LoadOptions
) -> GenerationBackend:
    from multimodal.pipelines.generation.backends import diffusers_checkpoint as checkpoints

    more: dict[str, Any] = {"offline": offline, "variant": load_options.variant}
    source = checkpoints.source_of(rest, name=name, revision=revision, **more)
    from multimodal.pipelines.generation.backends import diffusers_load as loading
    from multimodal.pipelines.generation.backends.diffusers import DiffusersBackend
    from multimodal.pipelines.generation.backends.signature import call_signature, check_use, needs_vector

    check_use(name, source.pipeline_class())
    pipe = loading.read(source, runtime, place=not load_options.offload)
    prior = load_options.prior or (source.prior() if needs_vector(call_signature(pipe)) else None)
    if prior is not None:
        library, location = _split(prior)
        if library != "diffusers":
            raise CheckpointError(
                f"prior={prior!r} is not a checkpoint of diffusers: write 'diffusers/<owner>/<name>'"
            )
        prior_source = checkpoints.source_of(location, name=prior, revision=None, **more)
        pipe = loading.join_prior(pipe, loading.read(prior_source, runtime, place=not load_options.offload))
    if load_options.ip_adapter is not None:
        loading.add_adapter(pipe, load_options.ip_adapter, offline)
    if load_options.offload:
        loading.offload(pipe)
    return DiffusersBackend(name, pipe, load_options.vector_length)
