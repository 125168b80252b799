"""The adversary of the mini tokenizer: a small net that separates real patches from decoded ones, for sharpness.

Pixel losses forgive blur; a critic of 30-pixel patches does not. One optimiser serves both sides: the gradient of the
tokenizer passes through a critic whose weights are detached, that of the critic stops at detached images, so the two
never mix and the losses may simply be added. As in VQGAN, the adversarial weight adapts to the other losses.

drawn -critic (held)-> -mean score, times `balance` -> tokenizer ; truth, drawn (detached) -critic-> hinge -> critic
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from ..config import Config
from ..nn.channels_last import channels_last


class AdversaryConfig(Config):
    """A patch discriminator, and from when on its loss counts."""

    width: int = 64
    """Channels after the first convolution; they double with every stride."""
    strides: int = 2
    """Halvings of the image before a patch is scored; 2 at 64 px, 3 from 128 px on."""
    weight: float = 0.0
    """Share of the adversarial gradient in the decoder's last layer, relative to that of all other losses; 0 leaves the
    adversary out, as on CPUs, where it costs more time than there is."""
    start: int = 1000
    """First step at which the tokenizer minimises it; until then only the critic learns."""
    pace: float = 0.5
    """How many times `train.lr` the critic learns with."""

    def build(self) -> Adversary | None:
        return Adversary(self) if self.weight else None


class Adversary(nn.Module):
    """One score per patch, high for real ones. GroupNorm, because batches are small and may be split."""

    step: Tensor

    def __init__(self, config: AdversaryConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = [nn.Conv2d(3, config.width, 4, 2, 1), nn.LeakyReLU(0.2)]
        width = config.width
        for _ in range(config.strides - 1):
            layers += [nn.Conv2d(width, 2 * width, 4, 2, 1), nn.GroupNorm(8, 2 * width), nn.LeakyReLU(0.2)]
            width *= 2
        layers += [nn.Conv2d(width, 2 * width, 4, 1, 1), nn.GroupNorm(8, 2 * width), nn.LeakyReLU(0.2)]
        self.patches = channels_last(nn.Sequential(*layers, nn.Conv2d(2 * width, 1, 4, 1, 1)))
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 hp wp"]:
        return self.patches(images)

    def terms(
        self, others: Tensor, drawn: Float[Tensor, "b 3 h w"], truth: Float[Tensor, "b 3 h w"], last: nn.Parameter
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Both sides' losses, to be added to `others`, which the drawer minimises besides; and what to log.

        Args:
            others: the drawer's other losses, summed.
            drawn: its pictures, with their graph.
            truth: the pictures they should be.
            last: weight of the drawer's last layer, where the losses are balanced.
        """
        critic = self.critic_loss(drawn, truth)
        adversarial = critic.new_zeros(())
        if self.step >= self.config.start:
            adversarial = self.drawer_loss(drawn)
            adversarial = self.balance(others, adversarial, last) * adversarial
        if self.training:
            self.step += 1
        return critic + adversarial, {"critic": critic.detach(), "adversarial": adversarial.detach()}

    def critic_loss(self, drawn: Float[Tensor, "b 3 h w"], truth: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
        """Hinge: real patches above 1, drawn ones below -1. Gradients reach the critic alone."""
        real, false = self(truth.detach()), self(drawn.detach())
        return 0.5 * (F.relu(1 - real.float()).mean() + F.relu(1 + false.float()).mean())

    def drawer_loss(self, drawn: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
        """Minus the mean score of the drawn patches. Gradients pass through the critic and never reach its weights."""
        held = {name: weight.detach() for name, weight in self.named_parameters()}
        return -functional_call(self, held, (drawn,)).float().mean()

    def balance(self, others: Tensor, adversarial: Tensor, last: nn.Parameter) -> Float[Tensor, ""]:
        """What to multiply the adversarial loss with, so that at the last layer its gradient is `weight` of the others'
        (VQGAN, eq. 7). Where nothing learns, nothing is to be balanced, and the weight is taken as it is."""
        if not (torch.is_grad_enabled() and others.requires_grad):
            return others.new_tensor(self.config.weight)
        norms = [torch.autograd.grad(loss, last, retain_graph=True)[0].float().norm() for loss in (others, adversarial)]
        return self.config.weight * (norms[0] / (norms[1] + 1e-4)).clamp(max=1e4).detach()
