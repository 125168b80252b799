"""Textbook rectified flow: a straight path from clean (t = 0) to noise (t = 1), a time law, a loss, solvers.

clean, noise, t -interpolate-> noisy ; net(noisy, t, condition) -> velocity ; noise -euler(net)-> clean
"""

from .loss import Cosmap, LossWeight, One, VPrediction, velocity_error
from .noise import noise
from .path import interpolate, velocity
from .solvers import euler, heun
from .time_law import LogitNormal, TimeLaw, Uniform, flux_mu, time_grid

__all__ = [
    "Cosmap",
    "LogitNormal",
    "LossWeight",
    "One",
    "TimeLaw",
    "Uniform",
    "VPrediction",
    "euler",
    "flux_mu",
    "heun",
    "interpolate",
    "noise",
    "time_grid",
    "velocity",
    "velocity_error",
]
