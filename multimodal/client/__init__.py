"""A client of `multimodal serve`, by the standard library alone: nothing here imports torch, and most of it no numpy.

- `transport`: requests, retries and errors
- `payload`: items as JSON
- `tasks`: captions, transcripts, images and answers, with the result types of the pipelines
- `remote`: `connect`, and the server's model and index as a Space and an Index
"""
