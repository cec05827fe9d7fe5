__version__: str

from .core.card import Card as Card
from .core.catalog import cards as cards
from .core.catalog import load as load
from .core.check import Check as Check
from .core.encoder import Encoder as Encoder
from .core.errors import MultimodalError as MultimodalError
from .core.limits import Limits as Limits
from .core.limits import get_limits as get_limits
from .core.limits import limits as limits
from .core.limits import set_limits as set_limits
from .core.pipeline import Pipeline as Pipeline
from .core.pipeline import pipeline as pipeline
from .core.space import Head as Head
from .core.space import Space as Space
from .core.types import Audio as Audio
from .core.types import Frames as Frames
from .core.types import Image as Image
from .core.types import Modality as Modality
from .core.types import Text as Text
from .core.types import Video as Video
from .core.types import Waveform as Waveform
from .core.types import as_item as as_item
from .index import Hit as Hit
from .index import Index as Index
from .pipelines.classification import ZeroShotClassificationPipeline as ZeroShotClassificationPipeline
from .pipelines.retrieval import RetrievalPipeline as RetrievalPipeline
