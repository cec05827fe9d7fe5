"""Items -> inputs of exported towers, by Pillow, numpy and tokenizers.

Each class is built from the settings in export.json and the files of its tower. Calls are pure and thread-safe.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from multimodal.core.items import Audio, Image, Item
from multimodal.core.media.pillow import load_pil
from multimodal.core.media.windows import equal_windows, windows
from multimodal.encoders.onnx import log_mels

Arrays = dict[str, NDArray[Any]]
RESAMPLING = {
    "nearest": PIL.Image.Resampling.NEAREST,
    "bilinear": PIL.Image.Resampling.BILINEAR,
    "bicubic": PIL.Image.Resampling.BICUBIC,
    "lanczos": PIL.Image.Resampling.LANCZOS,
}


class Preprocessing(Protocol):
    """What every class of this module is."""

    def __init__(self, settings: Mapping[str, Any], files: Mapping[str, bytes]) -> None: ...

    def __call__(self, items: Sequence[Item]) -> Arrays:
        """The model's inputs by name, and "owners" (rows,) int64, the item of each row."""


class Tokens:
    """Texts -> token ids by a tokenizer.json.

    Settings:
        tokenizer: The file.
        special: Whether the tokenizer adds its special tokens.
        max_length: Longest row in tokens.
        overflow: "truncate", or "windows": equal windows whose vectors are averaged.
        padding: "longest" or "max_length".
        pad_id, pad_left: The padding token and its side.
        ids, mask, types, lengths: Names of the model's inputs; None or absent for one that it does not have.
        prompt: Text before each text; may be absent.
        query_prompt: Text before each query, where the model has another for queries; see `OnnxText.query_encoder`.
        lowercase, collapse_spaces, unescape_html: What happens to a text before the tokenizer sees it.
    """

    def __init__(self, settings: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        from tokenizers import Tokenizer

        self.settings = dict(settings)
        self._tokenizer = Tokenizer.from_str(files[settings["tokenizer"]].decode())
        self._tokenizer.no_padding()
        if settings["overflow"] == "truncate":
            self._tokenizer.enable_truncation(settings["max_length"])
        else:
            self._tokenizer.no_truncation()

    def __call__(self, items: Sequence[Item]) -> Arrays:
        prompt = self.settings.get("prompt") or ""
        texts = [self._cleaned(f"{prompt}{item.load()}") for item in items]
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=self.settings["special"])
        rows, owners = self._windows([encoding.ids or [0] for encoding in encodings])
        longest = max(map(len, rows))
        if self.settings["padding"] == "max_length":
            longest = self.settings["max_length"]
        tokens = np.full((len(rows), longest), self.settings["pad_id"], np.int64)
        mask = np.zeros((len(rows), longest), np.int64)
        for index, row in enumerate(rows):
            columns = slice(-len(row), None) if self.settings["pad_left"] else slice(len(row))
            tokens[index, columns], mask[index, columns] = row, 1
        arrays = {"ids": tokens, "mask": mask, "types": np.zeros_like(mask), "lengths": mask.sum(1)}
        names = {name: self.settings.get(name) for name in arrays}
        named = {name: arrays[kind] for kind, name in names.items() if name is not None}
        return named | {"owners": np.array(owners)}

    def _cleaned(self, text: str) -> str:
        if self.settings.get("unescape_html"):
            text = html.unescape(html.unescape(text))
        if self.settings.get("collapse_spaces"):
            text = " ".join(text.split())
        return text.lower() if self.settings.get("lowercase") else text

    def _windows(self, rows: Sequence[list[int]]) -> tuple[list[list[int]], list[int]]:
        """The rows that the model gets, and the text of each."""
        if self.settings["overflow"] == "truncate":
            return list(rows), list(range(len(rows)))
        limit = self.settings["max_length"]
        windows, owners = [], []
        for owner, row in enumerate(rows):
            for start, stop in equal_windows(len(row), limit):
                windows.append(row[start:stop])
                owners.append(owner)
        return windows, owners


class Square:
    """Images -> (n, 3, side, side) uint8: the longest edge resized, the rest filled with the border's mean colour."""

    def __init__(self, settings: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        self.side, self.name = int(settings["side"]), str(settings["pixels"])

    def __call__(self, items: Sequence[Item]) -> Arrays:
        pixels = np.stack([self._square(item.load()) for item in items if isinstance(item, Image)])
        return {self.name: pixels, "owners": np.arange(len(items))}

    def _square(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = rgb.shape[:2]
        scale = self.side / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = PIL.Image.fromarray(rgb)
        if image.size != size:
            image = image.resize(size, PIL.Image.Resampling.BICUBIC, reducing_gap=3.0)
        pixels = np.asarray(image)
        if size != (self.side, self.side):
            border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
            colour = border.mean(0).round().astype(np.uint8)
            canvas = np.broadcast_to(colour, (self.side, self.side, 3)).copy()
            top, left = (self.side - size[1]) // 2, (self.side - size[0]) // 2
            canvas[top : top + size[1], left : left + size[0]] = pixels
            pixels = canvas
        return pixels.transpose(2, 0, 1)


class Resize:
    """Images -> (n, 3, height, width) uint8; scaling to floats and normalisation are in the graph.

    Settings:
        pixels: Name of the model's input.
        size: (height, width) of the result.
        mode: "shortest": the shorter side is resized to `edge`, then the centre cropped; "exact": both sides are
            resized.
        edge: Length of the shorter side, for "shortest".
        resample: A key of RESAMPLING.
    """

    def __init__(self, settings: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        self.settings = dict(settings)
        self.height, self.width = settings["size"]
        self.resample = RESAMPLING[settings["resample"]]
        if settings["mode"] not in ("shortest", "exact"):
            raise ValueError(f"unknown mode {settings['mode']!r}")

    def __call__(self, items: Sequence[Item]) -> Arrays:
        edge = self.settings["edge"] if self.settings["mode"] == "shortest" else None
        pixels = [
            self._resized(load_pil(item, None, shortest_edge=edge))
            for item in items
            if isinstance(item, Image)
        ]
        return {self.settings["pixels"]: np.stack(pixels), "owners": np.arange(len(items))}

    def _resized(self, image: PIL.Image.Image) -> NDArray[np.uint8]:
        if self.settings["mode"] == "exact":
            resized = image.resize((self.width, self.height), self.resample)
            return np.asarray(resized).transpose(2, 0, 1)
        edge = self.settings["edge"]
        short, long = sorted(image.size)
        other = int(edge * long / short)
        size = (edge, other) if image.width <= image.height else (other, edge)
        pixels = np.asarray(image if image.size == size else image.resize(size, self.resample))
        return self._cropped(pixels).transpose(2, 0, 1)

    def _cropped(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The centre; where the image is smaller, black is added around it."""
        missing = [
            max(0, wanted - length)
            for wanted, length in zip((self.height, self.width), pixels.shape[:2], strict=True)
        ]
        if any(missing):
            around = [(extra // 2, extra - extra // 2) for extra in missing]
            pixels = np.pad(pixels, [*around, (0, 0)])
        top = round((pixels.shape[0] - self.height) / 2)
        left = round((pixels.shape[1] - self.width) / 2)
        return pixels[top : top + self.height, left : left + self.width]


class SpeechMels:
    """Audio -> (windows, frames, bands) float32 log-mels and their lengths; see `log_mels`."""

    def __init__(self, settings: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        self.numbers = log_mels.SpeechNumbers(
            **{key: value for key, value in settings.items() if key not in ("mels", "lengths")}
        )
        self.mels, self.lengths = str(settings["mels"]), str(settings["lengths"])

    def __call__(self, items: Sequence[Item]) -> Arrays:
        owners, windows = [], []
        for owner, item in enumerate(items):
            if isinstance(item, Audio):
                waveform = item.load(rate_hz=self.numbers.rate_hz)
                for mel in log_mels.speech_windows(waveform.samples, self.numbers):
                    owners.append(owner)
                    windows.append(mel)
        lengths = np.array([len(mel) for mel in windows])
        padded = np.zeros((len(windows), int(lengths.max()), self.numbers.n_mels), np.float32)
        for index, mel in enumerate(windows):
            padded[index, : len(mel)] = mel
        return {self.mels: padded, self.lengths: lengths, "owners": np.array(owners)}


class Waveform:
    """Audio -> (windows, samples) float32; the model computes its spectrogram itself.

    Settings:
        waveforms: Name of the model's input.
        rate_hz, samples: Of each window. A longer recording is split into windows whose vectors are averaged.
        padding: "repeatpad": a shorter one is repeated as often as it fits, and zeros follow; "repeat": it is repeated.
    """

    def __init__(self, settings: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        self.settings = dict(settings)

    def __call__(self, items: Sequence[Item]) -> Arrays:
        owners, rows = [], []
        for owner, item in enumerate(items):
            if isinstance(item, Audio):
                samples = item.load(rate_hz=self.settings["rate_hz"]).samples
                for start, stop in windows(len(samples), self.settings["samples"]):
                    owners.append(owner)
                    rows.append(self._padded(samples[start:stop]))
        return {self.settings["waveforms"]: np.stack(rows), "owners": np.array(owners)}

    def _padded(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        length = self.settings["samples"]
        times, rest = divmod(length, len(samples))
        if self.settings["padding"] == "repeat":
            return np.tile(samples, times + (rest > 0))[:length]
        repeated = np.tile(samples, times)
        return np.pad(repeated, (0, length - len(repeated)))
