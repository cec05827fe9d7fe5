"""Cards of well-known models of sentence-transformers, and which of them share a space.

A pinned revision is one that several public projects agree on; without one, the newest is loaded and `space.revisions`
records it.
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
        description="English sentences and short paragraphs, up to 256 tokens; small and fast",
    ),
    Card(
        name="st/all-mpnet-base-v2",
        modalities=(TEXT,),
        dim=768,
        licence="Apache-2.0",
        source="sentence-transformers/all-mpnet-base-v2",
        size_mb=438,
        revision="e8c3b32edf5434bc2275fc9bab85f82640a19130",
        description="English sentences and short paragraphs, up to 384 tokens",
    ),
    Card(
        name="st/Snowflake/snowflake-arctic-embed-m-v1.5",
        modalities=(TEXT,),
        dim=768,
        licence="Apache-2.0",
        source="Snowflake/snowflake-arctic-embed-m-v1.5",
        size_mb=436,
        matryoshka=(256,),
        description="English retrieval; its vectors may be cut to 256 numbers",
    ),
    Card(
        name="st/BAAI/bge-small-en-v1.5",
        modalities=(TEXT,),
        dim=384,
        licence="MIT",
        source="BAAI/bge-small-en-v1.5",
        size_mb=133,
        revision="5c38ec7c405ec4b44b94cc5a9bb96e735b38267a",
        description="English retrieval; queries need the prompt 'Represent this sentence for searching "
        "relevant passages: ', which the model does not define: prompts={'query': …}",
    ),
    Card(
        name="st/intfloat/multilingual-e5-small",
        modalities=(TEXT,),
        dim=384,
        licence="MIT",
        source="intfloat/multilingual-e5-small",
        size_mb=471,
        revision="614241f622f53c4eeff9890bdc4f31cfecc418b3",
        description="retrieval in about 100 languages; texts need the prompt 'query: ' or 'passage: ', which the "
        "model does not define: prompts={'query': 'query: ', 'document': 'passage: '}",
    ),
    Card(
        name="st/Qwen/Qwen3-Embedding-0.6B",
        modalities=(TEXT,),
        dim=1024,
        licence="Apache-2.0",
        source="Qwen/Qwen3-Embedding-0.6B",
        size_mb=1192,
        description="retrieval of text in over 100 languages and of source code, up to 32,768 tokens; with "
        "prompt='document', queries are encoded with its instruction",
    ),
    Card(
        name="st/nomic-ai/CodeRankEmbed",
        modalities=(TEXT,),
        dim=768,
        licence="MIT",
        source="nomic-ai/CodeRankEmbed",
        size_mb=548,
        base="Snowflake/snowflake-arctic-embed-m-long",
        description="source code; queries need the prompt 'Represent this query for searching relevant code: ', "
        "prompts={'query': …}. Its authors load it with code of the repository, which is never run here: it loads "
        "only where transformers itself has its architecture",
        figure="CodeSearchNet 77.9",
    ),
    Card(
        name="st/jinaai/jina-code-embeddings-0.5b",
        modalities=(TEXT,),
        dim=896,
        licence="CC-BY-NC-4.0",
        source="jinaai/jina-code-embeddings-0.5b",
        size_mb=988,
        commercial=False,
        base="Qwen/Qwen2.5-Coder-0.5B",
        matryoshka=(64, 128, 256, 512),
        description="source code by words, up to 32,768 tokens; its prompts are named by task: "
        "prompt='nl2code_document' for functions, 'nl2code_query' for queries",
        figure="CoIR 73.9",
    ),
    Card(
        name="st/jinaai/jina-embeddings-v2-base-code",
        modalities=(TEXT,),
        dim=768,
        licence="Apache-2.0",
        source="jinaai/jina-embeddings-v2-base-code",
        size_mb=322,
        description="English and 30 programming languages, up to 8,192 tokens. Its authors load it with code of the "
        "repository, which is never run here: expect load to refuse it",
        figure="CodeSearchNet 67.2",
    ),
    Card(
        name="st/clip-ViT-B-32",
        modalities=(TEXT, IMAGE),
        dim=512,
        licence="none stated (OpenAI's CLIP: MIT)",
        source="sentence-transformers/clip-ViT-B-32",
        size_mb=605,
        revision="327ab6726d33c0e22f920c83f2ff9e4bd38ca37f",
        description="OpenAI's CLIP ViT-B/32: image and English text of up to 77 tokens",
        figure="ImageNet 63.3",
    ),
    Card(
        name="st/clip-ViT-B-32-multilingual-v1",
        modalities=(TEXT,),
        dim=512,
        licence="Apache-2.0",
        source="sentence-transformers/clip-ViT-B-32-multilingual-v1",
        size_mb=539,
        description="text in more than 50 languages, in the space of st/clip-ViT-B-32",
    ),
)
# name -> the space it was trained into, if that of another model
SAME_SPACE = {"st/clip-ViT-B-32-multilingual-v1": "st/clip-ViT-B-32"}
