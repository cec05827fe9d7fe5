"""Pipelines, one module or package per task. Imports as ``multimodal.pipelines``, and under no other name."""

if not __name__.startswith("multimodal."):
    raise ImportError(
        f"this folder was imported as {__name__!r}, but it is part of the package 'multimodal': "
        "write 'import multimodal.pipelines' (from a checkout, run with its root on PYTHONPATH)"
    )

# {task: "module:Class"}, so that asking for one task imports the module of no other.
TASKS = {
    "answering": "multimodal.pipelines.answering.pipeline:AnsweringPipeline",
    "captioning": "multimodal.pipelines.captioning.pipeline:CaptioningPipeline",
    "feature-extraction": "multimodal.pipelines.feature_extraction:FeatureExtractionPipeline",
    "generation": "multimodal.pipelines.generation.pipeline:GenerationPipeline",
    "retrieval": "multimodal.pipelines.retrieval:RetrievalPipeline",
    "transcription": "multimodal.pipelines.transcription.pipeline:TranscriptionPipeline",
    "zero-shot-classification": "multimodal.pipelines.classification.pipeline:ZeroShotClassificationPipeline",
}

# Task names of the Hugging Face Hub.
ALIASES = {
    "automatic-speech-recognition": "transcription",
    "document-question-answering": "answering",
    "image-text-to-text": "captioning",
    "image-to-text": "captioning",
    "question-answering": "answering",
    "text-to-audio": "generation",
    "text-to-image": "generation",
    "visual-question-answering": "answering",
    "zero-shot-audio-classification": "zero-shot-classification",
    "zero-shot-image-classification": "zero-shot-classification",
}
