"""The encoders of `hf`: the checkpoint's own processor for one modality, and the part of the model that takes it.

Each is made from the model, its tower, `settings` (JSON values: all that was decided when the checkpoint was read, so
that a saved space decides nothing anew) and `files` (those the processor is made of, and config.json).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from multimodal.core.backends.runtime import Runtime
from multimodal.core.encoder import Encoder
from multimodal.core.items import Item
from multimodal.core.media.windows import windows
from multimodal.core.modality import Modality
from multimodal.encoders.hf import preprocessing as processors
from multimodal.encoders.hf.packing import lots, packed
from multimodal.encoders.hf.towers import Tower, cut

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    Batch = dict[str, Tensor]

ROWS_AT_ONCE = 16  # of windows of long sounds, and of texts of about one length
FRAMES_AT_ONCE = 64
EXACT_BECAUSE = {
    "GroupViTModel": "its hard argmax may choose otherwise"
}  # centred cosine 0.975 on a small one


class HFEncoder(Encoder):
    """What all modalities share. See the top of this module for the arguments."""

    engines = ("torch", "openvino")

    def __init__(
        self,
        model: nn.Module,
        tower: Tower,
        settings: Mapping[str, Any],
        files: Mapping[str, bytes],
        runtime: Runtime,
    ) -> None:
        self.tower, self.settings, self.kept = tower, dict(settings), dict(files)
        self.dim = int(settings["dim"])
        self.class_name = type(model).__name__
        self.runtime = runtime
        self.device, self.decode = runtime.torch_device, runtime.decode
        self.dtype, self.float32_reason = runtime.cast, EXACT_BECAUSE.get(self.class_name)
        self.net = _moved(cut(model, tower.parts), self.device, self.dtype)

    def config(self) -> dict[str, Any]:
        return {"class": self.class_name, **self.settings}

    def state_dict(self) -> Mapping[str, Tensor]:
        """The weights of this modality's part of the model, under the names they have in the checkpoint."""
        return self.net.state_dict()

    def files(self) -> Mapping[str, bytes]:
        return self.kept

    def forward(self, batch: Batch) -> torch.Tensor:
        return self._run(batch)

    def _run(self, inputs: Mapping[str, Tensor]) -> torch.Tensor:
        """Inputs of the model -> (n, dim) float32."""
        placed = {
            name: one.to(self.device, self.dtype) if one.is_floating_point() else one.to(self.device)
            for name, one in inputs.items()
        }
        return self.run_backend(self.tower, placed).float()


def _moved(net: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A model on its device, its weights in `dtype`. What it computes for itself when it is made, such as the
    frequencies of rotary positions, stays in float32: rounded, these are wrong by whole turns."""
    import copy

    import torch

    if dtype == torch.float32:
        return net.to(device)
    net = copy.deepcopy(net)  # the other encoders of this checkpoint may share some of it
    saved = set(net.state_dict())
    exact = {
        (module, name): buffer.clone()
        for path, module in net.named_modules()
        for name, buffer in module.named_buffers(recurse=False)
        if f"{path}.{name}".lstrip(".") not in saved and buffer.is_floating_point()
    }
    net.to(device, dtype)
    for (module, name), buffer in exact.items():
        module._buffers[name] = buffer.to(device)
    return net


class HFText(HFEncoder):
    """Tokens -> text tower. Texts beyond the context length are cut, as upstream cuts them.

    settings["padding"]: "longest" where a shorter batch gives the same vectors (masked, or causal and pooled at the
    last token), else "max_length", as SigLIP was trained: there padding is part of the text.
    settings["keep_mask"]: for AIMv2. transformers drops a mask that masks nothing, and there its causality with it, so
    that a text alone would give another vector than beside a longer one. One more row, thrown away, prevents it.
    """

    modality = Modality.TEXT

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.tokenizer = processors.tokenizer(self.kept)
        self._tokens(["a"])  # its options are set here, so that `prepare` changes nothing

    def _tokens(self, texts: Sequence[str]) -> Batch:
        limit = self.settings["max_length"]
        options = {"padding": self.settings["padding"], "max_length": limit, "truncation": True}
        found = self.tokenizer(list(texts), return_tensors="pt", **options)
        return {name: found[name] for name in found if name in self.tower.takes}

    def prepare(self, items: Sequence[Item]) -> Batch:
        """input_ids (n, t) int64 and, as the tokenizer has it, attention_mask (n, t)."""
        return self._tokens([str(item.load()) for item in items])

    def forward(self, batch: Batch) -> torch.Tensor:
        """Texts of about one length at a time, each lot trimmed to its longest, where that is exact."""
        import torch

        mask = batch.get("attention_mask")
        if self.settings["padding"] != "longest" or mask is None or len(mask) <= ROWS_AT_ONCE:
            return self._masked(batch)
        lengths = mask.sum(1)
        order = lengths.argsort(stable=True)
        rows = mask.new_empty(len(mask), self.dim, dtype=torch.float32, device=self.device)
        for lot in order.split(ROWS_AT_ONCE):
            longest = int(lengths[lot].max())
            tokens = slice(-longest, None) if self.tokenizer.padding_side == "left" else slice(longest)
            rows[lot.to(self.device)] = self._masked({name: one[lot, tokens] for name, one in batch.items()})
        return rows

    def _masked(self, batch: Batch) -> torch.Tensor:
        import torch

        if not self.settings["keep_mask"]:
            return self._run(batch)
        more = {name: torch.cat([one, one[:1]]) for name, one in batch.items()}
        more["attention_mask"][-1, -1] = 0
        return self._run(more)[:-1]


class HFImage(HFEncoder):
    """The checkpoint's own image processor -> image tower."""

    modality = Modality.IMAGE

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.processor = processors.image_processor(self.kept, self.settings["backend"])
        self.min_side = processors.target_side(self.processor) if self.decode == "fast" else None

    def prepare(self, items: Sequence[Item]) -> Batch:
        """What the model takes: pixel_values (n, 3, h, w) float32 or, NaFlex, patches with their mask and shape."""
        pictures = [processors.picture(item, self.min_side) for item in items]
        found = self.processor(images=pictures, return_tensors="pt")
        return {name: found[name] for name in found if name in self.tower.takes}


class _ByPieces(HFEncoder):
    """Items that are one or more pieces of different shapes. The vector of an item is the mean of the unit vectors of
    its pieces, so that every part of a long recording counts alike and two calls give the same."""

    at_once = ROWS_AT_ONCE

    def pieces(self, item: Any) -> list[Mapping[str, Tensor]]:
        """What the model takes for each piece of an item, (1, …) by name."""
        raise NotImplementedError

    def prepare(self, items: Sequence[Item]) -> Batch:
        """The inputs of all pieces (see `_hf_batches.packed`) and owners (pieces,) int64: the item each is of."""
        import torch

        cut = [(owner, piece) for owner, item in enumerate(items) for piece in self.pieces(item)]
        taken = [{name: piece[name] for name in piece if name in self.tower.takes} for _, piece in cut]
        return packed(taken) | {"owners": torch.tensor([owner for owner, _ in cut])}

    def forward(self, batch: Batch) -> torch.Tensor:
        import torch

        owners = batch["owners"]
        vectors = torch.empty(len(owners), self.dim)
        for rows, inputs in lots(batch, self.at_once):
            vectors[rows] = torch.nn.functional.normalize(self._run(inputs), dim=1).cpu()
        means = torch.zeros(int(owners.max()) + 1, self.dim)  # on the CPU, where sums have one order
        return means.index_add_(0, owners, vectors)


class HFAudio(_ByPieces):
    """The checkpoint's own feature extractor on windows of `settings["window_samples"]` -> audio tower.

    A clip no longer than one window gives upstream's own vector. A longer one is cut into the fewest equal windows
    that cover it, at equal distances: upstream takes a random part of it (CLAP), so that its vector differs from call
    to call, or all of it at once, whatever memory that takes (PE).
    """

    modality = Modality.AUDIO

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.extractor = processors.feature_extractor(self.kept)

    def pieces(self, item: Any) -> list[Mapping[str, Tensor]]:
        # One window at a time: upstream's extractor looks at its neighbours (CLAP marks one of them, drawn at random)
        rate_hz = self.extractor.sampling_rate
        samples = item.load(rate_hz=rate_hz).samples
        spans = windows(len(samples), self.settings["window_samples"])
        return [self.extractor(samples[a:b], sampling_rate=rate_hz, return_tensors="pt") for a, b in spans]


class HFVideo(_ByPieces):
    """`settings["n_frames"]` frames, evenly spaced (see `Video.load`) -> the checkpoint's processor -> video tower."""

    modality = Modality.VIDEO

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.pixels = processors.pixels_of(self.tower.takes)
        self.processor = processors.frame_processor(self.pixels, self.kept, self.settings["backend"])
        self.at_once = max(1, FRAMES_AT_ONCE // self.settings["n_frames"])

    def pieces(self, item: Any) -> list[Mapping[str, Tensor]]:
        frames = item.load(n_frames=self.settings["n_frames"]).frames
        return [{self.pixels: processors.clip(self.processor, self.pixels, frames)[None]}]


class HFJoint(_ByPieces):
    """EmbeddingGemma 2: pictures, sounds and videos as tokens among tokens, by its one processor and one model.

    Each item is prepared and run by itself, beside none of another length. Sounds are cut into windows as in HFAudio;
    of a video, `settings["fps"]` frames a second are taken, at most `settings["max_frames"]`, evenly spaced.
    """

    def __init__(self, modality: Modality, *args: Any) -> None:
        super().__init__(*args)
        self.modality = modality
        self.processor = processors.joint(self.kept)
        self.min_side = (
            processors.target_side(self.processor.image_processor) if self.decode == "fast" else None
        )

    def pieces(self, item: Any) -> list[Mapping[str, Tensor]]:
        if self.modality is Modality.IMAGE:
            return [processors.asked(self.processor, images=[[processors.picture(item, self.min_side)]])]
        if self.modality is Modality.VIDEO:
            frames = item.load(fps=self.settings["fps"], max_frames=self.settings["max_frames"]).frames
            return [processors.asked(self.processor, videos=[processors.channels_first(frames)])]
        rate_hz = self.processor.feature_extractor.sampling_rate
        samples = item.load(rate_hz=rate_hz).samples
        spans = windows(len(samples), self.settings["window_samples"])
        return [
            processors.asked(self.processor, audio=[samples[a:b]], sampling_rate=rate_hz) for a, b in spans
        ]
