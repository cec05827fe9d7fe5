"""Well-known sentence-transformers models, and which of them share a space."""

from __future__ import annotations

from multimodal.core.card import Card
from multimodal.core.types import Modality

TEXT, IMAGE = Modality.TEXT, Modality.IMAGE
CARDS = (
    Card(
        name="st/all-MiniLM-L6-v2",
        modalities=(TEXT,),
        dim=384,
        licence="Apache-2.0",
        source="sentence-transformers/all-MiniLM-L6-v2",
        size_mb=91,
        description="English sentences and short paragraphs, up to 256 word pieces; small and quick",
    ),
    Card(
        name="st/all-mpnet-base-v2",
        modalities=(TEXT,),
        dim=768,
        licence="Apache-2.0",
        source="sentence-transformers/all-mpnet-base-v2",
        size_mb=438,
        description="English sentences and short paragraphs, up to 384 word pieces",
    ),
    Card(
        name="st/BAAI/bge-small-en-v1.5",
        modalities=(TEXT,),
        dim=384,
        licence="MIT",
        source="BAAI/bge-small-en-v1.5",
        size_mb=133,
        description="English retrieval; a query begins with 'Represent this sentence for searching relevant "
        "passages: ', which the model does not say itself: prompts={'query': …}",
    ),
    Card(
        name="st/intfloat/multilingual-e5-small",
        modalities=(TEXT,),
        dim=384,
        licence="MIT",
        source="intfloat/multilingual-e5-small",
        size_mb=471,
        description="retrieval in about 100 languages; every text begins with 'query: ' or 'passage: ', which the "
        "model does not say itself: prompts={'query': 'query: ', 'document': 'passage: '}",
    ),
    Card(
        name="st/clip-ViT-B-32",
        modalities=(TEXT, IMAGE),
        dim=512,
        licence="none stated (OpenAI's CLIP: MIT)",
        source="sentence-transformers/clip-ViT-B-32",
        size_mb=605,
        description="OpenAI's CLIP ViT-B/32: pictures and English texts of up to 77 tokens",
        figure="ImageNet 63.3",
    ),
    Card(
        name="st/clip-ViT-B-32-multilingual-v1",
        modalities=(TEXT,),
        dim=512,
        licence="Apache-2.0",
        source="sentence-transformers/clip-ViT-B-32-multilingual-v1",
        size_mb=539,
        description="texts in more than 50 languages, in the space of st/clip-ViT-B-32's pictures",
    ),
)
# name -> the name of the space it was trained into, where that is another's
SAME_SPACE = {"st/clip-ViT-B-32-multilingual-v1": "st/clip-ViT-B-32"}
