"""PPO's speed on CartPole-v1 with one thread, for several batches, and how far from the arithmetic it is.

    python tests/benchmarks/throughput.py [--seconds 8]

Steps per second are medians over iterations after the first five, by the wall clock and by the processor's
time, which other programs disturb less; the share of the update says where the time goes. The bound counts
multiplications and additions of the 64 × 64 networks alone, at the speed that a product of 256 × 64 by
64 × 64 reaches here. Evaluation is off.
"""

from __future__ import annotations

import argparse
import statistics
import time
from itertools import pairwise

import torch

from trainers.hyperparameters import PPOHyperparameters, PPOSetup
from trainers.ppo import PPO

BATCHES = (
    (128, 32, 1024, 4), (32, 128, 1024, 4), (32, 32, 256, 4), (8, 128, 256, 4), (8, 32, 256, 20),
    (4, 128, 128, 4),
)  # fmt: skip
"""Environments, rollout steps, minibatch size, epochs."""


def operations(sizes: tuple[int, ...], epochs: int, *, acts: bool) -> int:
    """Floating-point operations per environment step of a network: acting, evaluating, learning.

    Backward costs a product for the weights and one for the inputs, which the first layer does without.
    """
    forward = 2 * sum(a * b for a, b in pairwise(sizes))
    return (1 + acts) * forward + epochs * (3 * forward - 2 * sizes[0] * sizes[1])


def product_speed() -> float:
    """Floating-point operations per second of 256 × 64 by 64 × 64: the best of many."""
    torch.set_num_threads(1)
    x, weight, output = torch.randn(2, 256, 64), torch.randn(2, 64, 64), torch.empty(2, 256, 64)
    best = float("inf")
    for _ in range(200):
        began = time.process_time()
        for _ in range(20):
            torch.bmm(x, weight, out=output)
        best = min(best, (time.process_time() - began) / 20)
    return 2 * 2 * 256 * 64 * 64 / best


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=8.0)
    seconds = parser.parse_args().seconds
    speed_of_products = product_speed()
    print(f"matrix products: {speed_of_products / 1e9:.0f} GFLOP/s")
    print(
        f"{'envs × steps':>14}{'minibatch':>11}{'epochs':>8}{'steps/s':>10}{'by CPU':>10}{'update':>9}"
        f"{'of bound':>10}"
    )
    for envs, steps, minibatch, epochs in BATCHES:
        hyperparameters = PPOHyperparameters(
            num_envs=envs, rollout_steps=steps, minibatch_size=minibatch, epochs=epochs, eval_every=None
        )
        trainer = PPO(PPOSetup(), hyperparameters)
        for _ in range(5):
            trainer.step()
        rows, by_processor = [], []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            before = time.process_time()
            rows.append(trainer.step().metrics)
            by_processor.append(rows[-1]["time/fps"] * rows[-1]["time/iteration_seconds"])
            by_processor[-1] /= time.process_time() - before
        speed = statistics.median(row["time/fps"] for row in rows)
        processor = statistics.median(by_processor)
        update = statistics.median(row["time/learn_seconds"] / row["time/iteration_seconds"] for row in rows)
        count = operations((4, 64, 64, 2), epochs, acts=True)
        count += operations((4, 64, 64, 1), epochs, acts=False)
        share = processor * count / speed_of_products
        print(
            f"{f'{envs} × {steps}':>14}{minibatch:>11}{epochs:>8}{speed:>10,.0f}{processor:>10,.0f}"
            f"{update:>9.0%}{share:>10.0%}",
            flush=True,
        )
        trainer.close()


if __name__ == "__main__":
    main()
