__version__: str

from . import adapt as adapt
from .adapt.fewshot.loading import load_classifier as load_classifier
from .core import errors as errors
from .core.card import Card as Card
from .core.catalog import cards as cards
from .core.catalog import load as load
from .core.encoder import Encoder as Encoder
from .core.errors import MultimodalError as MultimodalError
from .core.families import register_family as register_family
from .core.items import Audio as Audio
from .core.items import Image as Image
from .core.items import Text as Text
from .core.items import Video as Video
from .core.items import as_item as as_item
from .core.limits import Limits as Limits
from .core.limits import get_limits as get_limits
from .core.limits import limits as limits
from .core.limits import set_limits as set_limits
from .core.media.registry import Excerpt as Excerpt
from .core.media.registry import ItemChunk as ItemChunk
from .core.media.registry import MediaType as MediaType
from .core.media.registry import register_media_type as register_media_type
from .core.media.registry import unregister_media_type as unregister_media_type
from .core.modality import Frames as Frames
from .core.modality import Modality as Modality
from .core.modality import Waveform as Waveform
from .core.pipeline import Pipeline as Pipeline
from .core.pipeline import pipeline as pipeline
from .core.pipeline import register_pipeline as register_pipeline
from .core.self_test import SelfTestReport as SelfTestReport
from .core.space import LogitScale as LogitScale
from .core.space import Space as Space
from .evaluation import Comparison as Comparison
from .evaluation import Evaluation as Evaluation
from .evaluation import Figure as Figure
from .evaluation import compare as compare
from .evaluation import evaluate as evaluate
from .index import Hit as Hit
from .index import Index as Index
from .pipelines.answering.pipeline import Answer as Answer
from .pipelines.answering.pipeline import AnsweringPipeline as AnsweringPipeline
from .pipelines.answering.pipeline import Citation as Citation
from .pipelines.captioning.pipeline import Caption as Caption
from .pipelines.captioning.pipeline import CaptioningPipeline as CaptioningPipeline
from .pipelines.classification.pipeline import (
    ZeroShotClassificationPipeline as ZeroShotClassificationPipeline,
)
from .pipelines.generation.pipeline import Generation as Generation
from .pipelines.generation.pipeline import GenerationPipeline as GenerationPipeline
from .pipelines.retrieval import RetrievalPipeline as RetrievalPipeline
from .pipelines.transcription.pipeline import Transcription as Transcription
from .pipelines.transcription.pipeline import TranscriptionPipeline as TranscriptionPipeline
from .views import plot_map as plot_map
from .views import similarity_heatmap as similarity_heatmap
