"""Train MAML-PPO's presets, adapt to 40 held-out tasks, and print the returns beside what they are to reach.

    python tests/benchmarks/maml_ppo.py [--task navigation|cartpole-family|speed]… [--seeds N]

The tables are the run's own rows of ``metarl-tui evaluate RUN``: means over 40 held-out tasks, with as many
trajectories of each as the preset trains with, before adapting and after each step; ± is half a 95 %
interval of the mean over tasks. Navigation has the reward −distance of the paper's code. Times are of
training as ``metarl-tui train maml-ppo`` does it, with its measurements and pictures but without a journal
or a screen, on one thread: wall-clock, and the process's own, which other processes disturb less. The exit
code is 1 when a goal was missed.
"""

from __future__ import annotations

import argparse
import sys
from time import perf_counter, process_time
from typing import Any

from trainers.declarations import make_settings
from trainers.few_trajectories import MetaLearned
from trainers.hyperparameters import MAMLPPOHyperparameters, MAMLPPOSetup
from trainers.maml_ppo import MAMLPPO
from trainers.meta_rl_evaluation import evaluate_meta_policy
from trainers.presets import preset_for

STEPS = 3
PAPER = {"navigation": (-40.41, -11.68, -3.33)}
# Least return after each number of steps, and the most seconds of training.
GOALS: dict[str, tuple[dict[int, float], int]] = {
    "navigation": ({0: -44, 1: -13, 2: -7}, 360),
    "cartpole-family": ({1: 190}, 180),
}
PARTS = ("sample", "adapt", "learn")


def made(env: str, seed: int, **values: Any) -> MAMLPPO:
    preset = preset_for("maml-ppo", env)
    assert preset is not None
    hyperparameters = make_settings(MAMLPPOHyperparameters, {**preset.hyperparameters, **values})
    return MAMLPPO(MAMLPPOSetup(env=env, seed=seed), hyperparameters)


def trained(env: str, seed: int) -> bool:
    """Train one seed, print its rows, and tell whether it reached the goals."""
    maml = made(env, seed)
    began, own, steps = perf_counter(), process_time(), 0.0
    while not maml.finished:
        done = maml.step()
        steps = done.metrics["time/steps"]
        if done.fault:
            print(f"iteration {done.number}: {done.fault}")
    seconds, own = perf_counter() - began, process_time() - own
    h = maml.settings.values
    learned = MetaLearned(maml.setup, h, h, maml.policy, maml.parameters, int(steps), maml.iteration)
    found = evaluate_meta_policy(learned, tasks=40, steps=STEPS, baselines=False)
    maml.close()
    goals, most = GOALS[env]
    print(
        f"\n{env}, seed {seed}: {maml.iteration} iterations, {steps / 1e6:.2f} M environment steps; "
        f"{seconds:.0f} s, the process's own {own:.0f} s (goal {most})"
    )
    met = own <= most
    for row in found["methods"][0]["by_step"]:
        step = row["step"]
        words = f"  {step} steps  {row['return']:8.2f} ± {row['return_ci95']:.2f}"
        if step < len(PAPER.get(env, ())):
            words += f"   paper {PAPER[env][step]:g}"
        if step in goals:
            met &= row["return"] >= goals[step]
            words += f"   goal ≥ {goals[step]:g}"
        print(words, flush=True)
    return met


def speed() -> bool:
    """Seconds of a meta-iteration on 40 navigation tasks × 20 trajectories × 100 steps, and where they go."""
    met = True
    print("\nnavigation, 40 tasks × 20 × 100, MLP 100-100, one inner step: seconds a meta-iteration")
    print(f"  {'epochs':>6} {'wall':>6} {'own':>6} " + " ".join(f"{part:>6}" for part in PARTS))
    for epochs, goal in ((1, 1.4), (5, 5.0)):
        maml = made("navigation", 1, meta_batch_size=40, epochs=epochs, eval_every=None, picture_every=None)
        maml.step()
        began, own = perf_counter(), process_time()
        rows = [maml.step().metrics for _ in range(6)]
        wall, own = (perf_counter() - began) / len(rows), (process_time() - own) / len(rows)
        split = (sum(row[f"time/{part}_seconds"] for row in rows) / len(rows) for part in PARTS)
        shown = " ".join(f"{seconds:6.2f}" for seconds in split)
        print(f"  {epochs:>6} {wall:6.2f} {own:6.2f} {shown}   goal {goal}", flush=True)
        met &= own <= goal
    return met


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=[*GOALS, "speed"], action="append", help="repeatable; default all")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 1 to N (default 3)")
    arguments = parser.parse_args()
    met = True
    for task in arguments.task or [*GOALS, "speed"]:
        results = [speed()] if task == "speed" else [trained(task, s + 1) for s in range(arguments.seeds)]
        met &= all(results)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
