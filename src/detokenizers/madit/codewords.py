"""What is known of each codeword from the images it occurred in: how many nats its patches have, what they look like on
average, and how much they differ.

A token drawn by a language model has no image to compute a KL divergence of; its codeword has these (spec 2.2).

ids [b l], numbers of patches [b l parts] -update | exact-> one row a codeword ; ids -lookup-> [b l parts]
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


class Codewords(nn.Module):
    """Per codeword, for each patch under its token: mean KL (nats), mean latents, and their variance around that mean.

    Until `exact` has run only `kl` is known, as a running mean, and nothing else may be read.
    """

    seen: Bool[Tensor, "v"]
    kl: Float[Tensor, "v parts"]
    latents: Float[Tensor, "v parts d"]
    variance: Float[Tensor, "v parts"]
    belongs_to: Tensor

    def __init__(self, codes: int, parts: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(codes, dtype=torch.bool))
        self.register_buffer("kl", torch.zeros(codes, parts))
        self.register_buffer("latents", torch.zeros(codes, parts, dim))
        self.register_buffer("variance", torch.zeros(codes, parts))
        self.register_buffer("belongs_to", torch.zeros(32, dtype=torch.uint8))

    @torch.no_grad()
    def update(self, ids: Int[Tensor, "m"], kl: Float[Tensor, "m parts"], alpha: float = 0.01) -> None:
        """Move the running mean KL of codes that occur towards their mean in this batch, at first sight all the way.

        `ids` and `kl` are those of all processes; absent codes stay as they are.
        """
        # PAPER GAP (docs/madit.md#kl-table): the rate of the moving average is not given.
        number = torch.bincount(ids, minlength=len(self.seen))
        present = number > 0
        mean = torch.zeros_like(self.kl).index_add_(0, ids, kl) / number.clamp_min(1)[:, None]
        moved = torch.where(self.seen[:, None], (1 - alpha) * self.kl + alpha * mean, mean)
        self.kl.copy_(torch.where(present[:, None], moved, self.kl))
        self.seen |= present

    @torch.no_grad()
    def forget(self, codes: Int[Tensor, "k"]) -> None:
        """A code that restarted stands for other patches than before."""
        self.seen[codes] = False
        self.kl[codes] = 0.0

    @torch.no_grad()
    def exact(
        self, batches: Iterable[tuple[Int[Tensor, "m"], Float[Tensor, "m parts"], Float[Tensor, "m parts d"]]]
    ) -> Float[Tensor, "v"]:
        """Replace running means by those of whole data: ids, nats and latents of all its patches, batch by batch.

        Returns:
            How often each code occurred.
        """
        shape, device = self.latents.shape, self.kl.device
        number = torch.zeros(shape[0], dtype=torch.float64, device=device)
        nats = torch.zeros(shape[:2], dtype=torch.float64, device=device)
        first = torch.zeros(shape, dtype=torch.float64, device=device)
        second = torch.zeros(shape[:2], dtype=torch.float64, device=device)
        for ids, kl, latents in batches:
            ids, latents = ids.to(device), latents.to(device).double()
            number += torch.bincount(ids, minlength=len(number))
            nats.index_add_(0, ids, kl.to(device).double())
            first.index_add_(0, ids, latents)
            second.index_add_(0, ids, latents.square().mean(-1))
        at_least_one = number.clamp_min(1)[:, None]
        mean = first / at_least_one[..., None]
        self.seen.copy_(number > 0)
        self.kl.copy_(nats / at_least_one)
        self.latents.copy_(mean)
        self.variance.copy_((second / at_least_one - mean.square().mean(-1)).clamp_min(0))
        return number.float()

    def lookup(self, table: Float[Tensor, "v ..."], ids: Int[Tensor, "b l"]) -> Float[Tensor, "b l ..."]:
        """The rows of one of the tables; codes never seen read as the mean of those seen, neither first nor last.

        Raises:
            ValueError: no code has been seen.
        """
        if not bool(self.seen.any()):
            raise ValueError("nothing is known of any codeword; run the exact pass over images first")
        return self.complete(table)[ids.to(table.device)]

    def complete(self, table: Float[Tensor, "v ..."]) -> Float[Tensor, "v ..."]:
        """The table with the rows of codes never seen filled in."""
        seen = self.seen.view(-1, *(1,) * (table.ndim - 1))
        return torch.where(seen, table, table[self.seen].mean(0))

    def bind(self, fingerprint: str) -> None:
        """Note which tokenizer these numbers are of."""
        self.belongs_to.copy_(torch.tensor(list(bytes.fromhex(fingerprint)), dtype=torch.uint8))

    def require(self, fingerprint: str, where: str = "this table") -> None:
        """Refuse the table of another tokenizer: any change of VAE, adapter, codebook or size gives codes new patches.

        Raises:
            ValueError: it is of another one.
        """
        mine = bytes(self.belongs_to.tolist()).hex()
        if mine != fingerprint:
            raise ValueError(
                f"{where} is of the codes of tokenizer {mine[:8]}, not of {fingerprint[:8]}; run the exact pass again"
            )
