"""Static pages: a folder of files in which a browser searches an index, without a server.

The towers of the starter are small enough to run as plain JavaScript (`site/`): text, images and speech are encoded in
the browser from the weights that ship with the package, in float32, with the same vectors as here.

    export_page   the folder: export.py
    PageExport    what was written: report.py
    model.py      weights and vocabulary; characters.py: what the tokenizer makes of each character
    items.py      rows, vectors, and what calibration needs
    media.py      thumbnails, waveforms, files
    icons.py, readme.py
"""

from multimodal.exporting.page.export import export_page
from multimodal.exporting.page.report import PageExport

__all__ = ["PageExport", "export_page"]
