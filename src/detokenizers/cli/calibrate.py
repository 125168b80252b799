"""`detok calibrate`: Logit Calibration for one VLM. The work is `dcdd.calibration_run`'s."""

from __future__ import annotations

from ..dcdd.calibration_settings import CalibrationSettings


class Calibrate(CalibrationSettings):
    """Find the calibration that makes an encoder as certain of its codes as the VLM is (DCDD Eqs. 10-16).

    Measures the VLM's distributions while it draws, searches, prints the paper's Table 1 (VLM, raw, calibrated) as
    Markdown and writes OUT (parameters, statistics, codebook fingerprint) beside a plot of the 30 most probable codes.

    detok calibrate --vlm mini --world 100 --out out/calibration.json
    """


def run(request: Calibrate) -> None:
    """Measure, search, and print the table."""
    from ..dcdd.calibration_run import calibrate_vlm

    found = calibrate_vlm(**dict(request))
    print(f"{found.table()}\n\n{found.summary()}")
