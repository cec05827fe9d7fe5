"""Ctrl-C before the command line is imported, or after its work is done: its message and exit code, no traceback.

`multimodal/__init__.py` and `multimodal/__main__.py` import this first. It imports only what every interpreter has
imported already. Before that, Ctrl-C belongs to Python itself, which starts in some 20 ms.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what `signal` is made of, without the import of enum
import os
import sys
from types import FrameType

INTERRUPTED = 130  # the exit code
MESSAGE = "stopped"
NAMES = ("-m", "multimodal", "multimodal.exe")  # of a process that may become the command line


def may_be_command_line() -> bool:
    """Whether this process may be `multimodal …` or `python -m multimodal …`."""
    program = (getattr(sys, "argv", None) or [""])[0]
    return program.replace("\\", "/").rpartition("/")[2] in NAMES


def catch() -> None:
    """Lets Ctrl-C end the process at once, unless a shell or a host ignores it or handles it."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        try:
            _signal.signal(_signal.SIGINT, end)
        except ValueError:  # only the main thread may, and Ctrl-C interrupts no other
            return


def release() -> None:
    """Undoes `catch`."""
    if _signal.getsignal(_signal.SIGINT) is end:
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)


def end(signum: int, frame: FrameType | None) -> None:
    """Ends the process. Nothing is cleaned up: there is nothing yet, or no longer."""
    os.write(2, f"{MESSAGE}\n".encode())
    os._exit(INTERRUPTED)
