"""A decode step as one launch. At batch 1 a step reads every weight once and computes next to nothing, so what it costs
beyond that is the launching of some five hundred kernels; a CUDA graph launches them all at once.

Two compilers for `TokenLoop`: `recorded` captures the step's own kernels in a second and needs no code generation;
`fused` is `torch.compile`, which also joins the small kernels, after a minute or two of compiling.

inputs of a step -copied to fixed addresses-> graph -replay-> logits
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .llama_blocks import Angles, KVCache

Step = Callable[..., Tensor]
Run = Callable[[], Tensor]


def cuda_graph(run: Run) -> Run:
    """Capture what `run` launches on the current device; the result launches it again on the same addresses."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # libraries allocate their work space at the first call, which a graph may not hold
        for _ in range(2):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = run()

    def replay() -> Tensor:
        graph.replay()
        return out

    return replay


class Recorded:
    """`TokenLoop.static_step`, recorded once a cache; feeding a column twice writes the same, so warming up is safe.

    Args:
        step: the step, of equal shapes at every call.
        record: turns a function of fixed addresses into one launch of its kernels.
    """

    def __init__(self, step: Step, record: Callable[[Run], Run] = cuda_graph) -> None:
        self.step, self.record = step, record
        self.cache: Tensor | None = None
        self.branches = 0
        self.given: list[Tensor] = []
        self.fixed: list[Tensor] = []

    def __call__(
        self, ids: Tensor, here: Tensor, angles: Angles, cache: KVCache, seen: Tensor, guidance: Tensor, branches: int
    ) -> Tensor:
        given = [ids, here, *angles, seen, guidance]
        if cache.tensor is not self.cache or branches != self.branches:
            self._record(given, cache, branches)
        for address, value, last in zip(self.fixed, given, self.given, strict=True):
            if value is not last:  # angles, padding and guidance stay for a whole image
                address.copy_(value)
        self.given = given
        return self.run()

    def _record(self, given: list[Tensor], cache: KVCache, branches: int) -> None:
        self.cache, self.branches, self.given = cache.tensor, branches, given
        self.fixed = [value.clone() for value in given]
        ids, here, cos, sin, seen, guidance = self.fixed
        self.run = self.record(lambda: self.step(ids, here, Angles(cos, sin), cache, seen, guidance, branches))


def recorded(step: Step) -> Step:
    """One CUDA graph of the step's own kernels."""
    return Recorded(step)


def fused(step: Step) -> Step:
    """One CUDA graph of kernels that inductor has joined (`torch.compile`, reduce-overhead)."""
    return torch.compile(step, mode="reduce-overhead", fullgraph=True)
