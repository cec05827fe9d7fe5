"""Media types (MIME) of files, by their first bytes."""

from __future__ import annotations

from multimodal.core.media import sniff
from multimodal.core.modality import Modality

UNKNOWN_TYPE = "application/octet-stream"
PDF_TYPE, PDF = "application/pdf", b"%PDF-"
# First bytes -> what browsers call the format. Formats that can hold scripts, such as SVG, are not among them.
IMAGE_TYPES = (
    (b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG", "image/png"), (b"GIF8", "image/gif"), (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
)  # fmt: skip
AUDIO_TYPES = (
    (b"fLaC", "audio/flac"), (b"OggS", "audio/ogg"), (b"ID3", "audio/mpeg"), (b"RIFF", "audio/wav"),
    (b"FORM", "audio/aiff"), (b"caff", "audio/x-caf"), (b"#!AMR", "audio/amr"),
)  # fmt: skip
CONTAINER_TYPES = {
    "av:matroska": "webm",
    "av:mov": "mp4",
    "av:ogg": "ogg",
    "av:mpegts": "mp2t",
    "av:avi": "x-msvideo",
}
EXTENSIONS = {
    "image/jpeg": ".jpg", "image/png": ".png", "image/gif": ".gif", "image/tiff": ".tiff", "image/webp": ".webp",
    "image/heic": ".heic", "image/avif": ".avif", "audio/flac": ".flac", "audio/ogg": ".ogg", "audio/mpeg": ".mp3",
    "audio/wav": ".wav", "audio/aiff": ".aiff", "audio/x-caf": ".caf", "audio/amr": ".amr", "audio/webm": ".weba",
    "audio/mp4": ".m4a", "video/webm": ".webm", "video/mp4": ".mp4", "video/ogg": ".ogv", "video/mp2t": ".ts",
    "video/x-msvideo": ".avi", PDF_TYPE: ".pdf",
}  # fmt: skip


def mime_type(head: bytes, modality: str) -> str:
    """The media type of a file; UNKNOWN_TYPE for what is no image, audio, video or PDF.

    Args:
        head: Its first `sniff.HEAD_BYTES`.
        modality: Of the item that it is of, for containers of sound and video.
    """
    if head.startswith(PDF):
        return PDF_TYPE
    known = sniff.signature(head)
    if known.decoder == "":
        return UNKNOWN_TYPE
    if known.modality is Modality.IMAGE:
        if head[8:12] == b"WEBP":
            return "image/webp"
        if head[4:8] == b"ftyp":
            return "image/heic" if known.decoder == "heif" else "image/avif"
        return next((kind for start, kind in IMAGE_TYPES if head.startswith(start)), "image/x-unknown")
    if known.decoder in CONTAINER_TYPES:
        top = "audio" if known.modality is Modality.AUDIO or modality == Modality.AUDIO else "video"
        return f"{top}/{CONTAINER_TYPES[known.decoder]}"
    if known.modality is Modality.AUDIO:
        return next((kind for start, kind in AUDIO_TYPES if head.startswith(start)), "audio/mpeg")
    return "video/x-unknown"
