"""The encoders of the `hf` family: a checkpoint's own processor for one modality, and the matching part of the model.

Each is built from the model, its tower, `settings` and `files`. `settings` are JSON values determined when the
checkpoint was read, so that a saved space needs no decisions. `files` are those of the processor, and config.json.
"""

from __future__ import annotations

import abc
import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from multimodal.core.backends.runtime import Runtime
from multimodal.core.encoder import Encoder
from multimodal.core.items import Image, Item
from multimodal.core.limits import get_limits
from multimodal.core.media.pillow import load_pil
from multimodal.core.media.windows import windows
from multimodal.core.modality import Modality
from multimodal.encoders.hf import preprocessing
from multimodal.encoders.hf.packing import pack, uniform_batches
from multimodal.encoders.hf.towers import Tower, extract

Batch = dict[str, Tensor]

MAX_ROWS = 16  # windows of long audio, or texts of similar length, per forward pass
MAX_FRAMES = 64  # video frames per forward pass
FLOAT32_REASONS = {
    "GroupViTModel": "its hard argmax may choose otherwise"
}  # centred cosine 0.975 on a small model


class HFEncoder(Encoder):
    """Base class of all modalities. The arguments are described at the top of this module."""

    engines = ("torch", "openvino")

    def __init__(
        self,
        model: nn.Module,
        tower: Tower,
        settings: Mapping[str, Any],
        files: Mapping[str, bytes],
        runtime: Runtime,
    ) -> None:
        self.tower, self.settings, self._files = tower, dict(settings), dict(files)
        self.dim = int(settings["dim"])
        self.class_name = type(model).__name__
        self.runtime = runtime
        self.device, self.decode = runtime.torch_device, runtime.decode
        self.dtype, self.float32_reason = runtime.cast, FLOAT32_REASONS.get(self.class_name)
        self.net = _placed(extract(model, tower.parts), self.device, self.dtype)

    def config(self) -> dict[str, Any]:
        return {"class": self.class_name, **self.settings}

    def state_dict(self) -> Mapping[str, Tensor]:
        """The weights of this modality's part of the model, with the checkpoint's names."""
        return self.net.state_dict()

    def files(self) -> Mapping[str, bytes]:
        return self._files

    def forward(self, batch: Batch) -> Tensor:
        return self._run(batch)

    def _run(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Model inputs (n, …) -> (n, dim) float32."""
        placed = {
            name: tensor.to(self.device, self.dtype) if tensor.is_floating_point() else tensor.to(self.device)
            for name, tensor in inputs.items()
        }
        return self.run_backend(self.tower, placed).float()


def _placed(net: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Moves a model to its device and its weights to `dtype`.

    Non-persistent buffers stay in float32: rounded frequencies of rotary positions would be wrong by whole turns.
    """
    if dtype == torch.float32:
        return net.to(device)
    net = copy.deepcopy(net)  # parts may be shared with other encoders of this checkpoint
    persistent = set(net.state_dict())
    exact = {
        (module, name): buffer.clone()
        for path, module in net.named_modules()
        for name, buffer in module.named_buffers(recurse=False)
        if f"{path}.{name}".lstrip(".") not in persistent and buffer.is_floating_point()
    }
    net.to(device, dtype)
    for (module, name), buffer in exact.items():
        module._buffers[name] = buffer.to(device)
    return net


class HFText(HFEncoder):
    """Tokens -> text tower. Texts beyond the context length are truncated, as upstream does.

    settings["padding"] is "longest" where padding does not change a vector (masked, or causal and pooled at the last
    token), else "max_length": SigLIP was trained with padding as part of the text.

    settings["keep_mask"] is for AIMv2: transformers drops an attention mask without padding, and with it AIMv2's
    causal mask, so a text alone would give another vector than in a batch with a longer one. An extra row, whose
    result is discarded, prevents this.
    """

    modality = Modality.TEXT

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.tokenizer = preprocessing.tokenizer(self._files)
        self._tokenize(
            ["a"]
        )  # sets the tokenizer's padding and truncation, so that `prepare` changes no state

    def _tokenize(self, texts: Sequence[str]) -> Batch:
        limit = self.settings["max_length"]
        options = {"padding": self.settings["padding"], "max_length": limit, "truncation": True}
        tokens = self.tokenizer(list(texts), return_tensors="pt", **options)
        return {name: tokens[name] for name in tokens if name in self.tower.input_names}

    def prepare(self, items: Sequence[Item]) -> Batch:
        """Tokenises texts.

        Returns:
            input_ids (n, t) int64 and, if the tokenizer makes one, attention_mask (n, t) int64.
        """
        return self._tokenize([str(item.load()) for item in items])

    def forward(self, batch: Batch) -> Tensor:
        """Runs texts of similar length together, each group trimmed to its longest text, where that is exact."""
        mask = batch.get("attention_mask")
        if self.settings["padding"] != "longest" or mask is None or len(mask) <= MAX_ROWS:
            return self._run_masked(batch)
        lengths = mask.sum(1)
        order = lengths.argsort(stable=True)
        vectors = mask.new_empty(len(mask), self.dim, dtype=torch.float32, device=self.device)
        for rows in order.split(MAX_ROWS):
            longest = int(lengths[rows].max())
            columns = slice(-longest, None) if self.tokenizer.padding_side == "left" else slice(longest)
            trimmed = {name: tensor[rows, columns] for name, tensor in batch.items()}
            vectors[rows.to(self.device)] = self._run_masked(trimmed)
        return vectors

    def _run_masked(self, batch: Batch) -> Tensor:
        if not self.settings["keep_mask"]:
            return self._run(batch)
        extended = {name: torch.cat([tensor, tensor[:1]]) for name, tensor in batch.items()}
        extended["attention_mask"][-1, -1] = 0
        return self._run(extended)[:-1]


class HFImage(HFEncoder):
    """The checkpoint's own image processor -> image tower."""

    modality = Modality.IMAGE

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.processor = preprocessing.image_processor(self._files, self.settings["backend"])
        self.min_side = preprocessing.target_side(self.processor) if self.decode == "fast" else None
        self.shortest_edge = preprocessing.shortest_edge(self.processor)

    def prepare(self, items: Sequence[Item]) -> Batch:
        """Decodes and preprocesses images.

        Returns:
            pixel_values (n, 3, h, w) float32; for NaFlex, patches with their mask and shape.
        """
        images = [
            load_pil(item, self.min_side, shortest_edge=self.shortest_edge)
            for item in items
            if isinstance(item, Image)
        ]
        inputs = self.processor(images=images, return_tensors="pt")
        return {name: inputs[name] for name in inputs if name in self.tower.input_names}


class _SegmentedEncoder(HFEncoder):
    """Items that become one or more segments of different shapes, whose unit vectors are averaged.

    Every segment of a long recording has the same weight, and the result is deterministic.
    """

    max_rows = MAX_ROWS

    @abc.abstractmethod
    def segments(self, item: Any) -> list[Mapping[str, Tensor]]:
        """The model inputs (1, …) of each segment of an item."""

    def prepare(self, items: Sequence[Item]) -> Batch:
        """Preprocesses all segments of all items.

        Returns:
            The packed inputs (see `packing.pack`) and owners (segments,) int64, the item of each segment.
        """
        owners, inputs = [], []
        for owner, item in enumerate(items):
            for segment in self.segments(item):
                owners.append(owner)
                inputs.append({name: segment[name] for name in segment if name in self.tower.input_names})
        return pack(inputs) | {"owners": torch.tensor(owners)}

    def forward(self, batch: Batch) -> Tensor:
        owners = batch["owners"]
        vectors = torch.empty(len(owners), self.dim)
        for rows, inputs in uniform_batches(batch, self.max_rows):
            vectors[rows] = torch.nn.functional.normalize(self._run(inputs), dim=1).cpu()
        sums = torch.zeros(int(owners.max()) + 1, self.dim)  # on the CPU, where the order of a sum is fixed
        return sums.index_add_(0, owners, vectors)


class HFAudio(_SegmentedEncoder):
    """The checkpoint's own feature extractor on windows of `settings["window_samples"]` -> audio tower.

    A clip of at most one window gives upstream's vector. A longer one is split into the fewest equally spaced windows
    that cover it. Upstream crops it at random (CLAP), so that vectors differ between calls, or processes it whole,
    with unbounded memory (PE).
    """

    modality = Modality.AUDIO

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.extractor = preprocessing.feature_extractor(self._files)
        if self.class_name == "ClapModel":
            from multimodal.encoders.hf import clap

            self.extractor = clap.batched(self.extractor)
            if self.runtime.engine == "torch":
                clap.use_fused_attention(self.net)

    def segments(self, item: Any) -> list[Mapping[str, Tensor]]:
        # One window per call: CLAP's extractor marks a random element of each batch
        rate_hz = self.extractor.sampling_rate
        samples = item.load(rate_hz=rate_hz).samples
        spans = windows(len(samples), self.settings["window_samples"])
        return [self.extractor(samples[a:b], sampling_rate=rate_hz, return_tensors="pt") for a, b in spans]


class HFVideo(_SegmentedEncoder):
    """`settings["n_frames"]` evenly spaced frames (see `Video.load`) -> the checkpoint's processor -> video tower."""

    modality = Modality.VIDEO

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.input_name = preprocessing.video_input_name(self.tower.input_names)
        self.processor = preprocessing.frame_processor(self.input_name, self._files, self.settings["backend"])
        self.shortest_edge = preprocessing.shortest_edge(self.processor)
        self.max_rows = max(1, MAX_FRAMES // self.settings["n_frames"])

    def segments(self, item: Any) -> list[Mapping[str, Tensor]]:
        frames = item.load(n_frames=self.settings["n_frames"]).frames
        if self.shortest_edge is not None:
            height, width = frames.shape[1:3]
            get_limits().check_resized(width, height, self.shortest_edge, item.uri or "<video>")
        return [
            {self.input_name: preprocessing.process_frames(self.processor, self.input_name, frames)[None]}
        ]


class HFJoint(_SegmentedEncoder):
    """EmbeddingGemma 2: image, audio and video as tokens of one model with one processor.

    Each item is processed on its own, without padding. Audio is split into windows as in HFAudio. Video is sampled at
    `settings["fps"]` frames per second, at most `settings["max_frames"]`, evenly spaced.
    """

    def __init__(self, modality: Modality, *args: Any) -> None:
        super().__init__(*args)
        self.modality = modality
        self.processor = preprocessing.joint_processor(self._files)
        self.min_side = (
            preprocessing.target_side(self.processor.image_processor) if self.decode == "fast" else None
        )
        self.shortest_edge = preprocessing.shortest_edge(self.processor.image_processor)

    def segments(self, item: Any) -> list[Mapping[str, Tensor]]:
        process = preprocessing.process_single
        if self.modality is Modality.IMAGE:
            return [
                process(
                    self.processor, images=[[load_pil(item, self.min_side, shortest_edge=self.shortest_edge)]]
                )
            ]
        if self.modality is Modality.VIDEO:
            frames = item.load(fps=self.settings["fps"], max_frames=self.settings["max_frames"]).frames
            return [process(self.processor, videos=[preprocessing.channels_first(frames)])]
        rate_hz = self.processor.feature_extractor.sampling_rate
        samples = item.load(rate_hz=rate_hz).samples
        spans = windows(len(samples), self.settings["window_samples"])
        return [process(self.processor, audio=[samples[a:b]], sampling_rate=rate_hz) for a, b in spans]


ENCODERS: dict[Modality, type[HFEncoder]] = {
    Modality.TEXT: HFText, Modality.IMAGE: HFImage, Modality.AUDIO: HFAudio, Modality.VIDEO: HFVideo,
}  # fmt: skip
