"""PPO's speed on CartPole-v1 with one thread, for several batches.

    python tests/benchmarks/throughput.py [--seconds 8]

Steps per second are medians over iterations after the first five; the share of the update says where the
time goes. Evaluation is off.
"""

from __future__ import annotations

import argparse
import statistics
import time

from trainers.hyperparameters import PPOHyperparameters, PPOSetup
from trainers.ppo import PPO

BATCHES = ((128, 32, 1024), (32, 128, 1024), (32, 32, 256), (8, 128, 256))
"""Environments, rollout steps, minibatch size; four epochs and four minibatches each."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=8.0)
    seconds = parser.parse_args().seconds
    print(f"{'envs × steps':>14}{'minibatch':>11}{'steps/s':>10}{'update':>9}")
    for envs, steps, minibatch in BATCHES:
        hyperparameters = PPOHyperparameters(
            num_envs=envs, rollout_steps=steps, minibatch_size=minibatch, epochs=4, eval_every=None
        )
        trainer = PPO(PPOSetup(), hyperparameters)
        for _ in range(5):
            trainer.step()
        rows = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            rows.append(trainer.step().metrics)
        speed = statistics.median(row["time/fps"] for row in rows)
        update = statistics.median(row["time/learn_seconds"] / row["time/iteration_seconds"] for row in rows)
        print(f"{f'{envs} × {steps}':>14}{minibatch:>11}{speed:>10,.0f}{update:>9.0%}")
        trainer.close()


if __name__ == "__main__":
    main()
