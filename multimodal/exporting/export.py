"""`export`: writes every tower of a space as an ONNX model, each in the smallest form that passes its trial."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

from multimodal.core.backends.openvino_library import require_openvino
from multimodal.core.encoder import Encoder
from multimodal.core.errors import EncoderError, InvalidInput
from multimodal.core.items import Image, Item, as_item
from multimodal.core.modality import Modality
from multimodal.core.pipeline import as_space
from multimodal.core.space import Space
from multimodal.encoders.onnx.encoders import preprocessing_of
from multimodal.encoders.onnx.folder import FORMAT, MANIFEST
from multimodal.exporting import graph, openvino_ir, readme
from multimodal.exporting.folders import free_folder, replaced
from multimodal.exporting.page.export import export_page
from multimodal.exporting.page.report import PageExport
from multimodal.exporting.report import Export, TowerReport
from multimodal.exporting.towers import TowerSpec, spec
from multimodal.exporting.trial import TrialResult, default_sample, plain_images, run_trial

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.exporting.page.export import Progress
    from multimodal.exporting.page.items import Vectors
    from multimodal.exporting.page.media import Media
    from multimodal.index import Index

Format = Literal["onnx", "openvino"]
Quantize = Literal["none", "float16", "int8", "auto"]
MIN_SAMPLE = 2
MIN_SAME_COSINE = 0.9999  # of unrounded weights: the vectors may be searched with those of the source
FLOAT_CONVOLUTIONS = (4, 6)  # that stay in float32, to try, of a tower that computes in int8
CALIBRATION_CROPS = 1  # of each sample image, beside the image itself
CALIBRATION_BATCH = 16


@overload
def export(
    space: Space | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    format: Format = "onnx",
    quantize: Quantize = "none",
    sample: Iterable[object] | None = None,
) -> Export: ...


@overload
def export(
    space: Space | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    format: Literal["page"],
    index: Index | str | os.PathLike[str],
    media: Media = "copy",
    vectors: Vectors = "auto",
    progress: Progress | None = None,
) -> PageExport: ...


def export(
    space: Space | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    format: Format | Literal["page"] = "onnx",
    quantize: Quantize = "none",
    sample: Iterable[object] | None = None,
    index: Index | str | os.PathLike[str] | None = None,
    media: Media = "copy",
    vectors: Vectors = "auto",
    progress: Progress | None = None,
) -> Export | PageExport:
    """Writes a space for ONNX Runtime or OpenVINO, or a page that searches an index in the browser.

    For a runtime, nothing is written unless every tower passes its trial.

    Args:
        space: A space, or an argument of `load`.
        folder: A new or empty folder, or one that an export wrote, which is replaced.
        format: "onnx"; "openvino" for OpenVINO's own files, which it loads without converting them; or "page": static
            files for any web host, which search the items of `index` without a server.
        quantize: How weights are stored: "none" (as they are), "float16", "int8", or
            "auto": the smallest that passes. "int8" keeps all products in float32, but for convolutional towers, which
            compute in int8 if that passes. See `TowerReport` for what is measured.
        sample: Items to compare with, of every modality. Default: images, recordings and texts of the gallery. Plain
            images (flat colours, gradients, patterns, noise) are compared in any case.
        index: For a page, an index of the space, or its folder.
        media: For a page, files of the items: "copy" into the folder, "link" to where they are, or "none".
        vectors: For a page, how vectors are stored: "float32", "float16", "int8", or "auto": float16; of
            more than 20,000 items int8, if the nearest other item of each stays the same.
        progress: For a page, called with (stage, done, total).

    Returns:
        A report for each tower; of a page, the sizes of its parts.

    Raises:
        EncoderError: A quantised tower is refused: its worst cosine is below 0.98, R@1 falls by more than a point, or a
            vector changes by more than 1e-5 with its batch. Or torch cannot export it.
        IndexStateError: The index belongs to another space.
        InvalidInput: An encoder whose family cannot be exported, an unknown option, or a folder in use.
        MissingExtra: The extra "export" is not installed, or "openvino".
    """
    if format == "page":
        if index is None:
            raise InvalidInput("format='page' searches an index; give index='memories.lance'")
        return export_page(space, folder, index, media=media, vectors=vectors, progress=progress)
    if format not in get_args(Format):
        raise InvalidInput(f"format must be 'onnx', 'openvino' or 'page', got {format!r}")
    if index is not None:
        raise InvalidInput(f"index= is for format='page', got format={format!r}; leave one of them out")
    if quantize not in get_args(Quantize):
        raise InvalidInput(f"quantize must be one of {', '.join(get_args(Quantize))}, got {quantize!r}")
    graph.require_export()
    if format == "openvino":
        require_openvino()
    target = free_folder(folder, MANIFEST, "an exported space")
    source = as_space(space)
    samples = _samples(source, sample)
    towers = [
        _export_tower(source.encoders[modality], format, quantize, samples[modality])
        for modality in source.modalities
    ]
    card = readme.card_of(source)
    report = Export(str(target), source.name, source.fingerprint, tuple(tower.report for tower in towers))
    manifest = {
        "format": FORMAT,
        "name": source.name,
        "source": source.address,
        "fingerprint": source.fingerprint,
        "dim": source.dim,
        "card": None if card is None else card.to_dict(),
        "logit_scales": [
            {"pair": None if pair is None else [str(pair[0]), str(pair[1])], "logit_scale": scale.to_dict()}
            for pair, scale in source.logit_scales.items()
        ],
        "towers": [tower.config for tower in towers],
        "report": report.to_dict() | {"folder": target.name},
    }
    _write(target, manifest, towers, readme.text(source, report, [tower.spec for tower in towers]))
    return report


class _Tower:
    """A finished tower: what export.json says of it, its files and its report."""

    def __init__(
        self, tower: TowerSpec, config: dict[str, Any], files: dict[str, bytes], report: TowerReport
    ) -> None:
        self.spec, self.config, self.files, self.report = tower, config, files, report


def _export_tower(encoder: Encoder, format: Format, quantize: Quantize, items: Sequence[Item]) -> _Tower:
    tower = spec(encoder)
    model = graph.to_onnx(tower)
    expected = encoder.encode(items)
    tried: list[str] = []
    for weights, note, candidate in _candidates(model, quantize, encoder, tower, items):
        if isinstance(candidate, EncoderError):
            tried.append(f"{weights}{note}: {candidate}")
            continue
        stem = str(encoder.modality)
        if format == "onnx":
            models = {f"{stem}.onnx": candidate.SerializeToString()}
        else:  # OpenVINO stores float16 itself
            models = openvino_ir.to_ir(model if weights == graph.FLOAT16 else candidate, weights, stem)
        name, content = next(iter(models)), b"".join(models.values())
        files = models | {f"{stem}-{file}": data for file, data in tower.files.items()}
        config = _config(encoder, tower, name, list(files), weights, content)
        result = run_trial(config, files, items, expected)
        if not result.fault:
            if weights == graph.FLOAT32 and result.worst_cosine >= MIN_SAME_COSINE:
                config["fingerprint"] = encoder.fingerprint
            report = _report(encoder, name, weights, len(content), result, len(items), tried)
            return _Tower(tower, config, files, report)
        tried.append(f"{weights}{note}: {result.fault}")
    cure = "use quantize='float16'" if quantize == "int8" else "report it with the name of the model"
    raise EncoderError(f"the {encoder.modality} tower is refused ({'; '.join(tried)}): {cure}")


def _candidates(
    model: Any, quantize: Quantize, encoder: Encoder, tower: TowerSpec, items: Sequence[Item]
) -> Iterator[tuple[str, str, Any]]:
    """Models to try, the fastest first: what their weights are, a note, and an EncoderError if it cannot be made."""
    if quantize in ("int8", "auto"):
        if graph.is_convolutional(model):
            batches = list(_calibration(tower, encoder.modality, items))
            for n_float in FLOAT_CONVOLUTIONS:
                note = f" but for {n_float} convolutions"
                try:
                    yield graph.STATIC, note, graph.static(model, batches, n_float)
                except EncoderError as error:
                    yield graph.STATIC, note, error
        yield graph.INT8, "", graph.with_weights(model, graph.INT8)
    if quantize in ("float16", "auto"):
        yield graph.FLOAT16, "", graph.with_weights(model, graph.FLOAT16)
    if quantize in ("none", "auto"):
        yield graph.FLOAT32, "", graph.with_weights(model, graph.FLOAT32)


def _config(
    encoder: Encoder, tower: TowerSpec, name: str, files: list[str], weights: str, content: bytes
) -> dict[str, Any]:
    """The entry in export.json. The fingerprint is its own; the caller sets the source's."""
    preprocessing = dict(tower.preprocessing)
    if "tokenizer" in preprocessing:
        preprocessing["tokenizer"] = f"{encoder.modality}-{preprocessing['tokenizer']}"
    digest = hashlib.sha256(content + json.dumps(preprocessing, sort_keys=True).encode()).hexdigest()
    return {
        "modality": str(encoder.modality), "dim": encoder.dim, "model": name, "files": files,
        "preprocessing": preprocessing, "precision": weights,
        "fingerprint": digest,
        "source_fingerprint": encoder.fingerprint, "space_id": encoder.space_id, "max_input": encoder.max_input,
    }  # fmt: skip


def _report(
    encoder: Encoder,
    name: str,
    weights: str,
    n_bytes: int,
    result: TrialResult,
    n_items: int,
    tried: list[str],
) -> TowerReport:
    return TowerReport(
        str(encoder.modality), name, weights, n_bytes, round(result.load_ms, 1), round(result.item_ms, 3),
        round(result.worst_cosine, 6), round(result.recall, 4), float(f"{result.batch_change:.2g}"), n_items,
        tuple(tried),
    )  # fmt: skip


def _calibration(
    tower: TowerSpec, modality: Modality, items: Sequence[Item]
) -> Iterator[dict[str, NDArray[Any]]]:
    """Inputs for calibration: the sample, and crops of its images."""
    import numpy as np

    prepare = preprocessing_of(modality, tower.preprocessing, tower.files)
    rng = np.random.default_rng(0)
    extended = list(items)
    for item in items:
        if isinstance(item, Image):
            rgb = item.load()
            extended += [Image(_crop(rgb, rng)) for _ in range(CALIBRATION_CROPS)]
    for start in range(0, len(extended), CALIBRATION_BATCH):
        batch = prepare(extended[start : start + CALIBRATION_BATCH])
        yield {name: batch[name] for name in tower.inputs}


def _crop(rgb: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    height, width = rgb.shape[:2]
    share = rng.uniform(0.5, 1)
    rows, columns = max(1, int(share * height)), max(1, int(share * width))
    top, left = rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1)
    return rgb[top : top + rows, left : left + columns]


def _samples(space: Space, sample: Iterable[object] | None) -> Mapping[Modality, list[Item]]:
    """The sample items of each modality of a space, and plain images. Raises InvalidInput."""
    samples = _own_samples(space, sample)
    if Modality.IMAGE in samples:
        samples[Modality.IMAGE] = [*samples[Modality.IMAGE], *map(Image, plain_images())]
    return samples


def _own_samples(space: Space, sample: Iterable[object] | None) -> dict[Modality, list[Item]]:
    if sample is None:
        return {modality: default_sample(modality) for modality in space.modalities}
    items = [as_item(value) for value in sample]
    by_modality = {
        modality: [item for item in items if item.modality == modality] for modality in space.modalities
    }
    for modality, own in by_modality.items():
        if len(own) < MIN_SAMPLE:
            raise InvalidInput(
                f"the sample has {len(own)} {modality} items, at least {MIN_SAMPLE} are needed; add some, or leave "
                "sample= out to compare with the gallery"
            )
    return by_modality


def _write(target: Path, manifest: Mapping[str, Any], towers: Sequence[_Tower], about: str) -> None:
    """Writes the folder in one step, replacing an earlier export."""
    with replaced(target) as new:
        for tower in towers:
            for name, content in tower.files.items():
                (new / name).write_bytes(content)
        (new / MANIFEST).write_text(
            json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        (new / "README.md").write_text(about, encoding="utf-8")
