"""HTTP server: embeddings, search, captions, images and transcripts for clients that exist already.

`app.create_app` builds the ASGI application, `run.serve` runs it under uvicorn, and `multimodal serve` calls that.
How a module adds endpoints is described in `app`.
"""
