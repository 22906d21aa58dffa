"""Run folders made of numbers: what a PPO run on CartPole looks like on disk, without training one."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

Record = dict[str, Any]

HYPERPARAMETERS: dict[str, Any] = {
    "total_steps": 2_048_000,
    "num_envs": 32,
    "rollout_steps": 128,
    "minibatch_size": 1024,
    "epochs": 4,
    "learning_rate": 1e-3,
    "clip_epsilon": 0.2,
    "value_clip_epsilon": None,
    "target_kl": None,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "entropy_coef": 0.0,
    "value_coef": 0.5,
    "max_grad_norm": 0.5,
    "normalize_advantages": True,
    "normalize_observations": False,
    "normalize_rewards": False,
    "hidden_sizes": [64, 64],
    "activation": "tanh",
    "anneal": "linear",
    "annealed": ["learning_rate"],
    "anneal_steps": None,
    "anneal_floor": 0.1,
    "eval_every": 10,
    "eval_episodes": 10,
    "until": None,
}
START = 1_795_000_000.0
SECONDS_PER_ITERATION = 0.08


def metric_values(
    iteration: int, total: int, noise: random.Random, steered_at: int | None
) -> dict[str, float]:
    """One plausible row of PPO's metrics; the clip fraction rises where ε was lowered."""
    share = iteration / total
    mean = 20 + 480 / (1 + math.exp(-(share - 0.28) * 22)) + noise.uniform(-6, 6) * (share < 0.6)
    mean = min(mean, 500.0)
    spread = 90 * math.exp(-4 * share) + 4
    steered = steered_at is not None and iteration >= steered_at
    values = {
        "rollout/ep_rew_mean": mean,
        "rollout/ep_len_mean": mean,
        "rollout/episodes": float(9 * iteration),
        "train/policy_loss": -0.018 + 0.014 * share + noise.gauss(0, 0.006),
        "train/value_loss": 30 * math.exp(-4 * share) + abs(noise.gauss(0, 1.5)),
        "train/entropy": 0.69 - 0.35 * share + noise.gauss(0, 0.01),
        "train/approx_kl": abs(0.013 - 0.009 * share + noise.gauss(0, 0.0015)),
        "train/clip_fraction": abs((0.21 if steered else 0.14) - 0.05 * share + noise.gauss(0, 0.012)),
        "train/explained_variance": 1 - 1.05 * math.exp(-7 * share) + noise.gauss(0, 0.02),
        "train/grad_norm": 0.4 + abs(noise.gauss(0, 0.1)),
        "train/ratio_max": 1.2 + abs(noise.gauss(0, 0.1)),
        "train/learning_rate": 1e-3 * (1 - 0.9 * share),
        "train/clip_epsilon": 0.1 if steered else 0.2,
        "time/fps": 51_000 + noise.gauss(0, 900),
        "time/steps": 4096.0 * iteration,
        "time/iteration_seconds": SECONDS_PER_ITERATION + abs(noise.gauss(0, 0.003)),
        "time/env_seconds": 0.02,
        "time/learn_seconds": 0.055,
    }
    if mean < 495 or iteration % 3 == 0:
        values["rollout/ep_rew_min"] = max(8.0, mean - spread * noise.uniform(0.5, 1.5))
        values["rollout/ep_rew_max"] = min(500.0, mean + spread * noise.uniform(0.5, 1.5))
    if iteration % 10 == 0:
        values["eval/return_mean"] = min(500.0, mean * 1.05)
        values["eval/return_std"] = spread / 2
    return values


def run_records(
    iterations: int = 184,
    *,
    steered_at: int | None = 102,
    nan_at: Sequence[int] = (),
    checkpoint_every: int = 50,
    end: str | None = None,
    why: str = "",
    seed: int = 1,
) -> list[Record]:
    """The journal of a run of ``iterations``: started, metrics, checkpoints, ε lowered at ``steered_at``,
    a rejected request after it, NaN losses at ``nan_at``, and the final status ``end`` if one is given."""
    noise = random.Random(seed)
    records: list[Record] = []

    def add(kind: str, iteration: int, **fields: Any) -> None:
        moment = START + SECONDS_PER_ITERATION * iteration
        records.append(
            {"seq": len(records) + 1, "time": moment, "iteration": iteration, "kind": kind, **fields}
        )

    add("status", 0, state="started", versions={"python": "3.11.2", "torch": "2.9.0"}, device="cpu",
        decisions={"vector": "native", "threads": 1}, pid=4242, host="box")  # fmt: skip
    add("status", 0, state="running")
    reached = False
    for iteration in range(1, iterations + 1):
        if iteration == steered_at:
            add("control", iteration, request="aaaa1111", action="set", by="ada@box", result="applied",
                changes={"clip_epsilon": [0.2, 0.1]})  # fmt: skip
            add("control", iteration, request="bbbb2222", action="set", by="ada@box", result="rejected",
                changes={"minibatch_size": [1024, 1000]}, why="minibatch_size = 1000: must divide 4096",
            )  # fmt: skip
        values: dict[str, Any] = metric_values(iteration, iterations, noise, steered_at)
        if iteration in nan_at:
            values["train/policy_loss"] = "nan"
            values["train/value_loss"] = "inf"
        add("metrics", iteration, values=values)
        if not reached and values["rollout/ep_rew_mean"] >= 475:
            reached = True
            add("note", iteration, text=f"475 reached after {4096 * iteration} steps")
        if iteration % checkpoint_every == 0:
            best = "best" if iteration % (3 * checkpoint_every) == 0 else "automatic"
            add("checkpoint", iteration, name=f"{iteration:08d}", reason=best, bytes=120_000)
    if end:
        add("status", iterations, state=end, **({"why": why} if why else {}))
    return records


def journal_bytes(records: Sequence[Record]) -> bytes:
    """``records`` as the lines of a journal."""
    return b"".join(orjson.dumps(record) + b"\n" for record in records)


def write_run(
    runs_dir: Path,
    name: str = "20261122-154210-ppo-cartpole-k3f9",
    *,
    records: Sequence[Record] | None = None,
    title: str = "",
    config: dict[str, Any] | None = None,
    **what: Any,
) -> Path:
    """A run folder with ``run.json`` and ``journal.jsonl``; ``what`` goes to :func:`run_records`."""
    folder = runs_dir / name
    folder.mkdir(parents=True, mode=0o700)
    for inner in ("requests", "checkpoints"):
        (folder / inner).mkdir(mode=0o700)
    settings: dict[str, Any] = {
        "trainer": "ppo",
        "setup": {"env": "CartPole-v1", "env_arg": {}, "frame_stack": 1, "vector": "auto", "seed": 1,
                  "device": "cpu", "threads": 1},
        "hyperparameters": HYPERPARAMETERS,
        "options": {"pace": None, "paused": False, "on_nan": "pause"},
        "changes": [],
        "name": title,
        "parent": None,
        "created": START,
        "working_folder": str(runs_dir),
        "version": "0.1.0",
        "subject": "CartPole-v1",
    }  # fmt: skip
    settings.update(config or {})
    written = run_records(**what) if records is None else list(records)
    for file, content in (("run.json", orjson.dumps(settings)), ("journal.jsonl", journal_bytes(written))):
        (folder / file).write_bytes(content)
        (folder / file).chmod(0o600)
    return folder
