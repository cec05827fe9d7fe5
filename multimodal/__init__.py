"""Many foundation models as one: text, pictures and sounds in one shared space.

Public names are loaded when first used, so that `import multimodal` imports nothing heavy. They are listed in
`__init__.pyi`.
"""

import lazy_loader as _lazy

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
