"""A local server that speaks the protocol of Amazon S3, and what tests do in it."""

from __future__ import annotations

import logging
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNED = "AWS4-HMAC-SHA256 Credential=k/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x"
VARIABLES = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s3cr3t-value", "AWS_REGION": "us-east-1"}


@contextmanager
def served() -> Iterator[str]:
    """The URL of a server with its data in memory.

    One request at a time: moto looks whether an object exists and then writes it, so that of two conditional writes at
    once both may succeed.
    """
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def one_at_a_time(environ: Any, start_response: Any) -> Any:
        with lock:
            return application(environ, start_response)

    server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def request(method: str, url: str, content: bytes | None = None) -> bytes:
    """One request by hand, such as one that creates a bucket."""
    headers = {"Authorization": SIGNED}
    with urllib.request.urlopen(urllib.request.Request(url, content, headers, method=method)) as response:
        answer: bytes = response.read()
        return answer
