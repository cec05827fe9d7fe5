"""Worker threads at the end of the interpreter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path


def test_threads_at_work_are_waited_for_at_the_end_of_the_interpreter() -> None:
    code = (
        "import os, sys, time\n"
        "from multimodal.index.ingest.workers import Inbox, Workers\n"
        "workers = Workers(2, Inbox(), 'test')\n"
        "def work():\n"
        "    time.sleep(0.5)\n"
        "    os.write(1, b'done ')\n"
        "for _ in range(6): workers.submit(work, print)\n"
        "time.sleep(0.1)\n"
        "raise KeyboardInterrupt\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "done done "  # those that ran; the others are dropped
    assert done.returncode == -signal.SIGINT
