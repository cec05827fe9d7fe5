"""One space out of others.

bridging.py   bridge(a, b, over="text", corpus=…), the public door
corpus.py     what the bridge is learned from -> items, and which of them are held out
encoding.py   items -> vectors, in chunks that survive a stop; one bad item never ends a job
solved.py     the closed forms: orthogonal Procrustes, ridge regression
pairs.py      pseudo pairs for media that have none
memory.py     a rotation, and a memory of what it leaves over
learned.py    the small network, and how it is trained
fitting.py    vectors -> projectors, by whichever method
joining.py    projectors -> the joined space
kept.py       the folder of a bridge: unfinished, finished, or something else
report.py     Bridge, BridgeReport, recall
"""

from multimodal.adapt.bridging.api import bridge
from multimodal.adapt.bridging.report import Bridge, BridgeReport, PoorBridge

__all__ = ["Bridge", "BridgeReport", "PoorBridge", "bridge"]
