"""Train MAML's presets, adapt to 600 held-out tasks, and print the tables beside what they are to reach.

    python tests/benchmarks/maml.py [--task xor|sinusoid|omniglot|speed]… [--seed N]… [--variant NAME]
                                    [--set NAME=VALUE]… [--seconds N] [--no-baselines] [--data FILE.npz]

Times are of one thread, as processor and wall-clock seconds; training includes the measurements on held-out
tasks. The exit code is 1 when a goal was missed. Omniglot takes its path from --data or METARL_DATA, and is
left out, visibly, without one.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, replace
from time import perf_counter, process_time
from typing import Any

from trainers.declarations import Value, declaration_of, declarations, make_settings
from trainers.few_shot import learner_of
from trainers.hyperparameters import MAMLHyperparameters, MAMLSetup
from trainers.maml import MAML
from trainers.meta_evaluation import evaluate_learner
from trainers.presets import preset_for

PAPER = {5: {1: 0.67, 5: 0.38, 10: 0.35}}
GOALS = {5: {1: 0.75, 5: 0.45, 10: 0.40}, 10: {1: 0.45, 5: 0.18, 10: 0.15}}


@dataclass(frozen=True)
class Arguments:
    """What was asked on the command line."""

    data: str
    seed: int
    variant: str
    values: dict[str, Value]
    seconds: float
    baselines: bool


def trained(task: str, arguments: Arguments, **values: Any) -> tuple[MAML, float]:
    """A trainer that has done all its iterations, or those that time allowed, and the wall-clock seconds."""
    preset = preset_for("maml", task)
    start = dict(preset.hyperparameters) if preset else {}
    data = arguments.data if task == "omniglot" else ""
    setup = MAMLSetup(task=task, variant=arguments.variant, seed=arguments.seed, data=data)
    maml = MAML(setup, make_settings(MAMLHyperparameters, {**start, **values, **arguments.values}))
    began, began_cpu = perf_counter(), process_time()
    while not maml.finished and process_time() - began_cpu < arguments.seconds:
        fault = maml.step().fault
        if fault:
            print(f"iteration {maml.iteration}: {fault}")
    seconds, processor = perf_counter() - began, process_time() - began_cpu
    print(
        f"\n{task}, {arguments.variant}, seed {arguments.seed}: {maml.iteration} iterations, "
        f"{processor:.1f} s of processor time, {seconds:.1f} s by the clock"
    )
    return maml, processor


def show(result: dict[str, Any], steps: tuple[int, ...]) -> None:
    """The rows of one evaluation at ``steps``."""
    if result["transductive"]:
        print("transductive: batch norm takes its statistics from the query rows")
    for method in result["methods"]:
        rate = "learned" if method["inner_lr"] is None else f"{method['inner_lr']:g}"
        if "late_inner_lr" in method:
            rate += f", {method['late_inner_lr']:g}"
        if not method.get("converged", True):
            print("  the next has not converged: it reached the cap of steps")
        for row in method["by_step"]:
            if row["step"] not in steps and len(method["by_step"]) > 1:
                continue
            loss = f"loss {row['loss']:.3f} ± {row['loss_ci95']:.3f}, median {row['loss_median']:.3f}"
            right = ""
            if "accuracy" in row:
                shares = (100 * row[f"accuracy{end}"] for end in ("", "_ci95", "_median", "_worst"))
                right = "{:6.2f} ± {:.2f} %, median {:.1f} %, worst 5 %: {:.1f} %;".format(*shares)
            line = f"  {method['name']:28} rate {rate:>12} {row['step']:>5} steps {right} {loss}"
            print(f"{line}; diverged {row['diverged']}", flush=True)


def xor(arguments: Arguments) -> bool:
    maml, seconds = trained("xor", arguments)
    result = evaluate_learner(learner_of(maml), baselines=arguments.baselines)
    show(result, (0, 1, 2, 5, 10))
    if arguments.variant != "maml":
        return True
    rows = result["methods"][0]["by_step"]
    before, after = rows[0]["accuracy"], rows[10]["accuracy"]
    met = 0.45 <= before <= 0.55 and after >= 0.97 and seconds < 60
    print(f"  goal: 45–55 % before, ≥ 97 % after, in < 60 s: {_words(met)}")
    return met


def sinusoid(arguments: Arguments) -> bool:
    met = True
    iterations = {"iterations": 40_000} if arguments.variant == "fomaml" else {}
    maml, _ = trained("sinusoid", arguments, **iterations)
    for shots, goals in GOALS.items():
        result = evaluate_learner(learner_of(maml), shots=shots, baselines=arguments.baselines)
        print(f"{shots}-shot, mean squared error")
        show(result, (0, 1, 5, 10))
        if arguments.variant in ("maml", "fomaml"):
            rows = result["methods"][0]["by_step"]
            reached = all(rows[step]["loss"] <= goal for step, goal in goals.items())
            print(f"  goals {goals}, paper {PAPER.get(shots, 'none')}: {_words(reached)}")
            met &= reached
    return met


def omniglot(arguments: Arguments) -> bool:
    if not arguments.data:
        print("\nomniglot: left out, neither --data nor METARL_DATA says where it lies")
        return True
    maml, seconds = trained("omniglot", arguments)
    joint = min(2000, maml.iteration)
    result = evaluate_learner(learner_of(maml), baselines=arguments.baselines, baseline_iterations=joint)
    show(result, (0, 1, 3, 5, 10))
    if arguments.variant != "maml" or arguments.values:
        return True
    at = maml.settings.values.eval_inner_steps
    met = result["methods"][0]["by_step"][at]["accuracy"] >= 0.91 and seconds <= 300
    print(f"  goal: ≥ 91 % after {at} steps, within 300 s: {_words(met)}")
    return met


def speed(arguments: Arguments) -> bool:
    """Meta-iterations per second, sampling apart, without measurements."""
    quiet: dict[str, Any] = {"eval_every": None, "picture_every": None, "iterations": 10**9}
    cases = [("sinusoid", {"query_shots": 10}, 500), ("omniglot", {"query_shots": 1}, 90)]
    met = True
    print("\nmeta-iterations/s, second order, one step, one thread")
    for task, values, goal in cases:
        if task == "omniglot" and not arguments.data:
            continue
        preset = preset_for("maml", task)
        assert preset is not None
        h = make_settings(MAMLHyperparameters, {**preset.hyperparameters, **quiet, **values})
        maml = MAML(MAMLSetup(task=task, data=arguments.data), h)
        for _ in range(20):
            maml.step()
        rows = [maml.step().metrics for _ in range(2 * goal)]
        learning, sampling = (
            sum(row[f"time/{part}_seconds"] for row in rows) for part in ("learn", "sample")
        )
        rate = len(rows) / learning
        print(
            f"  {task:10} {rate:7.0f}, sampling {1e3 * sampling / len(rows):.2f} ms each; goal {goal}",
            flush=True,
        )
        met &= rate >= goal
    return met


def _words(met: bool) -> str:
    return "reached" if met else "MISSED"


TASKS = {"xor": xor, "sinusoid": sinusoid, "omniglot": omniglot, "speed": speed}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=TASKS, action="append", help="repeatable; by default all")
    parser.add_argument("--seed", type=int, action="append", help="repeatable; by default 1")
    parser.add_argument("--variant", default="maml")
    parser.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], help="instead of the presets'"
    )
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of processor time, for training")
    parser.add_argument("--no-baselines", action="store_true")
    parser.add_argument(
        "--data", default=os.environ.get("METARL_DATA", ""), help="Omniglot, packed or a folder"
    )
    asked = parser.parse_args()
    known = declarations(MAMLHyperparameters)
    values = {
        name: declaration_of(known, name).parse(v) for name, _, v in (s.partition("=") for s in asked.set)
    }
    arguments = Arguments(asked.data, 0, asked.variant, values, asked.seconds, not asked.no_baselines)
    results = [
        TASKS[task](replace(arguments, seed=seed))
        for task in asked.task or TASKS
        for seed in asked.seed or [1]
    ]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
