"""Adapters of PEFT on the encoders of a space: their folders, and how `load(name, adapter=…)` applies them.

A folder is PEFT's own (adapter_config.json and adapter_model.safetensors), so PEFT loads it too. Beside these,
multimodal.json records the modality, and the fingerprint of the encoder that the adapter was trained on: PEFT itself
puts an adapter on any model of the right shape. An adapter of several modalities has one such folder for each. Adapters
are merged into the weights when they are applied: nothing slows down, the space can be saved, and its fingerprint
differs from the base's.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import CorruptSpace, InvalidInput, MissingExtra, SpaceMismatch, UnknownModel
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    from torch import nn

    from multimodal.core.encoder import Encoder
    from multimodal.core.space import Space

PEFT_CONFIG, PEFT_WEIGHTS, METADATA = "adapter_config.json", "adapter_model.safetensors", "multimodal.json"
FORMAT = 1


@dataclass(frozen=True)
class AdapterMetadata:
    """What multimodal.json records of an adapter.

    Attributes:
        modality: The modality of its encoder; an empty string for the model of a pipeline.
        base: Fingerprint of the encoder that it was trained on.
        base_name: The name of that space, for messages.
        adapted: Fingerprint of the encoder with the adapter merged.
        format: Version of this file.
    """

    modality: str
    base: str
    base_name: str
    adapted: str
    format: int = FORMAT


def require_peft(feature: str) -> None:
    """Raises MissingExtra if PEFT is not installed."""
    if importlib.util.find_spec("peft") is None:
        raise MissingExtra(feature, package="peft", extra="train")


@contextlib.contextmanager
def quiet_peft() -> Iterator[None]:
    """Silences the advice of PEFT: most of it is about models of transformers, and it uses names they deprecated."""
    with warnings.catch_warnings():
        for category in (UserWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        yield


def apply_adapters(
    space: Space, adapter: object, *, weights: Sequence[float] | None = None, check_base: bool = True
) -> Space:
    """Merges one or more adapters into copies of a space's encoders.

    Args:
        space: The space, which is not changed.
        adapter: A folder, a list of folders (their changes add up), or `{modality: folder}` for adapters that PEFT
            saved without multimodal.json.
        weights: A factor of each adapter's change, in the order of the list; 1 by default, 0 leaves an adapter out.
        check_base: Whether to refuse adapters of other encoders.

    Returns:
        The space with the adapters. Its fingerprint differs from that of `space`.

    Raises:
        UnknownModel: If a folder holds no adapter.
        SpaceMismatch: If an adapter was trained on another encoder; the message has both fingerprints.
        MissingExtra: If PEFT is not installed.
    """
    from multimodal.core.space import Space as SpaceClass

    require_peft("loading an adapter")
    folders = _folders(adapter)
    if weights is not None and len(weights) != len(folders):
        raise InvalidInput(f"got {len(weights)} weights for {len(folders)} adapters; give one for each")
    encoders = dict(space.encoders)
    for position, (modality, folder) in enumerate(folders):
        weight = 1.0 if weights is None else float(weights[position])
        for part, metadata in _parts(folder, modality):
            key = Modality(part)
            base, current = space.encoder_for(key), encoders[key]
            if metadata is not None and check_base:
                _check_base(metadata, {base.fingerprint, current.fingerprint}, folder)
            # An adapter of the base beside others: its own change is added to theirs
            is_of_base = metadata is not None and metadata.base == base.fingerprint != current.fingerprint
            encoders[key] = _merged(
                space, current, base if is_of_base else current, _part_folder(folder, part), weight
            )
    adapted = SpaceClass(
        encoders, space.logit_scales, name=space.name, card=space.card, revisions=space.revisions
    )
    adapted.address, adapted.options = space.address, dict(space.options)
    adapted._reopen = space._reopen
    return adapted


def read_metadata(folder: str | os.PathLike[str]) -> AdapterMetadata | None:
    """multimodal.json of an adapter; None if PEFT alone wrote the folder.

    Raises:
        UnknownModel: If the folder holds no adapter.
        CorruptSpace: If the file is damaged.
    """
    path = Path(folder).expanduser()
    if not (path / PEFT_CONFIG).is_file():
        raise UnknownModel(
            f"{os.fspath(folder)!r} holds no adapter: it has no {PEFT_CONFIG}; multimodal.adapt.finetune(space, data, "
            "out=folder) writes one"
        )
    if not (path / METADATA).is_file():
        return None
    try:
        values = json.loads((path / METADATA).read_text(encoding="utf-8"))
        metadata = AdapterMetadata(**values)
    except (ValueError, TypeError) as error:
        raise CorruptSpace(f"{path / METADATA} is damaged ({error}); copy the adapter again") from error
    if metadata.format > FORMAT:
        raise CorruptSpace(
            f"{path / METADATA} has format {metadata.format}, this version reads up to {FORMAT}: upgrade multimodal"
        )
    return metadata


def write_metadata(folder: Path, metadata: AdapterMetadata) -> None:
    """Writes multimodal.json."""
    (folder / METADATA).write_text(json.dumps(asdict(metadata), indent=2) + "\n", encoding="utf-8")


def split(adapter: object) -> tuple[Any, list[Path]]:
    """Adapters by what they change.

    Args:
        adapter: As of `apply_adapters`; folders of decoders' adapters may be among them.

    Returns:
        (those of the encoders of a space as `apply_adapters` takes them, or None; the folders of those of a decoder).

    Raises:
        UnknownModel: If a folder holds no adapter.
    """
    if isinstance(adapter, Mapping):
        return adapter, []
    folders = [folder for _, folder in _folders(adapter)]
    encoders = [folder for folder in folders if _is_for_encoders(folder)]
    return encoders or None, [folder for folder in folders if folder not in encoders]


def split_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of `load` and `pipeline` for what loads a space, and for what loads a decoder of its own.

    They differ in `adapter`, of which each gets its part; see `split`.
    """
    spaces = {name: value for name, value in options.items() if name != "adapter"}
    decoders = dict(spaces)
    if options.get("adapter") is not None:
        of_spaces, of_decoders = split(options["adapter"])
        spaces |= {} if of_spaces is None else {"adapter": of_spaces}
        decoders |= {"adapter": of_decoders} if of_decoders else {}
    return spaces, decoders


def absolute_folders(adapter: Any) -> Any:
    """Folders of adapters that mean the same from another working directory, as JSON values."""
    if isinstance(adapter, Mapping):
        return {str(key): absolute_folders(folder) for key, folder in adapter.items()}
    if isinstance(adapter, list | tuple):
        return [absolute_folders(folder) for folder in adapter]
    return str(Path(adapter).expanduser().absolute())


def _is_for_encoders(folder: Path) -> bool:
    if any((folder / str(modality) / PEFT_CONFIG).is_file() for modality in Modality):
        return True
    metadata = read_metadata(folder)
    return metadata is not None and bool(metadata.modality)


def merge_into(net: nn.Module, folder: Path, weight: float = 1.0, *, onto: nn.Module | None = None) -> Any:
    """A copy of a module with an adapter merged.

    Args:
        net: The module that the adapter was trained on.
        folder: PEFT's folder.
        weight: Factor of the adapter's change.
        onto: The module that gets the change, such as `net` with other adapters. Default: `net`.

    Raises:
        SpaceMismatch: If the adapter does not fit the module.
        CorruptSpace: If its files are damaged.
    """
    from peft import PeftModel
    from safetensors import SafetensorError

    base = copy.deepcopy(net)
    try:
        with quiet_peft():
            merged = PeftModel.from_pretrained(base, str(folder)).merge_and_unload()
    except (ValueError, RuntimeError) as error:
        raise SpaceMismatch(
            f"the adapter in {str(folder)!r} does not fit {type(net).__name__}: {_first_line(error)}; load the model "
            "that it was trained on"
        ) from error
    except (OSError, SafetensorError) as error:
        raise CorruptSpace(
            f"the adapter in {str(folder)!r} cannot be read ({_first_line(error)}); copy it again"
        ) from error
    if weight != 1.0 or onto is not None:
        _move_change(merged, net, net if onto is None else onto, weight)
    return merged.eval().requires_grad_(False)


def _move_change(merged: nn.Module, base: nn.Module, onto: nn.Module, weight: float) -> None:
    """Sets a merged module to `onto` with a multiple of the change from `base`, in place."""
    import torch

    before, current = base.state_dict(), onto.state_dict()
    with torch.no_grad():
        for name, value in merged.state_dict().items():
            if value.is_floating_point():
                value.copy_(current[name] + weight * (value - before[name]))


def _merged(space: Space, encoder: Encoder, base: Encoder, folder: Path, weight: float) -> Encoder:
    """The encoder with an adapter that was trained on `base`."""
    if encoder.runtime.engine != "torch":
        raise InvalidInput(
            f"an adapter is merged by torch, and the {encoder.modality} encoder of {space.name!r} runs by "
            f"{encoder.runtime.engine}; save the adapted space, and load that with engine="
        )
    onto = None if base is encoder else encoder.net
    return with_merged(encoder, merge_into(base.net, folder, weight, onto=onto))


def with_merged(encoder: Encoder, net: nn.Module) -> Encoder:
    """An encoder with the network into which an adapter was merged; it remembers its base for decoders."""
    adapted = encoder.with_network(net)
    adapted.adapted_from = encoder.decoder_fingerprints
    return adapted


def _check_base(metadata: AdapterMetadata, fingerprints: set[str], folder: Path) -> None:
    if metadata.base not in fingerprints:
        known = " or ".join(sorted(fingerprint[:12] for fingerprint in fingerprints))
        raise SpaceMismatch(
            f"the adapter in {str(folder)!r} was trained on the {metadata.modality} encoder of {metadata.base_name!r} "
            f"with the fingerprint {metadata.base[:12]}, and this one has {known}: load the space that it was trained "
            "on, or train it again"
        )


def _folders(adapter: object) -> list[tuple[str, Path]]:
    """(modality or "", folder) of each adapter."""
    if isinstance(adapter, Mapping):
        return [(str(Modality(modality)), Path(folder).expanduser()) for modality, folder in adapter.items()]
    listed = adapter if isinstance(adapter, list | tuple) else [adapter]
    folders = []
    for folder in listed:
        if not isinstance(folder, str | os.PathLike):
            raise InvalidInput(
                f"adapter must be a folder, a list of folders or {{modality: folder}}, got {type(folder).__name__}"
            )
        folders.append(("", Path(folder).expanduser()))
    return folders


def _parts(folder: Path, modality: str) -> list[tuple[str, AdapterMetadata | None]]:
    """(modality, metadata) of each adapter below a folder."""
    if modality:
        return [(modality, read_metadata(_part_folder(folder, modality)))]
    below = [str(part) for part in Modality if (folder / str(part) / PEFT_CONFIG).is_file()]
    if below:
        return [(part, read_metadata(folder / part)) for part in below]
    metadata = read_metadata(folder)
    if metadata is not None and not metadata.modality:
        raise InvalidInput(
            f"the adapter in {str(folder)!r} was trained on the decoder of {metadata.base_name!r}, not on a space: "
            "give it to pipeline(task, model=…, adapter=…)"
        )
    if metadata is None:
        raise InvalidInput(
            f"the adapter in {str(folder)!r} does not say which encoder it is for: give adapter={{'image': folder}}"
        )
    return [(metadata.modality, metadata)]


def _part_folder(folder: Path, modality: str) -> Path:
    below = folder / modality
    return below if (below / PEFT_CONFIG).is_file() else folder


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
