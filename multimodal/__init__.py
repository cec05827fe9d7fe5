"""One shared embedding space for text, image, audio and video.

Public names are loaded on first use, so that `import multimodal` imports nothing heavy. `__init__.pyi` lists them.
"""

from multimodal.cli import early as _early

if _early.may_be_command_line():
    _early.catch()  # until the end of this import; the command line itself catches Ctrl-C after it

from typing import Any

import lazy_loader as _lazy

__version__ = "0.2.0"

_load, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)

# Deprecated public names and what replaces them.
_RENAMED = {"Check": "SelfTestReport", "Head": "LogitScale", "draw_map": "plot_map"}


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        from multimodal.core.deprecation import warn_deprecated

        warn_deprecated(f"multimodal.{name}", f"multimodal.{_RENAMED[name]}")
        return _load(_RENAMED[name])
    return _load(name)


_early.release()
