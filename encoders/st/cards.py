"""Well-known sentence-transformers models, and which of them share a space.

A revision is what several public projects that pin the repository agree on; without one a name stands for the newest,
and `space.revisions` says which that was.
"""

from __future__ import annotations

from multimodal.core.card import Card
from multimodal.core.modality import Modality

TEXT, IMAGE = Modality.TEXT, Modality.IMAGE
CARDS = (
    Card(
        name="st/all-MiniLM-L6-v2",
        modalities=(TEXT,),
        dim=384,
        licence="Apache-2.0",
        source="sentence-transformers/all-MiniLM-L6-v2",
        size_mb=91,
        revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
        description="English sentences and short paragraphs, up to 256 word pieces; small and quick",
    ),
    Card(
        name="st/all-mpnet-base-v2",
        modalities=(TEXT,),
        dim=768,
        licence="Apache-2.0",
        source="sentence-transformers/all-mpnet-base-v2",
        size_mb=438,
        revision="e8c3b32edf5434bc2275fc9bab85f82640a19130",
        description="English sentences and short paragraphs, up to 384 word pieces",
    ),
    Card(
        name="st/BAAI/bge-small-en-v1.5",
        modalities=(TEXT,),
        dim=384,
        licence="MIT",
        source="BAAI/bge-small-en-v1.5",
        size_mb=133,
        revision="5c38ec7c405ec4b44b94cc5a9bb96e735b38267a",
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
        revision="614241f622f53c4eeff9890bdc4f31cfecc418b3",
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
        revision="327ab6726d33c0e22f920c83f2ff9e4bd38ca37f",
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
