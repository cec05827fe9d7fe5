"""Checks of the installation for `multimodal doctor`. Nothing is created, downloaded or changed."""

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
    "pandas": "pandas",
    "documents": "pypdfium2",
    "serve": "uvicorn",
    "mcp": "mcp",
    "answers": "openai",
    "train": "peft",
    "align": "trl",
    "export": "onnx",
    "onnx": "onnxruntime",
    "s3": "boto3",
    "ray": "ray",
    "mteb": "mteb",
    "telemetry": "opentelemetry-sdk",
}
PACKAGES = ("torch", "torchaudio", "numpy", "pillow", "soundfile", "lancedb", "tokenizers", "safetensors")
IMAGE_FORMATS = ("jpg", "zlib", "webp", "avif", "libtiff", "jpg_2000")  # Pillow's names; zlib is PNG
AUDIO_FORMATS = ("WAV", "FLAC", "OGG", "MP3")
CODECS = ("h264", "hevc", "vp9", "av1", "mpeg4", "aac", "opus")
MIN_FREE_BYTES = 5e9  # bytes; a large model is 2 to 10 GB


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        name: What was checked.
        ok: Whether it passed; None for something optional.
        found: What is installed or available.
        cure: What to do, if it did not pass.
    """

    name: str
    ok: bool | None
    found: str
    cure: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def findings() -> Iterator[Finding]:
    """All checks in order of importance. An exception of a check becomes a finding too."""
    for name in PACKAGES:
        yield _package(name)
    for name, look in CHECKS.items():
        try:
            yield from look()
        except Exception as error:  # a broken library may raise anything
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
    installed = version(name)
    cure = "" if installed else f"pip install {name}, or reinstall multimodal"
    return Finding(name, installed is not None, installed or "missing", cure)


def _extra(extra: str, package: str) -> Finding:
    installed = version(package)
    cure = "" if installed else f"optional: pip install 'multimodal[{extra}]'"
    return Finding(f"extra {extra}", True if installed else None, f"{package} {installed or 'missing'}", cure)


def _device() -> Iterator[Finding]:
    import torch

    from multimodal.core.backends.runtime import Runtime

    runtime = Runtime("auto", "auto")
    threads = f", {torch.get_num_threads()} threads" if runtime.torch_device.type == "cpu" else ""
    yield Finding("device", True, f"{runtime.torch_device}{threads}")
    fast = runtime.dtype == torch.bfloat16
    advice = "" if fast else "--precision bfloat16 would be no faster here"
    yield Finding("bfloat16", True if fast else None, "fast" if fast else "emulated", advice)


def _weights() -> Iterator[Finding]:
    from multimodal.core.catalog import load

    report = load("starter", device="cpu").self_test()
    names = ", ".join(check.name for check in report.failed)
    cure = "" if report.ok else "run: multimodal doctor starter"
    yield Finding("starter", report.ok, "passes its self-test" if report.ok else f"fails in {names}", cure)


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
            cure = "make it writable, or set HF_HOME and MULTIMODAL_CACHE to another folder"
            yield Finding(name, False, f"{folder}: {there} cannot be written to", cure)
        elif free < MIN_FREE_BYTES:
            yield Finding(
                name, None, room, "too little for a large model; free some space, or set another folder"
            )
        else:
            yield Finding(name, True, room)
    if caches.is_offline():
        yield Finding("network", None, "off: HF_HUB_OFFLINE is set", "unset it to fetch models")


def _image_formats() -> Iterator[Finding]:
    from PIL import features

    yield _formats("image formats", IMAGE_FORMATS, features.check, "install a newer pillow, with wheels")


def _audio_formats() -> Iterator[Finding]:
    import soundfile

    yield _formats(
        "audio formats",
        AUDIO_FORMATS,
        soundfile.available_formats().__contains__,
        "install a newer soundfile",
    )


def _video_codecs() -> Iterator[Finding]:
    if version("av") is None:
        return
    import av

    def decodes(name: str) -> bool:
        return name in av.codecs_available

    yield _formats("video codecs", CODECS, decodes, "install a newer av, with wheels")


def _formats(name: str, wanted: tuple[str, ...], known: Callable[[str], Any], cure: str) -> Finding:
    missing = [name for name in wanted if not known(name)]
    there = ", ".join(name for name in wanted if name not in missing)
    if missing:
        return Finding(name, None, f"{there}; not {', '.join(missing)}", cure)
    return Finding(name, True, there)


CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "device": _device,
    "starter": _weights,
    "cache": _cache,
    "image formats": _image_formats,
    "audio formats": _audio_formats,
    "video codecs": _video_codecs,
}
