"""Train the presets with several seeds and print what they reach, beside what they are to reach.

    python tests/benchmarks/presets.py [--preset NAME] [--seeds N]

For each seed: environment steps and seconds until the mean return of the last 100 training episodes
reached the goal, that mean at the end, and the mean return of 100 greedy episodes at the end, in
environments that training never saw. The exit code is 1 when a seed missed its goal.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from time import perf_counter

from trainers.declarations import make_settings
from trainers.evaluation import evaluate
from trainers.hyperparameters import PPOHyperparameters, PPOSetup
from trainers.ppo import PPO
from trainers.presets import PRESETS, Preset
from trainers.randomness import seed_for


@dataclass(frozen=True)
class Goal:
    """``value`` is to be reached within ``steps``; where ``in_training``, by the training mean as well."""

    value: float
    steps: int
    in_training: bool = False


GOALS = {
    "cartpole": Goal(475, 200_000, in_training=True),
    "acrobot": Goal(-90, 300_000),
    "pendulum": Goal(-200, 400_000),
    "mountain-car-continuous": Goal(90, 300_000),
}


def measure(preset: Preset, goal: Goal, seed: int) -> bool:
    """Train one seed, print its row, and tell whether it reached the goal."""
    setup = PPOSetup(env=preset.environments[0], seed=seed)
    hyperparameters = make_settings(PPOHyperparameters, {**preset.hyperparameters, "eval_every": None})
    ppo = PPO(setup, hyperparameters)
    began, reached = perf_counter(), None
    while ppo.progress.done < goal.steps:
        metrics = ppo.step().metrics
        mean = ppo.collector.episodes.mean
        if reached is None and mean is not None and mean >= goal.value:
            reached = (ppo.progress.done, perf_counter() - began)
    seconds = perf_counter() - began
    greedy = evaluate(ppo.policy, setup, 100, seed_for(seed, "benchmark")).returns
    ppo.close()
    met = bool(greedy.mean() >= goal.value) and (reached is not None or not goal.in_training)
    when = f"{reached[0]:>9,} {reached[1]:>7.1f} s" if reached else f"{'never':>9} {'':>9}"
    results = f"{metrics['rollout/ep_rew_mean']:>9.1f} {greedy.mean():>10.1f} ± {greedy.std():<6.1f}"
    speed = f"{ppo.progress.done / seconds:>8,.0f}"
    row = f"{preset.name:24} {seed:>4} {goal.value:>6g} {when} {results} {speed}  {'yes' if met else 'NO'}"
    print(row, flush=True)
    return met


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=GOALS, action="append", help="repeatable; by default all")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 1 to N (default 5)")
    arguments = parser.parse_args()
    print(
        f"{'preset':24} {'seed':>4} {'goal':>6} {'at step':>9} {'after':>9} {'training':>9} "
        f"{'100 greedy episodes':>19} {'steps/s':>8}  met"
    )
    chosen = [preset for preset in PRESETS if preset.name in (arguments.preset or GOALS)]
    results = [
        measure(preset, GOALS[preset.name], seed)
        for preset in chosen
        for seed in range(1, arguments.seeds + 1)
    ]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
