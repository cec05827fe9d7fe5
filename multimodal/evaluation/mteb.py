"""MTEB, MIEB, MAEB and MVEB: spaces as models of the `mteb` library, whose results lie on disk in its own layout.

    import mteb
    from multimodal.evaluation.mteb import model_meta

    mteb.evaluate(model_meta("starter"), mteb.get_tasks(tasks=["CIFAR10ZeroShot"]))

mteb compares by cosine. Its zero-shot task for images takes softmax(100 · cosine) instead of the scale of the model,
which changes no accuracy. Its R@k of CLIP is `hit_rate_at_k`; its `recall_at_k` is the share of right answers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.catalog import close_matches
from multimodal.core.errors import InvalidInput, MissingExtra
from multimodal.core.items import Audio, Image, Item, Text
from multimodal.core.modality import Modality
from multimodal.core.pipeline import as_space
from multimodal.core.space import Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MODALITIES = (Modality.TEXT, Modality.IMAGE, Modality.AUDIO)  # that batches of mteb are read in
EMPTY_TEXT = "."  # what an empty text is encoded as: mteb has some, and a space refuses them


def model_meta(model: str | os.PathLike[str] | Space, **load_options: Any) -> Any:
    """Describes a space as a model of mteb, with a loader.

    Args:
        model: A space, its name or folder.
        **load_options: For `multimodal.load`.

    Returns:
        An `mteb.ModelMeta`.

    Raises:
        MissingExtra: mteb is not installed.
    """
    meta_class = _import_mteb().models.ModelMeta
    space = model if isinstance(model, Space) else as_space(_loaded(model, load_options))
    name = re.sub(r"[^\w.-]+", "-", str(model) if not isinstance(model, Space) else model.name).strip("-.")
    base = getattr(space.card, "base", None)
    return meta_class(
        loader=lambda *args, **kwargs: _encoder(space),
        name=f"multimodal/{name}",
        revision=space.fingerprint[:12],
        release_date=None,
        languages=None,
        n_parameters=None,
        memory_usage_mb=None,
        max_tokens=None,
        embed_dim=space.dim,
        license=None,
        open_weights=None,
        public_training_code=None,
        public_training_data=None,
        framework=["PyTorch"],
        similarity_fn_name="cosine",
        use_instructions=False,
        training_datasets=None,
        adapted_from=base or None,
        modalities=[str(modality) for modality in space.modalities if modality in MODALITIES],
    )


def evaluate_mteb(
    model: str | os.PathLike[str] | Space,
    tasks: Any,
    *,
    output: str | os.PathLike[str] = "results",
    batch_size: int = 32,
    progress: bool = False,
    **load_options: Any,
) -> dict[str, dict[str, float]]:
    """Runs tasks of mteb. A repeated call reads what is finished from `output`.

    Args:
        model: A space, its name or folder.
        tasks: The name of a benchmark, as "MIEB(lite)", names of tasks, or task objects of mteb.
        output: The folder of the results, in the layout of mteb.
        batch_size: Items per forward pass.
        progress: Whether mteb shows progress bars.
        **load_options: For `multimodal.load`.

    Returns:
        {task: {metric: value}} of the numbers of each task, averaged over its splits and subsets.

    Raises:
        MissingExtra: mteb is not installed.
        InvalidInput: mteb has no such benchmark or task.
    """
    library = _import_mteb()
    chosen = _tasks(library, tasks)
    results = library.evaluate(
        model_meta(model, **load_options),
        chosen,
        cache=library.ResultCache(Path(output)),
        encode_kwargs={"batch_size": batch_size},
        show_progress_bar=progress,
        co2_tracker=False,
    )
    return {result.task_name: _means(result.scores) for result in results.task_results}


def _means(scores: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    collected: dict[str, list[float]] = {}
    for subsets in scores.values():
        for subset in subsets:
            for name, value in subset.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    collected.setdefault(name, []).append(float(value))
    return {name: sum(values) / len(values) for name, values in collected.items()}


def _tasks(library: Any, tasks: Any) -> list[Any]:
    """Task objects of a benchmark, or of names."""
    if isinstance(tasks, str):
        benchmarks = {benchmark.name: benchmark for benchmark in library.get_benchmarks()}
        if tasks in benchmarks:
            return list(benchmarks[tasks].tasks)
        tasks = [tasks]
    else:
        benchmarks = {}
    chosen = []
    for task in tasks:
        if not isinstance(task, str):
            chosen.append(task)
            continue
        try:
            chosen.append(library.get_task(task))
        except (KeyError, ValueError):
            hint = close_matches(task, benchmarks)
            raise InvalidInput(
                f"mteb has no benchmark or task {task!r}; {hint}mteb.get_benchmarks() and mteb.get_tasks() list them"
            ) from None
    return chosen


def _loaded(model: str | os.PathLike[str], load_options: Mapping[str, Any]) -> Space:
    from multimodal.core.catalog import load

    return load(model, **load_options)


def _import_mteb() -> Any:
    try:
        import mteb
        import mteb.models
    except ImportError:
        raise MissingExtra("running the tasks of MTEB", package="mteb", extra="mteb") from None
    return mteb


def _encoder(space: Space) -> Any:
    """An encoder of mteb: batches with texts, images or audio -> unit rows."""
    from mteb.models.abs_encoder import AbsEncoder

    class SpaceEncoder(AbsEncoder):  # type: ignore[misc]
        """A space behind the interface of mteb."""

        def __init__(self) -> None:
            self.model = None

        def encode(
            self,
            inputs: Any,
            *,
            task_metadata: Any,
            hf_split: str,
            hf_subset: str,
            prompt_type: Any = None,
            **options: Any,
        ) -> NDArray[np.float32]:
            """Encodes batches; an input of several modalities gets the normalised sum of their vectors."""
            import numpy as np

            side = space.query_space if str(getattr(prompt_type, "value", "")) == "query" else space
            batch_size = int(options.get("batch_size", 32))
            rows = [_encode_batch(side, batch, batch_size) for batch in inputs]
            return np.concatenate(rows) if rows else np.empty((0, space.dim), np.float32)

    return SpaceEncoder()


def _encode_batch(space: Space, batch: Mapping[str, Any], batch_size: int) -> NDArray[np.float32]:
    import numpy as np

    present = [modality for modality in MODALITIES if modality in batch and modality in space.modalities]
    if not present:
        raise InvalidInput(
            f"a batch of mteb has {', '.join(batch)}, and the space encodes {', '.join(space.modalities)}"
        )
    total = sum(
        space.encode([_item(modality, value) for value in batch[modality]], batch_size=batch_size)
        for modality in present
    )
    vectors = np.asarray(total, dtype=np.float32)
    if len(present) > 1:
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return vectors


def _item(modality: Modality, value: Any) -> Item:
    if modality == Modality.TEXT:
        return Text(value if value.strip() else EMPTY_TEXT)
    if modality == Modality.IMAGE:
        return Image(value)
    if hasattr(value, "get_all_samples"):  # a decoder of torchcodec
        samples = value.get_all_samples()
        value = {"array": samples.data.numpy(), "sampling_rate": int(samples.sample_rate)}
    import numpy as np

    array = np.asarray(value["array"], dtype=np.float32)  # of a list or tensor
    return Audio({"array": array, "sampling_rate": int(value["sampling_rate"])})
