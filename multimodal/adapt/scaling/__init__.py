"""Scaling laws: how the loss falls with the size of a model and with the data it is trained on.

`fit(runs)` fits L(N, D) = E + A / N^alpha + B / D^beta to a table of finished training runs. Its modules:

    api        fit(), extrapolate(): the public functions
    runs       reads and checks tables of runs
    huber      the fit of many laws at once by the Huber loss on logarithms
    law        ScalingLaw: predictions, the compute-optimal size, report
    isoflop    the best size at equal compute, read off the runs
    plot       figures as SVG
"""

from multimodal.adapt.scaling.api import Extrapolation, extrapolate, fit
from multimodal.adapt.scaling.isoflop import IsoFlop
from multimodal.adapt.scaling.law import ComputeOptimal, Estimate, ScalingLaw

__all__ = ["ComputeOptimal", "Estimate", "Extrapolation", "IsoFlop", "ScalingLaw", "extrapolate", "fit"]
