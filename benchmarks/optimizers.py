"""Does Muon pay? Each embedded net is trained twice from the same first weights and over the same batches, by AdamW and by
Muon beside AdamW, for equally many seconds of this thread (other programs on the machine count for nothing); then the loss
of scenes that no step takes. The learning rate falls to zero at the end of the time, whatever the number of steps.

    python benchmarks/optimizers.py [mini.vlm ...] [--minutes 2] [--rates 1 2]

recipe -job-> objective, batches -M minutes each-> one JSON row per optimiser and factor of the recipe's learning rates
"""

from __future__ import annotations

import argparse
import time

import torch
from accelerate.utils import set_seed
from row import report, setting

from detokenizers.cli.train import parsed
from detokenizers.seeds import item_seeds, mixed
from detokenizers.training import Run
from detokenizers.training.draws import SEEDS
from detokenizers.training.optimizers import AdamW, Muon, OptimizerConfig, trainable
from detokenizers.training.schedules import Trapezoid

NETS = {
    "mini.world_net": "the judge",
    "mini.tokenizer": "the VQ tokenizer",
    "mini.autoencoder": "the latent space",
    "mini.vlm --scenes 8192": "the VLM",
    "dcdd.mini_paper --images.count 4096": "the DCDD decoder",
    "dcdd.mini_pixels --images.count 4096": "the U-ViT pixel decoder",
    "madit.mini --images.count 4096": "the MaDiT trunk",
}
"""What is trained, on as many scenes as a few minutes can use; they are encoded beforehand, and that does not count."""
FALLS = Trapezoid(decay=0.3)


def main() -> None:
    parser = argparse.ArgumentParser(description="Held-out loss after equal time by AdamW and by Muon.")
    parser.add_argument("net", nargs="*", default=list(NETS), help="recipes, with options in the same argument")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--rates", type=float, nargs="+", default=[1.0], help="times the recipe's learning rates")
    parser.add_argument("--batch", type=int, help="items a step; the recipe's unless given")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for net in args.net:
        run = parsed([*net.split(), "--out", "unused"]).run
        if args.batch:
            run = run.vary({"train.batch_size": args.batch})
        muon = run.train.optimizer if isinstance(run.train.optimizer, Muon) else Muon()
        for optimizer in (AdamW(), muon):
            for rate in args.rates:
                device, batch = torch.device("cpu"), run.train.batch_size
                report(
                    setting("optimizers", device, torch.float32, batch=batch, resolution=None, repeats=1, warm_up=0),
                    {"net": net, "optimizer": optimizer.kind, "rate": rate},
                    trained(run, optimizer, args.minutes, rate),
                )


def trained(run: Run, optimizer: OptimizerConfig, minutes: float, rate: float) -> dict[str, object]:
    """Steps taken and the held-out loss after this much time of this thread; why not, where the optimiser does not apply."""
    run = run.vary({"train.optimizer": optimizer})
    job, config = run.job(), run.train
    objective, size = job.objective, config.batch_size
    try:
        optimizers = optimizer.build(objective, job.pace, config)
    except ValueError as error:
        return {"held_out": None, "why": str(error)}
    weights = list(trainable(objective).values())
    objective.train()
    step, began = 0, time.thread_time()
    while (progress := (time.thread_time() - began) / (60 * minutes)) < 1:
        warm = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
        for group in (group for one in optimizers for group in one.param_groups):
            group["lr"] = rate * group["peak"] * min(warm, FALLS(progress))
        set_seed(mixed(config.seed, step))
        objective({**job.batches(step, size), SEEDS: item_seeds(config.seed, step * size, size)})["loss"].backward()
        torch.nn.utils.clip_grad_norm_(weights, config.clip)
        for one in optimizers:
            one.step()
            one.zero_grad()
        step += 1
    spent = time.thread_time() - began
    assert job.held_out is not None
    with torch.no_grad():
        batch = job.held_out()
        batch[SEEDS] = item_seeds(0, 0, len(next(iter(batch.values()))))
        loss = float(objective.eval()(batch)["loss"])
    return {"held_out": round(loss, 5), "steps": step, "cpu_s": round(spent, 1), "step_s": round(spent / step, 4)}


if __name__ == "__main__":
    main()
