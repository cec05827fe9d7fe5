"""The encoder of the `st` family, and the settings that a saved space stores."""

from __future__ import annotations

import contextlib
import functools
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from multimodal.core.backends.runtime import Runtime
from multimodal.core.encoder import Encoder, EncoderState
from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.encoders.st import model as st_model
from multimodal.encoders.st.checkpoint import ModelFiles, files_in, unpack
from multimodal.encoders.st.preprocessing import MAX_FRAMES, groups, max_input
from multimodal.encoders.st.prompts import PromptRole

_REBUILT: weakref.WeakKeyDictionary[st_model.SharedModel, EncoderState] = weakref.WeakKeyDictionary()
_REBUILD_LOCK = threading.Lock()


@dataclass(frozen=True)
class Settings:
    """Settings of an encoder.

    Attributes:
        role: The prompt and task of what is encoded.
        query: Those of queries, where they differ.
        dim: Dimensions of a vector.
        truncate_dim: Dimensions kept of the model's vectors; None for all.
    """

    role: PromptRole
    query: PromptRole | None
    dim: int
    truncate_dim: int | None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "role": self.role.to_dict(),
            "query": None if self.query is None else self.query.to_dict(),
            "dim": self.dim,
            "truncate_dim": self.truncate_dim,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """Restores what `to_dict` returned."""
        query = values["query"]
        return cls(
            PromptRole(**values["role"]),
            None if query is None else PromptRole(**query),
            values["dim"],
            values["truncate_dim"],
        )


class TrainedFiles:
    """`ModelFiles` of a model in memory, written out when they are asked for."""

    def __init__(self, net: Any) -> None:
        self._net = net

    @functools.cached_property
    def _stored(self) -> tuple[Mapping[str, bytes], Mapping[str, Tensor]]:
        with tempfile.TemporaryDirectory(prefix="multimodal-", ignore_cleanup_errors=True) as scratch:
            self._net.save(scratch, create_model_card=False)
            stored = files_in(Path(scratch))
            # Copied, since the files are deleted
            return stored.files, {name: tensor.clone() for name, tensor in stored.tensors().items()}

    @property
    def files(self) -> Mapping[str, bytes]:
        """The small files by name."""
        return self._stored[0]

    def tensors(self) -> Mapping[str, Tensor]:
        """The weights by name."""
        return self._stored[1]


class STEncoder(Encoder):
    """One modality of a SentenceTransformer. The encoders of its modalities share the model."""

    def __init__(
        self,
        modality: Modality,
        shared: st_model.SharedModel,
        model_files: ModelFiles | TrainedFiles,
        settings: Settings,
    ) -> None:
        self.modality, self.dim = modality, settings.dim
        self.shared, self.model_files, self.settings = shared, model_files, settings
        self.net, self.runtime = shared.model, shared.runtime
        self.max_input = max_input(shared.model, modality)

    def config(self) -> dict[str, Any]:
        frames = {"max_frames": MAX_FRAMES} if self.modality is Modality.VIDEO else {}
        return {"settings": self.settings.to_dict()} | frames

    def state_dict(self) -> Mapping[str, Tensor]:
        """All weights of the model, with the checkpoint's names, for each modality."""
        return self.model_files.tensors()

    def files(self) -> Mapping[str, bytes]:
        return self.model_files.files

    @property
    def query_encoder(self) -> STEncoder:
        """The encoder of queries: this one, or one with another prompt or tower."""
        if self.settings.query is None:
            return self
        settings = replace(self.settings, role=self.settings.query, query=None)
        encoder = STEncoder(self.modality, self.shared, self.model_files, settings)
        encoder.space_id, encoder.precision_decision = self.space_id, self.precision_decision
        return encoder

    def with_network(self, net: Any) -> STEncoder:
        """See `Encoder.with_network`. What is saved is the new network."""
        shared = st_model.SharedModel(net, self.runtime, self.shared.name)
        encoder = STEncoder(self.modality, shared, TrainedFiles(net), self.settings)
        encoder.space_id, encoder.precision_decision = self.space_id, self.precision_decision
        return encoder

    @property
    def _uses_tokenizer(self) -> bool:
        return self.modality is Modality.TEXT or "message" in self.shared.model.modalities

    def prepare(self, items: Sequence[Item]) -> dict[str, Any]:
        """Preprocesses items.

        Returns:
            groups, a list of features of `model.preprocess`, and owners (rows,) int64, the item of each row.
        """
        model, role = self.shared.model, self.settings.role
        fast = self.runtime.decode == "fast"
        inputs, owners = groups(model, items, fast=fast, name=self.shared.name)
        with self.shared.lock if self._uses_tokenizer else contextlib.nullcontext():
            features = [model.preprocess(group, prompt=role.prompt, **role.routing) for group in inputs]
        return {"groups": features, "owners": torch.tensor(owners)}

    def forward(self, batch: dict[str, Any]) -> Tensor:
        model, role, dtype = self.shared.model, self.settings.role, self.runtime.cast
        rows = torch.cat([st_model.vectors(model, features, role, dtype) for features in batch["groups"]])
        rows = rows[:, : self.settings.truncate_dim]
        owners = batch["owners"]
        n = int(owners.max()) + 1
        if n == len(owners):
            return rows
        rows = torch.nn.functional.normalize(
            rows, dim=1
        ).cpu()  # on the CPU, where the order of a sum is fixed
        return torch.zeros(n, rows.shape[1]).index_add_(0, owners, rows)


def rebuild(saved: EncoderState, runtime: Runtime) -> STEncoder:
    """Rebuilds an encoder from its saved configuration, tensors and files."""
    settings = Settings.from_dict(saved.config["settings"])
    model_files = ModelFiles(saved.files, lambda: saved.tensors)
    return STEncoder(saved.modality, _rebuilt_model(saved, settings, runtime), model_files, settings)


def _rebuilt_model(saved: EncoderState, settings: Settings, runtime: Runtime) -> st_model.SharedModel:
    """Every encoder of a model stores the whole model; it is rebuilt once and shared while any of them exists."""
    with _REBUILD_LOCK:
        for shared, other in _REBUILT.items():
            if (
                shared.runtime == runtime
                and other.files == saved.files
                and other.tensors.keys() == saved.tensors.keys()
                and all(torch.equal(tensor, saved.tensors[key]) for key, tensor in other.tensors.items())
            ):
                return shared
        # Windows does not delete memory-mapped files; these stay in the temporary folder
        with tempfile.TemporaryDirectory(prefix="multimodal-", ignore_cleanup_errors=True) as scratch:
            unpack(saved.files, saved.tensors, Path(scratch))
            model, reports = st_model.build(Path(scratch), "the saved space", runtime)
        st_model.check_weights(
            reports, model, "the saved space", [saved.modality], [settings.role], runtime.cast
        )
        shared = st_model.SharedModel(model, runtime, "the saved space")
        _REBUILT[shared] = saved
        return shared
