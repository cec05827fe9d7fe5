"""Adapt models: align embedding spaces, classify by a few examples.

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

`few_shot(space, examples)` makes a classifier from a few labelled examples. Its modules, in `fewshot`:

    api            few_shot(), the public function
    examples       reads and encodes labelled examples
    discriminant   the classifier of vectors, and its leave-one-out scores
    prior          the share of the labels' words
    conformal      candidates and rejection
    classifier     Classifier
    result         FewShotClassification, FewShotReport
    storage        one file per classifier
    loading        load_classifier()
"""

from multimodal.adapt.bridging.api import bridge
from multimodal.adapt.bridging.report import Bridge, BridgeReport, PoorBridge
from multimodal.adapt.fewshot.api import few_shot
from multimodal.adapt.fewshot.classifier import Classifier
from multimodal.adapt.fewshot.result import FewShotClassification, FewShotReport

__all__ = [
    "Bridge",
    "BridgeReport",
    "Classifier",
    "FewShotClassification",
    "FewShotReport",
    "PoorBridge",
    "bridge",
    "few_shot",
]
