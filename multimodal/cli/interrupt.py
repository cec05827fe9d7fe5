"""Ctrl-C at any moment of a command ends it with a message and exit code 130: no traceback, and no abort.

Ctrl-C while a library in C is being imported arrives as an ImportError or worse; `requested` tells that it was meant.
In a finalizer or a callback it cannot be raised: Python would report it and go on, so it is sent once more. Worker
threads that still run at the end of the interpreter would abort the process from C++ code: a command that fails
or is stopped leaves without tearing the interpreter down. This module imports nothing heavy.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from multimodal.cli import early

INTERRUPTED = early.INTERRUPTED
AGAIN_AFTER_S = 0.02  # after which a finalizer has ended
_requested = False
_owns_process = False


def owns_process() -> bool:
    """Whether this process runs one command of the command line and nothing else."""
    return _owns_process


def requested() -> bool:
    """Whether Ctrl-C was pressed in this command."""
    return _requested


def run(command: Callable[[], object]) -> None:
    """Runs a command line to its end, and ends the process unless it succeeded."""
    global _owns_process
    _owns_process = True
    # Not where a shell or a host ignores it
    if signal.getsignal(signal.SIGINT) in (signal.default_int_handler, early.end):
        signal.signal(signal.SIGINT, _interrupt)
        sys.unraisablehook = functools.partial(_send_again, sys.unraisablehook)
    try:
        command()
        _succeed()
    except SystemExit as ending:
        if ending.code in (None, 0):
            _succeed()
            raise
        if not isinstance(ending.code, int):
            print(ending.code, file=sys.stderr)
        _leave(ending.code if isinstance(ending.code, int) else 1)
    except BaseException as error:
        if not _requested and not isinstance(error, KeyboardInterrupt):
            raise
        print(early.MESSAGE, file=sys.stderr)
        _leave(INTERRUPTED)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    global _requested
    _requested = True
    raise KeyboardInterrupt


def _send_again(
    report: Callable[[sys.UnraisableHookArgs], object], unraisable: sys.UnraisableHookArgs
) -> None:
    """Sends Ctrl-C once more if it was lost, and reports every other exception that cannot be raised."""
    if not isinstance(unraisable.exc_value, KeyboardInterrupt):
        report(unraisable)
        return
    timer = threading.Timer(AGAIN_AFTER_S, os.kill, (os.getpid(), signal.SIGINT))
    timer.daemon = True
    timer.start()


def _succeed() -> None:
    """Lets Ctrl-C end the process at once from here on, where the interpreter would print a traceback."""
    if signal.getsignal(signal.SIGINT) is _interrupt:
        signal.signal(signal.SIGINT, early.end)


def _leave(code: int) -> NoReturn:
    """Ends the process after what was registered for its end, such as removing temporary files."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # the reader has closed the pipe
            stream.flush()
    os._exit(code)
