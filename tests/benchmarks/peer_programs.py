"""What peers.py runs in the peers' own Python: one program for each row, its result as JSON on stdout.

    python peer_programs.py PROGRAM SECONDS SEED

Nothing of this project is imported here.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch

torch.set_num_threads(1)

ZOO = {"num_envs": 8, "n_steps": 32, "batch_size": 256, "n_epochs": 20}
CLEANRL = {"num_envs": 4, "n_steps": 128, "batch_size": 128, "n_epochs": 4}


def measured(work: Callable[[], int], seconds: float) -> dict[str, float]:
    """Units of ``work`` done in about ``seconds``, after one call that does not count."""
    work()
    wall, cpu, done = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - wall < seconds:
        done += work()
    return {"done": done, "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def agent(library: str, seed: int, num_envs: int, **values: Any) -> Any:
    """PPO for CartPole-v1 with RL Baselines3 Zoo's other hyperparameters (hyperparams/ppo.yml)."""
    from stable_baselines3.common.env_util import make_vec_env

    if library == "sbx":
        from sbx import PPO
    else:
        from stable_baselines3 import PPO
    environments = make_vec_env("CartPole-v1", num_envs, seed=seed)
    return PPO(
        "MlpPolicy", environments, gae_lambda=0.8, gamma=0.98, ent_coef=0.0, seed=seed, device="cpu",
        learning_rate=lambda left: 1e-3 * left, clip_range=lambda left: 0.2 * left, **values,
    )  # fmt: skip


def throughput(library: str, values: dict[str, int], seconds: float) -> dict[str, float]:
    """Environment steps."""
    model = agent(library, 1, **values)
    steps = 8 * values["num_envs"] * values["n_steps"]

    def work() -> int:
        model.learn(steps, reset_num_timesteps=False)
        return steps

    return measured(work, seconds)


def solve(library: str, seed: int) -> dict[str, float]:
    """Until the mean return of the last 100 training episodes is 475; the Zoo gives it 100,000 steps."""
    from stable_baselines3.common.callbacks import BaseCallback

    class UntilSolved(BaseCallback):
        def _on_step(self) -> bool:
            returns = [episode["r"] for episode in self.model.ep_info_buffer or ()]
            return len(returns) < 100 or sum(returns) / len(returns) < 475

    model = agent(library, seed, **ZOO)
    # Longer than the Zoo's, so that no seed ends before; the schedules are stretched with it.
    model.learn(1_000_000, callback=UntilSolved())
    return {"done": model.num_timesteps, "wall": 0.0, "cpu": time.process_time()}


def networks(task: str) -> tuple[torch.nn.Module, Callable[..., torch.Tensor], float, Callable[[], Any]]:
    """A network, its loss, the inner rate, and what samples support and query of all tasks."""
    linear, relu = torch.nn.Linear, torch.nn.ReLU
    if task == "sinusoid":
        network = torch.nn.Sequential(linear(1, 40), relu(), linear(40, 40), relu(), linear(40, 1))
        rows = torch.rand(2, 25, 10, 1)
        return network, torch.nn.functional.mse_loss, 0.01, lambda: (rows, torch.sin(rows))
    sizes = (784, 256, 128, 64)
    layers = [part for a, b in pairwise(sizes) for part in (linear(a, b), relu())]
    images, labels = torch.rand(2, 32, 5, 784), torch.arange(5).expand(2, 32, 5)
    network = torch.nn.Sequential(*layers, linear(64, 5))
    return network, torch.nn.functional.cross_entropy, 0.4, lambda: (images, labels)


def maml(library: str, task: str, seconds: float) -> dict[str, float]:
    """Meta-iterations with second derivatives and one inner step; tasks one after another, as peers do."""
    network, loss, rate, sample = networks(task)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    adapted = {"learn2learn": _learn2learn, "higher": _higher, "torchopt": _torchopt}[library]

    def work() -> int:
        (xs, query_xs), (ys, query_ys) = sample()
        optimizer.zero_grad()
        for x, y, query_x, query_y in zip(xs, ys, query_xs, query_ys, strict=True):
            adapted(network, loss, rate, (x, y), (query_x, query_y), len(xs))
        optimizer.step()
        return 1

    return measured(work, seconds)


def _learn2learn(network: Any, loss: Any, rate: float, support: Any, query: Any, tasks: int) -> None:
    import learn2learn

    learner = learn2learn.algorithms.MAML(network, rate).clone()
    learner.adapt(loss(learner(support[0]), support[1]))
    (loss(learner(query[0]), query[1]) / tasks).backward()


def _higher(network: Any, loss: Any, rate: float, support: Any, query: Any, tasks: int) -> None:
    import higher

    inner = torch.optim.SGD(network.parameters(), rate)
    with higher.innerloop_ctx(network, inner, copy_initial_weights=False) as (fast, optimizer):
        optimizer.step(loss(fast(support[0]), support[1]))
        (loss(fast(query[0]), query[1]) / tasks).backward()


def _torchopt(network: Any, loss: Any, rate: float, support: Any, query: Any, tasks: int) -> None:
    import torchopt

    inner = torchopt.MetaSGD(network, lr=rate)
    before = torchopt.extract_state_dict(network, by="reference")
    before_inner = torchopt.extract_state_dict(inner, by="reference")
    inner.step(loss(network(support[0]), support[1]))
    (loss(network(query[0]), query[1]) / tasks).backward()
    torchopt.recover_state_dict(network, before)
    torchopt.recover_state_dict(inner, before_inner)


def main() -> None:
    kind, library, *rest = sys.argv[1].split(":")
    seconds = float(sys.argv[2])
    if kind == "solve":
        result = solve(library, int(sys.argv[3]))
    elif kind == "ppo":
        result = throughput(library, ZOO if rest == ["zoo"] else CLEANRL, seconds)
    else:
        result = maml(library, rest[0], seconds)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
