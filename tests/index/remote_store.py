"""A local server that speaks the protocol of Amazon S3, and what tests do in it."""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

SIGNED = "AWS4-HMAC-SHA256 Credential=k/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x"
VARIABLES = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s3cr3t-value", "AWS_REGION": "us-east-1"}


@contextmanager
def served() -> Iterator[str]:
    """The URL of a server with its data in memory."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def request(method: str, url: str, content: bytes | None = None) -> bytes:
    """One request by hand, such as one that creates a bucket."""
    headers = {"Authorization": SIGNED}
    with urllib.request.urlopen(urllib.request.Request(url, content, headers, method=method)) as response:
        answer: bytes = response.read()
        return answer
