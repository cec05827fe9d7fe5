"""Infinity, another server of embeddings, in a process of its own with the Python of another environment.

infinity-emb 0.0.78 does not run with the versions of transformers and sentence-transformers that this toolkit needs. An
environment that shares everything else:

    python3 -m venv infinity
    infinity/bin/pip install --no-deps infinity-emb==0.0.78 'transformers<4.58' 'sentence-transformers<3.5' \\
        'huggingface_hub<1' 'tokenizers<0.23' 'datasets<4.5' prometheus-fastapi-instrumentator
    python -c 'import site; print(site.getsitepackages()[0])' > infinity/lib/python3.11/site-packages/shared.pth
"""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.load import READY_S, Request, ServerProcess, is_ready, json_request

MODEL = "clip"
SCRIPT = f"""
import sys, uvicorn
from infinity_emb import EngineArgs
from infinity_emb.infinity_server import create_server
engine = EngineArgs(model_name_or_path=sys.argv[1], served_model_name={MODEL!r}, engine="torch", device="cpu",
                    bettertransformer=False, compile=False, model_warmup=False)
uvicorn.run(create_server(engine_args_list=[engine]), host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
"""


@contextlib.contextmanager
def infinity(python: str, folder: Path, core: int = 0) -> Iterator[ServerProcess]:
    """Starts Infinity with a checkpoint of transformers, on one core."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    environment.pop("PYTHONPATH", None)
    start = time.perf_counter()
    command = [python, "-c", SCRIPT, str(folder), str(port)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        os.sched_setaffinity(process.pid, {core})
        url = f"http://127.0.0.1:{port}"
        try:
            while not is_ready(f"{url}/health"):
                if process.poll() is not None or time.perf_counter() > start + READY_S:
                    raise RuntimeError("Infinity did not become ready")
                time.sleep(0.1)
            server = ServerProcess(url, process.pid, time.perf_counter() - start, 0.0)
            server.ready_core_s = server.core_s()
            yield server
        finally:
            process.terminate()


def requests(values: Sequence[Any]) -> list[Request]:
    """One request for each text, or image as {"image": base64}."""
    return [json_request("/embeddings", _content(value)) for value in values]


def _content(value: Any) -> dict[str, Any]:
    common = {"model": MODEL, "encoding_format": "base64"}
    if isinstance(value, str):
        return common | {"input": [value]}
    kind = "png" if base64.b64decode(value["image"][:12])[:4] == b"\x89PNG" else "jpeg"
    return common | {"input": [f"data:image/{kind};base64,{value['image']}"], "modality": "image"}
