"""Train to N equals train to k, kill, resume to N: bit for bit, whatever is trained on and however."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path
from typing import Any

import pytest
from victims import (
    SAVE_ALWAYS,
    SMALL,
    Figure,
    MakeRun,
    Times,
    first_difference,
    iterations_done,
    records,
    wait_until,
)
from warm_parent import Child, WarmParent

from metarl_tui.runs import requests
from metarl_tui.runs.folder import RunFolder
from trainers.hyperparameters import TRAINERS

NORMALISED = {"normalize_observations": True, "normalize_rewards": True}
LONGER = {"rollout_steps": 64, "minibatch_size": 64, "total_steps": 2560}
FEW = {"num_envs": 2, "rollout_steps": 64, "minibatch_size": 64, "total_steps": 1280}

SUBJECTS: list[tuple[str, str, str, dict[str, Any], str]] = [
    ("ppo", "CartPole-v1", "native", {}, ""),
    ("ppo", "CartPole-v1", "sync", LONGER, ""),
    ("ppo", "CartPole-v1", "async", {**LONGER, **NORMALISED}, ""),
    ("ppo", "Pendulum-v1", "sync", {**LONGER, **NORMALISED}, ""),
    ("ppo", "Acrobot-v1", "sync", LONGER, ""),
    ("ppo", "LunarLander-v3", "sync", {**LONGER, **NORMALISED}, "Box2D"),
    ("ppo", "HalfCheetah-v5", "sync", {**FEW, **NORMALISED}, "mujoco"),
    ("ppo", "Hopper-v5", "sync", {**FEW, **NORMALISED}, "mujoco"),
    ("ppo", "Hopper-v5", "async", {**FEW, **NORMALISED}, "mujoco"),
    ("ppo", "Ant-v5", "sync", {**FEW, **NORMALISED}, "mujoco"),
    ("maml", "xor", "", {}, ""),
    ("maml", "sinusoid", "", {"shots": 5, "query_shots": 5}, ""),
    ("maml-ppo", "navigation", "", {}, ""),
    ("maml-ppo", "cartpole-family", "", {}, ""),
]
"""Trainer, what it trains on, how environments are run, hyperparameters, and the module that it needs."""
STEERING: dict[str, dict[str, Any]] = {
    "ppo": {"clip_epsilon": 0.07, "epochs": 3}, "maml": {"inner_lr": 0.05}, "maml-ppo": {"inner_lr": 0.05},
}  # fmt: skip


def _setup(trainer: str, subject: str, vector: str) -> dict[str, Any]:
    return {
        **({TRAINERS[trainer].subject: subject} if subject else {}),
        **({"vector": vector} if vector else {}),
    }


def _skip_without(trainer: str, module: str) -> None:
    if trainer not in TRAINERS:
        pytest.skip(f"there is no trainer {trainer}")
    if module and importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: pip install 'metarl-tui[{module.lower()}]'")


def _kill_at(warm: WarmParent, folder: RunFolder, iteration: int, **how: Any) -> None:
    _kill_after(warm.start("train", str(folder.path), **how), folder, iteration)


def _kill_after(worker: Child, folder: RunFolder, iteration: int) -> None:
    wait_until(lambda: iterations_done(folder) >= iteration or worker.poll() is not None, 60, 0.002)
    worker.kill()


@pytest.mark.parametrize(
    ("trainer", "subject", "vector", "values", "needs"),
    SUBJECTS,
    ids=[f"{trainer}-{subject}-{vector}".strip("-") for trainer, subject, vector, *_ in SUBJECTS],
)
def test_killed_and_resumed_equals_uninterrupted(
    trainer: str, subject: str, vector: str, values: dict[str, Any], needs: str,
    make_run: MakeRun, warm: WarmParent, times: Times, figure: Figure,
) -> None:  # fmt: skip
    _skip_without(trainer, needs)
    random_source = random.Random(f"{trainer}{subject}{vector}")
    setup = _setup(trainer, subject, vector)
    straight = make_run(trainer, setup=setup, **values)
    assert warm.start("train", str(straight.path)).wait(120) == 0, straight.log.read_text()
    last = iterations_done(straight)
    moments, differences, not_exact = [], [], 0
    for _ in range(times(5)):
        broken = make_run(trainer, setup=setup, options={"pace": 60}, **values)
        moments.append(random_source.randrange(1, last))
        # Saved always, or only once: then iterations between checkpoint and kill are trained again.
        patches = SAVE_ALWAYS if random_source.random() < 0.5 else {}
        _kill_at(warm, broken, moments[-1], patches=patches)
        assert warm.start("train", str(broken.path)).wait(120) == 0
        not_exact += any("not exact" in note["text"] for note in records(broken, "note"))
        if difference := first_difference(straight, broken):
            differences.append(difference)
    name = " ".join(word for word in (trainer, subject, vector) if word)
    figure(
        f"killed and resumed, {name}",
        len(moments),
        f"{len(moments) - len(differences)} of {len(moments)} identical in {last} iterations, "
        f"killed at {', '.join(map(str, moments))}",
    )
    assert not differences
    assert not not_exact


@pytest.mark.parametrize("trainer", [name for name in SMALL if name in TRAINERS])
def test_killed_after_steering_by_hand_equals_uninterrupted(
    trainer: str, make_run: MakeRun, warm: WarmParent, times: Times, figure: Figure
) -> None:
    random_source = random.Random(trainer)
    count, differences = times(10), []
    for _ in range(count):
        steered = make_run(trainer, options={"pace": 40})
        worker = warm.start("train", str(steered.path), patches=SAVE_ALWAYS)
        steer_at = random_source.randrange(1, 4)
        wait_until(lambda steered=steered, at=steer_at: iterations_done(steered) >= at)
        answer = requests.wait_for(steered, requests.send(steered, "set", STEERING[trainer]), 30)
        assert answer is not None
        assert answer["result"] == "applied"
        _kill_after(worker, steered, answer["iteration"] + random_source.randrange(0, 3))
        _lose_checkpoints_since(steered, answer["iteration"])
        assert warm.start("train", str(steered.path)).wait(60) == 0
        planned = make_run(trainer, changes=[{"iteration": answer["iteration"], **STEERING[trainer]}])
        assert warm.start("train", str(planned.path)).wait(60) == 0
        if difference := first_difference(steered, planned):
            differences.append(difference)
    figure(
        f"steered by hand, killed, resumed: {trainer}", count,
        f"{count - len(differences)} of {count} identical to the same change planned",
    )  # fmt: skip
    assert not differences


def _lose_checkpoints_since(folder: RunFolder, iteration: int) -> None:
    """So that what was steered is repeated from the journal."""
    for path in sorted(folder.checkpoints.iterdir()):
        if path.name.isdigit() and int(path.name) >= iteration:
            (path / "manifest.json").unlink()


def test_an_environment_that_is_not_deterministic_is_found_out(
    make_run: MakeRun, warm: WarmParent, figure: Figure
) -> None:
    run = make_run(endless=True, setup={"env": "harmful:Forgetful", "vector": "sync"}, eval_every=None)
    _kill_at(warm, run, 3, patches=SAVE_ALWAYS)
    worker = warm.start("train", str(run.path))
    wait_until(lambda: records(run, "resumed"))
    notes = [note["text"] for note in records(run, "note")]
    worker.kill()
    said = [note for note in notes if "resumed, not exact" in note]
    figure("an environment that is not deterministic", 1, said[0] if said else "not found out")
    assert len(said) == 1
    assert "when its episode was replayed" in said[0]


def test_the_journal_says_where_a_resumed_run_went_on(make_run: MakeRun, warm: WarmParent) -> None:
    run = make_run(endless=True)
    _kill_at(warm, run, 3, patches=SAVE_ALWAYS)
    newest = max(int(path.name) for path in Path(run.checkpoints).iterdir() if path.name.isdigit())
    worker = warm.start("train", str(run.path))
    wait_until(lambda: records(run, "resumed"))
    worker.kill()
    assert [record["from"] for record in records(run, "resumed")] == [newest]
