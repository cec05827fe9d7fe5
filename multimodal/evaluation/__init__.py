"""Evaluate models: figures with confidence intervals, and paired comparisons.

api          evaluate(), the public function
comparison   compare(): paired differences of two models
data         rows of folders, tables, shards and data sets
encoding     items -> vectors or answers; unreadable items, progress, resuming
figure       Figure, the bootstrap
metrics      metrics on arrays and strings
result       Evaluation: figures and the outcome of every item
tasks        what each task does with a model and rows
"""

from multimodal.evaluation.api import evaluate
from multimodal.evaluation.comparison import Comparison, compare
from multimodal.evaluation.figure import Figure
from multimodal.evaluation.result import Evaluation, ItemResult

__all__ = ["Comparison", "Evaluation", "Figure", "ItemResult", "compare", "evaluate"]
