"""Writes the result of a fine-tuning: adapters in PEFT's format, or a whole space."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from multimodal.core.adapters import AdapterMetadata
from multimodal.core.catalog import reload
from multimodal.core.modality import Modality
from multimodal.core.space import Space

if TYPE_CHECKING:
    from multimodal.adapt.finetuning.towers import Tower


def write_adapters(out: Path, base: Space, adapted: Space, towers: Mapping[Modality, Tower]) -> int:
    """Writes one adapter into `out`, or one for each modality below it.

    Args:
        out: The folder.
        base: The space that was trained.
        adapted: The space with the adapters merged; it learns how to be loaded again.
        towers: The trained towers.

    Returns:
        The size of the adapters in bytes.
    """
    size = 0
    for modality, tower in towers.items():
        folder = out if len(towers) == 1 else out / str(modality)
        folder.mkdir(parents=True, exist_ok=True)
        metadata = AdapterMetadata(
            modality=str(modality),
            base=base.encoders[modality].fingerprint,
            base_name=base.address or base.name,
            adapted=adapted.encoders[modality].fingerprint,
        )
        tower.save_adapter(folder, metadata)
        size += sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    if base.address is not None and "adapter" not in base.options:
        adapted.address = base.address
        adapted.options = dict(base.options) | {"adapter": str(out.resolve())}
        adapted._reopen = reload
    return size


def write_space(out: Path, adapted: Space) -> None:
    """Writes the whole space, for `load(out)`."""
    adapted.save_pretrained(out)
    adapted.address = str(out.resolve())
