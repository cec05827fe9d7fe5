"""Export: writes a space for ONNX Runtime, with quantisation that is checked against the source before it is kept.

The folder opens again with `load("onnx/./folder")`, without torch, and its models run wherever ONNX Runtime does. Or
writes a page that searches an index in the browser (`page`).
"""

from multimodal.exporting.export import export
from multimodal.exporting.page import PageExport
from multimodal.exporting.report import Export, TowerReport

__all__ = ["Export", "PageExport", "TowerReport", "export"]
