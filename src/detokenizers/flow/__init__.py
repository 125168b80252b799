"""Rectified flow: a straight path from clean (t = 0) to noise (t = 1), times, a loss, guidance, solvers; of any rank.

clean, noise, t -interpolate-> noisy ; velocity(noisy, t), its condition bound before ; noise -euler(velocity)-> clean
"""

from .guidance import guided
from .loss import Cosmap, LossWeight, One, VPrediction, velocity_error
from .noise import noise
from .path import clean_from, interpolate, velocity
from .solvers import euler, heun
from .time_grids import TimeGrid
from .time_laws import LogitNormal, TimeLaw, Uniform
from .time_shifts import FixedShift, FluxShift, SquareRootShift, TimeShift

__all__ = [
    "Cosmap",
    "FixedShift",
    "FluxShift",
    "LogitNormal",
    "LossWeight",
    "One",
    "SquareRootShift",
    "TimeGrid",
    "TimeLaw",
    "TimeShift",
    "Uniform",
    "VPrediction",
    "clean_from",
    "euler",
    "guided",
    "heun",
    "interpolate",
    "noise",
    "velocity",
    "velocity_error",
]
