"""The folder of files that ship with the package."""

from __future__ import annotations

from pathlib import Path

from multimodal.core.errors import MultimodalError


def assets() -> Path:
    """The folder with the shipped weights and the gallery: in a checkout, an editable install or a wheel alike.

    Raises MultimodalError if the installation lacks it.
    """
    package = Path(__file__).resolve().parent.parent
    # In a checkout multimodal/assets is a link to ../assets; where links are not supported the real one is beside.
    for folder in (package / "assets", package.parent / "assets"):
        if folder.is_dir():
            return folder.resolve()
    raise MultimodalError(f"the folder 'assets' is missing from {package}; reinstall multimodal")
