"""What a flow net's output stands for. The house speaks of velocities; a net may predict the clean item instead.

output, noisy, t -prediction-> velocity
"""

from __future__ import annotations

from typing import Annotated, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from ..config import Config


class PredictVelocity(Config):
    """The output is the velocity itself, noise - clean."""

    kind: Literal["velocity"] = "velocity"

    def __call__(
        self, output: Float[Tensor, "b ..."], noisy: Float[Tensor, "b ..."], t: Float[Tensor, "b"]
    ) -> Float[Tensor, "b ..."]:
        return output


class PredictClean(Config):
    """The output is the clean item; `(noisy - output) / max(t, floor)` is the velocity that leads to it.

    The loss stays on the velocity, so errors at small t weigh more, by at most 1 / floor² (arXiv 2511.13720).
    """

    kind: Literal["clean"] = "clean"
    floor: float = Field(default=0.05, gt=0, le=1)
    """Smallest time that the difference is divided by."""

    def __call__(
        self, output: Float[Tensor, "b ..."], noisy: Float[Tensor, "b ..."], t: Float[Tensor, "b"]
    ) -> Float[Tensor, "b ..."]:
        return (noisy - output) / t.clamp(min=self.floor).reshape(-1, *(1,) * (noisy.ndim - 1))


Predict = Annotated[PredictVelocity | PredictClean, Field(discriminator="kind")]
