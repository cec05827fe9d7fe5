"""Align embedding spaces.

`bridge(a, b, corpus=…)` aligns two spaces through a shared modality, without paired data. Its modules, in `bridging`:

    api          bridge(), the public function
    corpus       reads the corpus and unpaired media; held-out split
    encoding     items -> vectors, resumable; items that fail are skipped
    linear       orthogonal Procrustes, ridge regression
    pairs        pseudo pairs for unpaired media
    kernel       a rotation with a kernel regression on its residuals
    mlp          a small network and its training
    fitting      vectors -> projectors, by any method
    assemble     projectors -> the joined space
    checkpoint   the folder of a bridge, finished or unfinished
    report       Bridge, BridgeReport, recall
"""

from multimodal.adapt.bridging.api import bridge
from multimodal.adapt.bridging.report import Bridge, BridgeReport, PoorBridge

__all__ = ["Bridge", "BridgeReport", "PoorBridge", "bridge"]
