"""`load("st/all-MiniLM-L6-v2")`: any model of sentence-transformers, from the Hub or a folder.

Most embed text; image, audio and video are available where the model supports them. In float32, vectors equal those
of `SentenceTransformer.encode(..., normalize_embeddings=True)`.

    st/owner/name       a repository of the Hub; without an owner, one of sentence-transformers' own
    st/./folder         a local folder, also as st//absolute/folder and st/~/folder

Many models use different prompts for queries and documents: `prompt="document"` makes a space that encodes documents,
and whose `query_space`, which an index searches with, encodes queries. A `str` is always text; upstream would download
an image if the text is its address. Code from a model's repository is never run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from multimodal.core.backends.runtime import Decode, Precision, Runtime
from multimodal.core.errors import InvalidInput
from multimodal.core.modality import Modality
from multimodal.core.space import LogitScale, Pair, Space
from multimodal.encoders.st.cards import CARDS, SAME_SPACE

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from multimodal.core.backends.reranker import Reranker
    from multimodal.core.encoder import Encoder, EncoderState

__all__ = ["CARDS", "from_config", "load", "load_reranker"]


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
    """Loads a model as a space with one encoder per modality that it supports.

    Args:
        rest: The id of a repository of the Hub, or a folder.
        device: "auto", "cpu", "cuda", … See `core.backends.runtime.Runtime`, also for the next two.
        precision: "float32", "bfloat16" or "auto".
        decode: "exact", or "fast" for reduced-size JPEG decoding.
        prompt: "document", "query", or the name of one of the model's prompts; by default as upstream's `encode`.
            With "document", `space.query_space` encodes queries.
        prompts: Prompts by name, which extend or replace the model's.
        truncate_dim: Number of leading dimensions to keep, for models trained for it (Matryoshka); by default as the
            model defines.
        similarity: "cosine" to accept a model that compares vectors by their lengths as well as directions.
        space_id: The space this one can be joined with; by default that of the id, none for a folder.
        revision: A branch, tag or commit; by default the revision of the card, or the newest.
        offline: Use only files that are in the cache.

    Raises:
        UnknownModel: If the name or folder does not exist; close matches are named.
        CheckpointError: If the checkpoint is damaged, incomplete or not supported.
        DownloadError: If a file cannot be downloaded.
        MissingExtra: If sentence-transformers is not installed.
        InvalidInput: If an option does not apply to this model.
    """
    from multimodal.encoders.st import checkpoint
    from multimodal.encoders.st.model import require
    from multimodal.encoders.st.prompts import check_prompts, roles

    runtime, name = Runtime(device, precision, decode), f"st/{rest}"
    check_prompts(prompts)
    require(f"loading {name!r}")
    from multimodal.encoders.st import model as st_model
    from multimodal.encoders.st.encoders import Settings, STEncoder

    folder = checkpoint.find(rest, revision=revision, offline=offline)
    model, reports = st_model.build(folder, name, runtime, prompts)
    modalities = st_model.modalities(model, name)
    role, query = roles(model, prompt, name)
    st_model.check_weights(
        reports, model, name, modalities, [role] + ([query] if query else []), runtime.cast
    )
    _check_similarity(model, name, similarity)
    full_dim = st_model.dim(model, modalities[0], role, name, runtime.cast)
    requested = model.truncate_dim if truncate_dim is None else truncate_dim
    settings = Settings(role, query, *_dims(full_dim, requested, name))
    shared, model_files = st_model.SharedModel(model, runtime, name), checkpoint.files_in(folder)
    encoders = [STEncoder(modality, shared, model_files, settings) for modality in modalities]
    if space_id is None and not checkpoint.is_folder(rest):
        space_id = SAME_SPACE.get(name, name)
    for encoder in encoders:
        encoder.space_id = space_id
    card = next((card for card in CARDS if card.name == name), None)
    return Space(encoders, _head(model), name=name, card=card)


def from_config(saved: EncoderState, runtime: Runtime) -> Encoder:
    """Rebuilds an encoder from its saved configuration, tensors and files."""
    from multimodal.encoders.st.model import require

    require("loading this saved space")
    from multimodal.encoders.st.encoders import rebuild

    return rebuild(saved, runtime)


def load_reranker(rest: str, *, device: str = "auto", offline: bool = False) -> Reranker:
    """Loads a cross-encoder; see `multimodal.core.backends.reranker`."""
    from multimodal.encoders.st import reranker

    return reranker.load(rest, device=device, offline=offline)


def _check_similarity(model: SentenceTransformer, name: str, similarity: str | None) -> None:
    from multimodal.encoders.st.model import ends_in_unit_vectors

    if similarity not in (None, "cosine"):
        raise InvalidInput(
            f"similarity must be 'cosine' or left out, got {similarity!r}: a space compares by cosines"
        )
    function = model.similarity_fn_name
    if "cosine" in (function, similarity):
        return
    if function in ("dot", "euclidean") and ends_in_unit_vectors(model):
        return
    raise InvalidInput(
        f"{name!r} compares its vectors by {function}, and they are not normalised; a space compares by cosines, so "
        "its ranking would differ. To use the directions of the vectors anyway, pass similarity='cosine'"
    )


def _dims(full_dim: int, requested: object, name: str) -> tuple[int, int | None]:
    """(dimensions of a vector, dimensions to truncate to or None)."""
    if requested is None:
        return full_dim, None
    if isinstance(requested, bool) or not isinstance(requested, int) or not 1 <= requested <= full_dim:
        raise InvalidInput(
            f"truncate_dim must be an integer from 1 to {full_dim}, the dimensions of {name!r}, got {requested!r}"
        )
    return requested, requested


def _head(model: SentenceTransformer) -> dict[Pair | None, LogitScale] | None:
    """The trained scale for image and text of a CLIP or SigLIP; other models have none."""
    inner = model.transformers_model
    scale, bias = (getattr(inner, name, None) for name in ("logit_scale", "logit_bias"))
    if scale is None or not model.supports("image") or not model.supports("text"):
        return None
    head = LogitScale(
        float(scale.exp()), 0.0 if bias is None else float(bias), "softmax" if bias is None else "sigmoid"
    )
    return {(Modality.IMAGE, Modality.TEXT): head}
