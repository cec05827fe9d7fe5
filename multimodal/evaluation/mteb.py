"""MTEB, MIEB, MAEB and MVEB: spaces as models of the `mteb` library, whose results lie on disk in its own layout.

    import mteb
    from multimodal.evaluation.mteb import model_meta

    mteb.evaluate(model_meta("starter"), mteb.get_tasks(tasks=["CIFAR10ZeroShot"]))

mteb compares by cosine. Its zero-shot task for images takes softmax(100 · cosine) whatever the model; the vectors for
that task are made so that this is softmax(scale · cosine) with the scale of the model. Its R@k of CLIP is
`hit_rate_at_k`; its `recall_at_k` is the share of right answers. A space without an encoder of video encodes frames of
a video as images.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.catalog import close_matches
from multimodal.core.errors import DownloadError, InvalidInput, MissingExtra, MultimodalWarning
from multimodal.core.items import Audio, Image, Item, Text, Video
from multimodal.core.modality import Modality
from multimodal.core.pipeline import as_space
from multimodal.core.space import Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# that batches of mteb are read in
MODALITIES = (Modality.TEXT, Modality.IMAGE, Modality.AUDIO, Modality.VIDEO)
FRAMES = 8  # of a video, for a space that encodes images and no video
MTEB_SCALE = 100.0  # by which mteb multiplies cosines in its zero-shot task for images
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
        InvalidInput: mteb has no such benchmark or task, or none that the space has the modalities for.
        DownloadError: The data of no task could be loaded.

    Warns:
        MultimodalWarning: Some tasks were not run: their data could not be loaded, or the space lacks a modality.
    """
    library = _import_mteb()
    chosen = _tasks(library, tasks)
    meta = model_meta(model, **load_options)
    results: dict[str, dict[str, float]] = {}
    missing: dict[str, str] = {}
    unsupported: dict[str, str] = {}
    for task in chosen:
        name = task.metadata.name
        own = _of_frames(meta, task)
        lacking = _lacking(own, task)
        if lacking:
            unsupported[name] = f"the space encodes no {' and no '.join(lacking)}"
            continue
        _guard_data(task)
        try:
            outcome = library.evaluate(
                meta if own is meta else _loaded_with(own),
                task,
                cache=library.ResultCache(Path(output)),
                encode_kwargs={"batch_size": batch_size},
                show_progress_bar=progress,
                co2_tracker=False,
            )
        except _MissingData as reason:
            missing[name] = str(reason)
            continue
        results |= {result.task_name: _means(result.scores) for result in outcome.task_results}
    _report(results, missing, unsupported, output)
    return results


class _MissingData(Exception):
    """The data set of a task could not be loaded; the message says which, and why."""


def _guard_data(task: Any) -> None:
    """Makes a task, and those that it is made of, raise _MissingData where loading its data fails."""
    for part in (task, *(getattr(task.metadata, "tasks", None) or ())):
        load = part.load_data
        source = part.metadata.dataset

        def load_data(*args: Any, load: Any = load, source: Any = source, **options: Any) -> None:
            try:
                load(*args, **options)
            except _MissingData:  # of a task that was given before
                raise
            except Exception as error:  # the data libraries raise errors of many kinds
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                place = f"{source.get('path', '?')} (revision {str(source.get('revision', '?'))[:12]})"
                raise _MissingData(f"{place}: {type(error).__name__}: {reason[:200]}") from error

        part.load_data = load_data


def _report(
    results: Mapping[str, Any],
    missing: Mapping[str, str],
    unsupported: Mapping[str, str],
    output: str | os.PathLike[str],
) -> None:
    """Says which tasks were not run. Raises if there are no results at all."""
    if not missing and not unsupported:
        return
    reasons = "; ".join(f"{name}: {reason}" for name, reason in {**missing, **unsupported}.items())
    total = len(results) + len(missing) + len(unsupported)
    text = f"{total - len(results)} of {total} tasks of mteb were not run: {reasons}."
    if missing:
        text += (
            " mteb loads data sets from the cache of Hugging Face or its hub: fetch the missing ones on a machine "
            "with a network (`hf download --repo-type dataset PATH`), copy its folder HF_HOME here, and run the same "
            f"command again; tasks that are finished are kept in {os.fspath(output)}"
        )
    if results:
        warnings.warn(text, MultimodalWarning, stacklevel=3)
    elif missing:
        raise DownloadError(text)
    else:
        raise InvalidInput(text)


def _of_frames(meta: Any, task: Any) -> Any:
    """The model for a task: for video, an image model is marked as one that averages frames, as mteb marks its own."""
    if (
        "video" not in task.metadata.modalities
        or "video" in meta.modalities
        or "image" not in meta.modalities
    ):
        return meta
    how = {"video_frame_pooling": "mean", "video_num_frames": FRAMES}
    return meta.model_copy(update={"modalities": [*meta.modalities, "video"], "experiment_kwargs": how})


def _loaded_with(meta: Any) -> Any:
    """The encoder of a description. For video, mteb would load it only with torchcodec, which frames do not need."""
    encoder = meta.loader()
    encoder.mteb_model_meta = meta
    return encoder


def _lacking(meta: Any, task: Any) -> list[str]:
    """The modalities of a task that a model lacks and cannot do without: either side of retrieval needs one."""
    offered = set(meta.modalities)
    sides = str(getattr(task.metadata, "category", None) or "").split("2")
    if "Retrieval" in str(task.metadata.type) and all(offered & _side(side) for side in sides):
        return []
    return [modality for modality in task.metadata.modalities if modality not in offered]


def _side(letters: str) -> set[str]:
    """The modalities that one side of a category names, as "it" of "it2i"."""
    names = {"t": "text", "i": "image", "a": "audio", "v": "video"}
    return {names[letter] for letter in letters if letter in names}


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
            share = _scale_share(space, task_metadata)
            rows = [
                _scaled(_encode_batch(side, batch, batch_size), share, is_text="text" in batch)
                for batch in inputs
            ]
            return np.concatenate(rows) if rows else np.empty((0, space.dim), np.float32)

    return SpaceEncoder()


def _scale_share(space: Space, task_metadata: Any) -> float | None:
    """The scale of the space as a share of mteb's, for its zero-shot task of images; None where mteb's is kept.

    A scale above mteb's cannot be reached by unit vectors. A bias changes no softmax.
    """
    if getattr(task_metadata, "type", None) != "ZeroShotClassification" or not space.logit_scales:
        return None
    if list(task_metadata.modalities) != ["image", "text"]:
        return None
    scale = space.logit_scale_for(Modality.IMAGE, Modality.TEXT).scale
    return scale / MTEB_SCALE if scale < MTEB_SCALE else None


def _scaled(rows: NDArray[np.float32], share: float | None, *, is_text: bool) -> NDArray[np.float32]:
    """Unit rows (n, dim + 2) whose cosine between images and texts is `share` of that of the rows given."""
    import numpy as np

    if share is None:
        return rows
    apart = np.zeros((len(rows), 2), np.float32)
    apart[:, int(is_text)] = (1 - share) ** 0.5  # a direction that the other side does not have
    return np.hstack([rows * np.float32(share**0.5), apart])


def _encode_batch(space: Space, batch: Mapping[str, Any], batch_size: int) -> NDArray[np.float32]:
    import numpy as np

    offered = {*space.modalities, *([Modality.VIDEO] if Modality.IMAGE in space.modalities else [])}
    present = [modality for modality in MODALITIES if modality in batch and modality in offered]
    if not present:
        raise InvalidInput(
            f"a batch of mteb has {', '.join(batch)}, and the space encodes {', '.join(space.modalities)}"
        )
    total = sum(
        _frame_means(space, batch[modality], batch_size)
        if modality not in space.modalities
        else space.encode([_item(modality, value) for value in batch[modality]], batch_size=batch_size)
        for modality in present
    )
    vectors = np.asarray(total, dtype=np.float32)
    return _unit(vectors) if len(present) > 1 else vectors


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    import numpy as np

    unit: NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit


def _frame_means(space: Space, videos: Iterable[Any], batch_size: int) -> NDArray[np.float32]:
    """The normalised mean of the vectors of frames of each video, unit rows (n, dim)."""
    import numpy as np

    clips = [_frames(video) for video in videos]
    vectors = space.encode([Image(frame) for frames in clips for frame in frames], batch_size=batch_size)
    ends = np.cumsum([len(frames) for frames in clips])[:-1]
    return _unit(np.stack([part.mean(0) for part in np.split(vectors, ends)]))


def _frames(video: Any, n_frames: int | None = FRAMES) -> NDArray[np.uint8]:
    """RGB frames (t, h, w, 3), evenly spaced, of a decoder of torchcodec or of an array (t, h, w, 3) or (t, 3, h, w).

    Args:
        video: The value of a batch of mteb.
        n_frames: The number of frames; None for all.
    """
    import numpy as np

    if hasattr(video, "get_frames_at"):
        array = video.get_frames_at(_evenly_spaced(int(video.metadata.num_frames), n_frames)).data.numpy()
    else:
        array = np.asarray(video)
        array = array[_evenly_spaced(len(array), n_frames)]
    if array.shape[1] == 3 and array.shape[-1] != 3:
        array = array.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(array.astype(np.uint8))


def _evenly_spaced(total: int, count: int | None) -> list[int]:
    """The middles of `count` equal parts of `total` frames, with repeats if there are fewer; None for all."""
    kept = count or total
    return [int((place + 0.5) * total / kept) for place in range(kept)]


def _item(modality: Modality, value: Any) -> Item:
    if modality == Modality.TEXT:
        return Text(value if value.strip() else EMPTY_TEXT)
    if modality == Modality.IMAGE:
        return Image(value)
    if modality == Modality.VIDEO:
        fps = getattr(getattr(value, "metadata", None), "average_fps", None)
        return Video(_frames(value, None), fps=float(fps or 1.0))
    if hasattr(value, "get_all_samples"):  # a decoder of torchcodec
        samples = value.get_all_samples()
        value = {"array": samples.data.numpy(), "sampling_rate": int(samples.sample_rate)}
    import numpy as np

    array = np.asarray(value["array"], dtype=np.float32)  # of a list or tensor
    return Audio({"array": array, "sampling_rate": int(value["sampling_rate"])})
