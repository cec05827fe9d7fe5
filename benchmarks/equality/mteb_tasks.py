"""MTEB's own numbers on local tasks, and ours: `python -m benchmarks.equality.mteb_tasks`.

Pictures and spoken words of the gallery by the starter: zero-shot classification of images and of videos made of them,
text to image and audio to text.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import multimodal as mm

GALLERY = Path(__file__).resolve().parents[2] / "assets" / "gallery"
VIDEOS, FRAMES = 24, 8
METRICS = {
    "hit@1": "hit_rate_at_1",
    "ndcg@10": "ndcg_at_10",
    "mrr@10": "mrr_at_10",
    "map": "map_at_1000",
    "recall@5": "recall_at_5",
}


def rows(folder: str, column: str) -> list[dict[str, str]]:
    files = sorted((GALLERY / folder).iterdir())
    return [{column: str(file), "label": file.stem.replace("-", " ")} for file in files]


def about(name: str, kind: str, modalities: list[str], category: str, score: str) -> Any:
    from mteb.abstasks.task_metadata import TaskMetadata

    return TaskMetadata(
        name=name,
        description="local",
        reference=None,
        dataset={"path": "local", "revision": "1"},
        type=kind,
        category=category,
        modalities=modalities,
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=score,
        date=("2024-01-01", "2024-01-01"),
        domains=["Encyclopaedic"],
        task_subtypes=[],
        license="apache-2.0",
        annotations_creators="derived",
        dialect=[],
        sample_creation="created",
        bibtex_citation="",
    )


def zero_shot() -> Any:
    import datasets
    import PIL.Image
    from mteb.abstasks.zeroshot_classification import AbsTaskZeroShotClassification

    pictures = rows("pictures", "image")
    names = sorted(row["label"] for row in pictures)

    class LocalZeroShot(AbsTaskZeroShotClassification):  # type: ignore[misc]
        metadata = about("LocalZeroShot", "ZeroShotClassification", ["image", "text"], "i2t", "accuracy")

        def load_data(self, **options: Any) -> None:
            images = [PIL.Image.open(row["image"]).convert("RGB") for row in pictures]
            labels = [names.index(row["label"]) for row in pictures]
            data = datasets.Dataset.from_dict({"image": images, "label": labels})
            self.dataset = datasets.DatasetDict({"test": data})
            self.data_loaded = True

        def get_candidate_labels(self) -> list[str]:
            return names

    return LocalZeroShot()


def moving(path: str) -> Any:
    """A picture that moves to the right: uint8 (FRAMES, 64, 64, 3)."""
    import numpy as np
    import PIL.Image

    picture = np.asarray(PIL.Image.open(path).convert("RGB").resize((64, 64)))
    return np.stack([np.roll(picture, 2 * step, axis=1) for step in range(FRAMES)])


def video_zero_shot() -> Any:
    """Zero-shot classification of videos, as those of MVEB."""
    import datasets
    from mteb.abstasks.zeroshot_classification import AbsTaskZeroShotClassification

    own = rows("pictures", "image")[:VIDEOS]
    names = sorted(row["label"] for row in own)

    class LocalVideo(AbsTaskZeroShotClassification):  # type: ignore[misc]
        metadata = about("LocalVideo", "VideoZeroshotClassification", ["video", "text"], "v2t", "accuracy")
        input_column_name = "video"

        def load_data(self, **options: Any) -> None:
            shape = datasets.Array4D((FRAMES, 64, 64, 3), "uint8")
            features = datasets.Features({"video": shape, "label": datasets.Value("int64")})
            cells = {
                "video": [moving(row["image"]) for row in own],
                "label": [names.index(row["label"]) for row in own],
            }
            data = datasets.Dataset.from_dict(cells, features=features)
            self.dataset = datasets.DatasetDict({"test": data})
            self.data_loaded = True

        def get_candidate_labels(self) -> list[str]:
            return names

    return LocalVideo()


def video_accuracy(space: mm.Space) -> float:
    """The same with the means of frames."""
    import numpy as np

    own = rows("pictures", "image")[:VIDEOS]
    names = sorted(row["label"] for row in own)
    means = np.stack(
        [space.encode([mm.Image(frame) for frame in moving(row["image"])]).mean(0) for row in own]
    )
    answers = (means @ space.encode(names).T).argmax(1)
    return float(np.mean([names[answer] == row["label"] for answer, row in zip(answers, own, strict=True)]))


def retrieval(name: str, folder: str, column: str, to_text: bool) -> Any:
    """Text to media, or media to text."""
    import datasets
    import PIL.Image
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData

    own = rows(folder, column)

    def media(path: str) -> Any:
        if column == "image":
            return PIL.Image.open(path).convert("RGB")
        sound = mm.Audio(path).load()
        return {"array": sound.samples.tolist(), "sampling_rate": sound.rate_hz}

    class LocalRetrieval(AbsTaskRetrieval):  # type: ignore[misc]
        metadata = about(
            name,
            "Any2AnyRetrieval",
            [column, "text"],
            f"{column[0]}2t" if to_text else f"t2{column[0]}",
            "ndcg_at_10",
        )

        def load_data(self, **options: Any) -> None:
            texts = {"text": [row["label"] for row in own]}
            files = {column: [media(row[column]) for row in own]}
            queries, corpus = (files, texts) if to_text else (texts, files)
            ids = [str(number) for number in range(len(own))]
            split = RetrievalSplitData(
                queries=datasets.Dataset.from_dict({"id": [f"q{own_id}" for own_id in ids], **queries}),
                corpus=datasets.Dataset.from_dict({"id": [f"d{own_id}" for own_id in ids], **corpus}),
                relevant_docs={f"q{own_id}": {f"d{own_id}": 1} for own_id in ids},
                top_ranked=None,
            )
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    return LocalRetrieval()


def compare_on(tasks: list[Any], folder: Path) -> dict[str, dict[str, tuple[float, float]]]:
    """(theirs, ours) of each metric of each task.

    Args:
        tasks: Of those below, by name.
        folder: For MTEB's results.
    """
    from multimodal.evaluation.mteb import evaluate_mteb

    starter = mm.load("starter")
    theirs = evaluate_mteb(starter, tasks, output=folder)
    figures: dict[str, dict[str, tuple[float, float]]] = {}
    for name, scores in theirs.items():
        if name == "LocalZeroShot":
            ours = mm.evaluate(starter, rows("pictures", "image"), "classification", templates="{}")
            figures[name] = {"accuracy": (scores["accuracy"], ours.figures["accuracy"].value)}
            continue
        if name == "LocalVideo":
            figures[name] = {"accuracy": (scores["accuracy"], video_accuracy(starter))}
            continue
        place = ("sounds", "audio", "audio") if name == "LocalSpeech" else ("pictures", "image", "label")
        ours = mm.evaluate(starter, rows(*place[:2]), "retrieval", query=place[2])
        figures[name] = {metric: (scores[own], ours.figures[metric].value) for metric, own in METRICS.items()}
    return figures


def main() -> None:
    tasks = [
        zero_shot(),
        video_zero_shot(),
        retrieval("LocalNames", "pictures", "image", to_text=False),
        retrieval("LocalSpeech", "sounds", "audio", to_text=True),
    ]
    with tempfile.TemporaryDirectory() as folder:
        figures = compare_on(tasks, Path(folder))
    print(json.dumps(figures, indent=1))
    largest = max(abs(a - b) for row in figures.values() for a, b in row.values())
    print(f"largest difference {largest:.1e}")


if __name__ == "__main__":
    main()
