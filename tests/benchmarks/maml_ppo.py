"""Train MAML-PPO's presets, adapt to 40 held-out tasks, and print the returns beside what they are to reach.

    python tests/benchmarks/maml_ppo.py [--task navigation|cartpole-family|speed|half-cheetah-direction]…
        [--seeds N] [--iterations N]

The tables are the run's own rows of ``metarl-tui evaluate RUN``: means over 40 held-out tasks, with as many
trajectories of each as the preset trains with, before adapting and after each step; ± is half a 95 %
interval of the mean over tasks. Navigation has the reward −distance of the paper's code; beside its return
before adapting stands what standing still would give on the same tasks, since a policy that is told nothing
can hardly do better, and 40 goals differ. Times are of training as ``metarl-tui train maml-ppo`` does it,
with its measurements and pictures but without a journal or a screen, on one thread: wall-clock, and the
process's own, which other processes disturb less. half-cheetah-direction needs the extra mujoco and is no
part of the default, because it takes several minutes; it reaches its goal when the return after adapting,
mean over the last third of the iterations, is above that of the first, and there are no held-out tasks: it
has just two. The exit code is 1 when a goal was missed.
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
from trainers.randomness import torch_generator

STEPS, HELD_OUT = 3, 40
PAPER = {"navigation": (-40.41, -11.68, -3.33)}
BEFORE = {"navigation": (-44, -38)}
# Least return after each number of steps, and the most seconds of training.
GOALS: dict[str, tuple[dict[int, float], int]] = {
    "navigation": ({0: -44, 1: -13, 2: -7}, 360),
    "cartpole-family": ({1: 190}, 180),
}
CHEETAHS = "half-cheetah-direction"
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
    found = evaluate_meta_policy(learned, tasks=HELD_OUT, steps=STEPS, baselines=False)
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
        if step == 0 and env in BEFORE:
            words += (
                f"   expected {BEFORE[env][0]} … {BEFORE[env][1]}, standing still {standing(learned):.2f}"
            )
        print(words, flush=True)
    return met


def standing(learned: MetaLearned) -> float:
    """The mean return of a point that stays at the origin, on the goals that are held out."""
    family = learned.family()
    goals = family.sample_tasks(HELD_OUT, torch_generator(learned.setup.seed, "meta-test"))
    return -family.horizon * float(goals.norm(dim=1).mean())


def rising(seed: int, iterations: int | None) -> bool:
    """Train half-cheetahs, and tell whether their return after adapting was higher at last than at first."""
    began, own = perf_counter(), process_time()
    values = {} if iterations is None else {"iterations": iterations}
    maml = made(CHEETAHS, seed, eval_every=None, **values)
    rows = []
    while not maml.finished:
        done = maml.step()
        rows.append(done.metrics)
        if done.fault:
            print(f"iteration {done.number}: {done.fault}")
    maml.close()
    print(
        f"\n{CHEETAHS}, seed {seed}: {maml.iteration} iterations, {rows[-1]['time/steps'] / 1e6:.2f} M "
        f"environment steps; {perf_counter() - began:.0f} s, the process's own {process_time() - own:.0f} s"
    )
    thirds = [rows[len(rows) * third // 3 : len(rows) * (third + 1) // 3] for third in range(3)]
    post = []
    for number, part in enumerate(thirds, 1):
        before, after = (
            sum(row[f"meta/return_{when}"] for row in part) / len(part) for when in ("pre", "post")
        )
        post.append(after)
        print(f"  third {number}   before {before:8.2f}   after {after:8.2f}", flush=True)
    rose = post[-1] > post[0]
    print(f"  the return after adapting {'rose' if rose else 'did not rise'}: {post[-1] - post[0]:+.2f}")
    return rose


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
    parser.add_argument(
        "--task",
        choices=[*GOALS, "speed", CHEETAHS],
        action="append",
        help=f"repeatable; default all but {CHEETAHS}, which takes several minutes",
    )
    parser.add_argument("--seeds", type=int, default=3, help="seeds 1 to N (default 3)")
    parser.add_argument("--iterations", type=int, help=f"of {CHEETAHS}, at least 3, if not its preset's")
    arguments = parser.parse_args()
    seeds, met = range(1, arguments.seeds + 1), True
    for task in arguments.task or [*GOALS, "speed"]:
        if task == "speed":
            results = [speed()]
        elif task == CHEETAHS:
            results = [rising(seed, arguments.iterations) for seed in seeds]
        else:
            results = [trained(task, seed) for seed in seeds]
        met &= all(results)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
