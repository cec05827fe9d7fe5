"""TensorBoard event files, without TensorBoard: scalars only.

A file is a sequence of records (length, checksum, an Event message of protocol buffers, checksum); the checksums are
CRC-32C, rotated and shifted as TFRecord has it.
"""

from __future__ import annotations

import struct
import time
from pathlib import Path

POLYNOMIAL = 0x82F63B78  # of CRC-32C, reflected
MASK_DELTA = 0xA282EAD8


def _table() -> tuple[int, ...]:
    rows = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (POLYNOMIAL if value & 1 else 0)
        rows.append(value)
    return tuple(rows)


TABLE = _table()


def crc32c(content: bytes) -> int:
    """The Castagnoli checksum."""
    value = 0xFFFFFFFF
    for byte in content:
        value = value >> 8 ^ TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def masked(content: bytes) -> bytes:
    """The checksum as a record holds it."""
    value = crc32c(content)
    return struct.pack("<I", ((value >> 15 | value << 17) + MASK_DELTA) & 0xFFFFFFFF)


def varint(value: int) -> bytes:
    """A whole number of protocol buffers."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def message(field: int, content: bytes) -> bytes:
    """A nested message or a string."""
    return varint(field << 3 | 2) + varint(len(content)) + content


class EventWriter:
    """Appends scalars to a new event file in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        stamp = time.time()
        self.path = folder / f"events.out.tfevents.{stamp:.6f}.multimodal"
        self._write(struct.pack("<Bd", 1 << 3 | 1, stamp) + message(3, b"brain.Event:2"))

    def add(self, step: int, scalars: dict[str, float]) -> None:
        """Writes one event with the scalars of a step."""
        values = b"".join(
            message(1, message(1, tag.encode()) + struct.pack("<Bf", 2 << 3 | 5, value))
            for tag, value in scalars.items()
        )
        time_and_step = struct.pack("<Bd", 1 << 3 | 1, time.time()) + varint(2 << 3) + varint(step)
        self._write(time_and_step + message(5, values))

    def _write(self, event: bytes) -> None:
        length = struct.pack("<Q", len(event))
        with self.path.open("ab") as file:
            file.write(length + masked(length) + event + masked(event))
