"""What takes seconds: captioning, transcription and generation, each in a lane with one worker.

- `lane`: the bounded queue of a worker, cancellation and progress
- `models`: the pipelines by the names that requests give
- `events`: server-sent events
"""
