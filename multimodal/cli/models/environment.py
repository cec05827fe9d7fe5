"""What `multimodal doctor` looks at when no model is named: is everything here that the package stands on?

Only looks: nothing is created, downloaded or changed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

EXTRAS = {
    "openclip": "open_clip_torch",
    "hf": "transformers",
    "st": "sentence-transformers",
    "diffusion": "diffusers",
    "offload": "accelerate",
    "vad": "silero-vad",
    "faster": "faster-whisper",
    "heic": "pillow-heif",
    "av": "av",
    "map": "umap-learn",
    "openvino": "openvino",
}
PACKAGES = ("torch", "torchaudio", "numpy", "pillow", "soundfile", "lancedb", "tokenizers", "safetensors")
PICTURES = ("jpg", "zlib", "webp", "avif", "libtiff", "jpg_2000")  # as Pillow calls them; zlib is PNG
SOUNDS = ("WAV", "FLAC", "OGG", "MP3")
CODECS = ("h264", "hevc", "vp9", "av1", "mpeg4", "aac", "opus")
LITTLE_ROOM = 5e9  # bytes; a large model is 2 to 10 GB


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ok: None if it may be missing. found: what is here. cure: what to do if it is not well."""

    name: str
    ok: bool | None
    found: str
    cure: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def findings() -> Iterator[Finding]:
    """Everything, one by one, in order of importance. What a look itself raises becomes a finding too."""
    for name in PACKAGES:
        yield _package(name)
    for name, look in LOOKS.items():
        try:
            yield from look()
        except Exception as error:  # a broken library raises whatever it likes
            yield Finding(name, False, f"{type(error).__name__}: {error}", "reinstall what it names")
    for extra, package in EXTRAS.items():
        yield _extra(extra, package)


def version(package: str) -> str | None:
    """The installed version, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _package(name: str) -> Finding:
    found = version(name)
    cure = "" if found else f"pip install {name}, or reinstall multimodal"
    return Finding(name, found is not None, found or "missing", cure)


def _extra(extra: str, package: str) -> Finding:
    found = version(package)
    cure = "" if found else f"if you want it: pip install 'multimodal[{extra}]'"
    return Finding(f"extra {extra}", True if found else None, f"{package} {found or 'missing'}", cure)


def _device() -> Iterator[Finding]:
    import torch

    from multimodal.core.backends.runtime import Runtime

    runtime = Runtime("auto", "auto")
    threads = f", {torch.get_num_threads()} threads" if runtime.torch_device.type == "cpu" else ""
    yield Finding("device", True, f"{runtime.torch_device}{threads}")
    fast = runtime.dtype == torch.bfloat16
    advice = "" if fast else "precision='bfloat16' would be no faster here"
    yield Finding("bfloat16", True if fast else None, "fast" if fast else "emulated", advice)


def _weights() -> Iterator[Finding]:
    from multimodal.core.catalog import load

    found = load("starter", device="cpu").self_test()
    names = ", ".join(check.name for check in found.failed)
    cure = "" if found.ok else "run: multimodal doctor starter"
    yield Finding("starter", found.ok, "passes its self-test" if found.ok else f"fails in {names}", cure)


def _cache() -> Iterator[Finding]:
    from multimodal.core.hub import cache as caches

    folders = {"cache": caches.own_cache()}
    if version("huggingface_hub") is not None:
        folders = {"hub cache": caches.hub_cache()} | folders
    for name, folder in folders.items():
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
        room = f"{folder}, {free / 1e9:,.0f} GB free"
        if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
            cure = "let yourself write there, or name another folder with HF_HOME and MULTIMODAL_CACHE"
            yield Finding(name, False, f"{folder}: {there} cannot be written to", cure)
        elif free < LITTLE_ROOM:
            yield Finding(name, None, room, "too little for a large model; make room, or name another folder")
        else:
            yield Finding(name, True, room)
    if caches.is_offline():
        yield Finding("network", None, "off: HF_HUB_OFFLINE is set", "unset it to fetch models")


def _pictures() -> Iterator[Finding]:
    from PIL import features

    yield _formats("pictures", PICTURES, features.check, "install a newer pillow, with wheels")


def _sounds() -> Iterator[Finding]:
    import soundfile

    yield _formats("sounds", SOUNDS, soundfile.available_formats().__contains__, "install a newer soundfile")


def _videos() -> Iterator[Finding]:
    if version("av") is None:
        return
    import av

    def decodes(name: str) -> bool:
        return name in av.codecs_available

    yield _formats("videos", CODECS, decodes, "install a newer av, with wheels")


def _formats(name: str, wanted: tuple[str, ...], known: Callable[[str], Any], cure: str) -> Finding:
    missing = [one for one in wanted if not known(one)]
    there = ", ".join(one for one in wanted if one not in missing)
    if missing:
        return Finding(name, None, f"{there}; not {', '.join(missing)}", cure)
    return Finding(name, True, there)


LOOKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "device": _device,
    "starter": _weights,
    "cache": _cache,
    "pictures": _pictures,
    "sounds": _sounds,
    "videos": _videos,
}
