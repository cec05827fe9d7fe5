"""`load("st/all-MiniLM-L6-v2")`: any model of sentence-transformers, from the hub or a folder.

Texts for most; pictures, sounds and videos where the model says it takes them. In float32 the vectors are those of
`SentenceTransformer.encode(..., normalize_embeddings=True)`.

    st/owner/name       a model of the hub; without an owner one of sentence-transformers' own
    st/./folder         a folder, also as st//absolute/folder and st/~/folder

Many models put other words before a question than before what answers it: `prompt="document"` makes a space that
encodes documents, and whose `query_space` (which an index searches with) encodes questions. A text is a text, even if
it reads like the address of a picture, which upstream would fetch. Code of a model's own is never run.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.backends.runtime import Decode, Precision, Runtime
from multimodal.core.encoder import Encoder, EncoderState
from multimodal.core.errors import InvalidInput
from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.core.space import LogitScale, Pair, Space
from multimodal.encoders.st import checkpoint as folders
from multimodal.encoders.st.cards import CARDS, SAME_SPACE
from multimodal.encoders.st.checkpoint import Parts
from multimodal.encoders.st.preprocessing import MAX_FRAMES, groups, takes
from multimodal.encoders.st.prompts import Role, check_prompts, roles

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

    from multimodal.encoders.st.model import Running

__all__ = ["CARDS", "STEncoder", "from_config", "load"]

BUILT: weakref.WeakKeyDictionary[Running, EncoderState] = weakref.WeakKeyDictionary()
BUILDING = threading.Lock()


def load(
    rest: str = "",
    *,
    device: str = "auto",
    precision: Precision = "float32",
    decode: Decode = "exact",
    prompt: str | None = None,
    prompts: Mapping[str, str] | None = None,
    truncate_dim: int | None = None,
    similarity: str | None = None,
    space_id: str | None = None,
    revision: str | None = None,
    offline: bool = False,
) -> Space:
    """The space of a model, with an encoder for each modality it takes by itself.

    rest: the id of a model of the hub, or a folder. device, precision, decode: see `core.runtime.Runtime`.
    prompt: "document", "query", or the name of one of the model's prompts; by default what upstream's `encode` does.
    With "document", `space.query_space` encodes queries. prompts: texts by name, beside or in place of the model's.
    truncate_dim: so many numbers of a vector, for models trained to bear it (Matryoshka); by default as the model says.
    similarity: "cosine" to take the directions of vectors that the model itself compares by their lengths too.
    space_id: the space this one can be joined with; by default that of the id, and for a folder none.
    revision: a branch, tag or commit, in place of the card's or the newest. offline: nothing is fetched.
    Raises UnknownModel with close matches, CheckpointError for what cannot be used or does not fit, DownloadError,
    MissingExtra, InvalidInput.
    """
    runtime, name = Runtime(device, precision, decode), f"st/{rest}"
    check_prompts(prompts)
    _require(f"loading {name!r}")
    from multimodal.encoders.st import model as models

    folder = folders.find(rest, revision=revision, offline=offline)
    model, loaded = models.build(folder, name, runtime, prompts)
    kinds = models.modalities(model, name)
    role, query = roles(model, prompt, name)
    models.check(loaded, model, name, kinds, [role] + ([query] if query else []), runtime.cast)
    _check_similarity(model, name, similarity)
    full = models.dim(model, kinds[0], role, name, runtime.cast)
    wanted = model.truncate_dim if truncate_dim is None else truncate_dim
    settings = Settings(role, query, *_dims(full, wanted, name))
    running, parts = models.Running(model, runtime, name), folders.parts_of(folder)
    encoders = [STEncoder(modality, running, parts, settings) for modality in kinds]
    if space_id is None and not folders.is_folder(rest):
        space_id = SAME_SPACE.get(name, name)
    for encoder in encoders:
        encoder.space_id = space_id
    card = next((card for card in CARDS if card.name == name), None)
    return Space(encoders, _head(model), name=name, card=card)


def from_config(saved: EncoderState, runtime: Runtime) -> Encoder:
    """Rebuild an encoder from what it saved."""
    _require("loading this saved space")
    settings = Settings.from_dict(saved.config["settings"])
    parts = Parts(saved.files, lambda: saved.tensors)
    return STEncoder(saved.modality, _rebuilt(saved, settings, runtime), parts, settings)


def _require(what: str) -> None:
    from multimodal.encoders.st.model import require

    require(what)


def _rebuilt(saved: EncoderState, settings: Settings, runtime: Runtime) -> Running:
    """The encoders of one model each keep all its parts; it is built once for those that are alive."""
    import torch

    from multimodal.encoders.st import model as models

    with BUILDING:
        for running, other in BUILT.items():
            if (
                running.runtime == runtime
                and other.files == saved.files
                and other.tensors.keys() == saved.tensors.keys()
                and all(torch.equal(one, saved.tensors[key]) for key, one in other.tensors.items())
            ):
                return running
        # Windows keeps a mapped file from being deleted; what is left lies among the temporary files
        with tempfile.TemporaryDirectory(prefix="multimodal-", ignore_cleanup_errors=True) as scratch:
            folders.unpack(saved.files, saved.tensors, Path(scratch))
            model, loaded = models.build(Path(scratch), "the saved space", runtime)
        models.check(loaded, model, "the saved space", [saved.modality], [settings.role], runtime.cast)
        running = models.Running(model, runtime, "the saved space")
        BUILT[running] = saved
        return running


def _check_similarity(model: SentenceTransformer, name: str, similarity: str | None) -> None:
    from multimodal.encoders.st.model import ends_in_unit_vectors

    if similarity not in (None, "cosine"):
        raise InvalidInput(
            f"similarity must be 'cosine' or left out, got {similarity!r}: a space compares by cosines"
        )
    how = model.similarity_fn_name
    if "cosine" in (how, similarity) or (how in ("dot", "euclidean") and ends_in_unit_vectors(model)):
        return
    raise InvalidInput(
        f"{name!r} compares its vectors by {how}, and they are not scaled to length one; a space compares by cosines, "
        "so its order of results would differ. To take the directions of the vectors all the same: similarity='cosine'"
    )


def _dims(full: int, wanted: object, name: str) -> tuple[int, int | None]:
    """How long vectors are, and the truncation that makes them so."""
    if wanted is None:
        return full, None
    if isinstance(wanted, bool) or not isinstance(wanted, int) or not 1 <= wanted <= full:
        raise InvalidInput(
            f"truncate_dim must be a whole number from 1 to {full}, which {name!r} gives, got {wanted!r}"
        )
    return wanted, wanted


def _head(model: SentenceTransformer) -> dict[Pair | None, LogitScale] | None:
    """How a CLIP or SigLIP was trained to compare pictures and texts; no scale is known for other models."""
    inner = model.transformers_model
    scale, bias = (getattr(inner, name, None) for name in ("logit_scale", "logit_bias"))
    if scale is None or not model.supports("image") or not model.supports("text"):
        return None
    head = LogitScale(
        float(scale.exp()), 0.0 if bias is None else float(bias), "softmax" if bias is None else "sigmoid"
    )
    return {(Modality.IMAGE, Modality.TEXT): head}


@dataclass(frozen=True)
class Settings:
    """role: of what is encoded. query: of what searches it, where that is another. truncate_dim: None for whole
    vectors."""

    role: Role
    query: Role | None
    dim: int
    truncate_dim: int | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "role": self.role.to_dict(),
            "query": None if self.query is None else self.query.to_dict(),
            "dim": self.dim,
            "truncate_dim": self.truncate_dim,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        query = values["query"]
        return cls(
            Role(**values["role"]),
            None if query is None else Role(**query),
            values["dim"],
            values["truncate_dim"],
        )


class STEncoder(Encoder):
    """One modality of a SentenceTransformer. The model is shared by the encoders of its other modalities."""

    def __init__(self, modality: Modality, running: Running, parts: Parts, settings: Settings) -> None:
        self.modality, self.dim = modality, settings.dim
        self.running, self.parts, self.settings = running, parts, settings
        self.net, self.runtime = running.model, running.runtime
        self.max_input = takes(running.model, modality)

    def config(self) -> dict[str, Any]:
        seen = {"max_frames": MAX_FRAMES} if self.modality is Modality.VIDEO else {}
        return {"settings": self.settings.to_dict()} | seen

    def state_dict(self) -> Mapping[str, Tensor]:
        """The model's weights as its checkpoint has them, all of them for each modality."""
        return self.parts.tensors()

    def files(self) -> Mapping[str, bytes]:
        return self.parts.files

    @property
    def query_encoder(self) -> STEncoder:
        """The encoder of what searches: this one, or its twin with another prompt or tower."""
        if self.settings.query is None:
            return self
        settings = replace(self.settings, role=self.settings.query, query=None)
        twin = STEncoder(self.modality, self.running, self.parts, settings)
        twin.space_id, twin.precision_decision = self.space_id, self.precision_decision
        return twin

    @property
    def _tokenizes(self) -> bool:
        return self.modality is Modality.TEXT or "message" in self.running.model.modalities

    def prepare(self, items: Sequence[Item]) -> dict[str, Any]:
        """groups: features of `model.preprocess` for parts of the batch; owners (rows,): the item each row is of."""
        import torch

        model, role = self.running.model, self.settings.role
        fast = self.runtime.decode == "fast"
        cut, owners = groups(model, items, fast=fast, name=self.running.name)
        with self.running.lock if self._tokenizes else contextlib.nullcontext():
            features = [model.preprocess(one, prompt=role.prompt, **role.routing) for one in cut]
        return {"groups": features, "owners": torch.tensor(owners)}

    def forward(self, batch: dict[str, Any]) -> torch.Tensor:
        import torch

        from multimodal.encoders.st.model import vectors

        model, role, dtype = self.running.model, self.settings.role, self.runtime.cast
        rows = torch.cat([vectors(model, one, role, dtype) for one in batch["groups"]])
        rows = rows[:, : self.settings.truncate_dim]
        owners = batch["owners"]
        n = int(owners.max()) + 1
        if n == len(owners):
            return rows
        rows = torch.nn.functional.normalize(rows, dim=1).cpu()  # on the CPU, where sums have one order
        return torch.zeros(n, rows.shape[1]).index_add_(0, owners, rows)
