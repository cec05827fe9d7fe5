"""Adapt models: align embedding spaces, classify by a few examples, fine-tune; fit scaling laws.

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

`finetune(space, data)` trains encoders on pairs and measures gain and forgetting. Its modules, in `finetuning`:

    api          finetune(), the public function
    options      its options and their defaults
    data         reads pairs from tables, folders, archives and data sets
    split        training, validation and held-out pairs without leaks
    examples     pairs with their vectors before training
    reference    pairs of what the space knew before
    targets      the layers of each architecture that get adapters
    towers       the trainable copy of an encoder
    losses       CLIP, SigLIP, several positives, hard negatives, Matryoshka
    gradients    the gradient of a large batch in parts, on several devices
    loop         training; checkpoint: its state on disk
    judge        figures with intervals
    report, plot FinetuneReport and its page
    output       the folder of the result

`align(pipeline, preferences)` makes a decoder write what is preferred. Its modules, in `alignment`:

    api              align(), the public function
    preferences      reads preferences; a judge's choice among samples
    objectives       losses
    policy           what a captioner offers to be aligned
    captioner        the training of a captioner, with replay and interpolation
    language_model   language models, by TRL
    report           Alignment, AlignmentReport

`scaling.fit(runs)` fits a scaling law to training runs; see `scaling`.
"""

from multimodal.adapt import scaling
from multimodal.adapt.alignment.api import align
from multimodal.adapt.alignment.report import Alignment, AlignmentReport
from multimodal.adapt.bridging.api import bridge
from multimodal.adapt.bridging.report import Bridge, BridgeReport, PoorBridge
from multimodal.adapt.fewshot.api import few_shot
from multimodal.adapt.fewshot.classifier import Classifier
from multimodal.adapt.fewshot.result import FewShotClassification, FewShotReport
from multimodal.adapt.finetuning.api import finetune
from multimodal.adapt.finetuning.judge import Figure
from multimodal.adapt.finetuning.report import FinetuneReport
from multimodal.core.adapters import apply_adapters

__all__ = [
    "Alignment",
    "AlignmentReport",
    "Bridge",
    "BridgeReport",
    "Classifier",
    "FewShotClassification",
    "FewShotReport",
    "Figure",
    "FinetuneReport",
    "PoorBridge",
    "align",
    "apply_adapters",
    "bridge",
    "few_shot",
    "finetune",
    "scaling",
]
