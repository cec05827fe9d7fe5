"""Audit models: findings that each stand beside a control, and failures that models share.

api         audit(), the public function
checks      one module for each kind of check
finding     Finding, AuditReport
fleet       audit_fleet(): do all models in use fail on the same items?
generators  damaged images and audio, written words, drawn shapes
lineage     which models share weights
material    what is tested on
models      spaces and classifiers that are compared
words       word lists of the association tests
"""

from multimodal.auditing.api import audit
from multimodal.auditing.finding import AuditReport, Example, Finding
from multimodal.auditing.fleet import FleetReport, audit_fleet

__all__ = ["AuditReport", "Example", "Finding", "FleetReport", "audit", "audit_fleet"]
