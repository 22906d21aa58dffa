"""What an iteration reads from its device, each a wait for it: counted where the device is a processor too.

"meta" tensors have no numbers: what reads or copies one raises.
"""

import math

import pytest
import torch
from ppo_runs import trainer
from torch import Tensor

from trainers.declarations import make_settings
from trainers.envs.families import make_family
from trainers.hyperparameters import MAMLPPOHyperparameters, MAMLPPOSetup
from trainers.maml_ppo import MAMLPPO
from trainers.trajectories import _advantages

READING = ("cpu", "tolist", "item", "__bool__", "__float__", "__int__", "__index__")
META = torch.device("meta")
FAMILIES = pytest.mark.parametrize("env", ["navigation", "cartpole-family"])


@pytest.fixture
def reads(monkeypatch):
    """The names of what has read from a tensor, in order."""
    found = []

    def counted(name, read):
        def reading(*arguments, **options):
            found.append(name)
            return read(*arguments, **options)

        return reading

    for name in READING:
        monkeypatch.setattr(Tensor, name, counted(name, getattr(Tensor, name)))
    return found


@pytest.mark.parametrize("epochs", [1, 3])
def test_ppo_reads_actions_once_a_step_and_figures_once_a_minibatch(reads, epochs):
    steps, minibatches = 16, 4
    ppo = trainer(
        num_envs=8, rollout_steps=steps, minibatch_size=32, hidden_sizes=(8,), epochs=epochs, eval_every=None
    )
    # As on another device: gradients by autograd, and observations that arrive by a copy.
    ppo.policy.perceptrons = None
    ppo.collector._arrived = torch.zeros(8, 4)
    ppo.step()
    reads.clear()
    ppo.step()
    assert reads.count("cpu") == steps
    # And once which minibatches count, once the explained variance.
    assert len(reads) == steps + epochs * minibatches + 2


@FAMILIES
def test_maml_ppo_reads_whether_all_have_ended_every_ten_steps_and_figures_once(reads, env):
    inner_steps, epochs = 2, 3
    h = {"meta_batch_size": 3, "trajectories_per_task": 4, "hidden_sizes": (8,), "eval_every": None}
    h |= {"inner_steps": inner_steps, "epochs": epochs, "picture_every": None}
    maml = MAMLPPO(MAMLPPOSetup(env=env), make_settings(MAMLPPOHyperparameters, h))
    maml.step()
    reads.clear()
    maml.step()
    asked = (inner_steps + 1) * math.ceil(maml.family.horizon / 10)
    assert reads.count("__bool__") <= asked
    # The figures of each epoch, and once those of the adaptation.
    assert len(reads) - reads.count("__bool__") == epochs + 1


@FAMILIES
def test_batched_environments_step_on_their_device(env):
    family = make_family(env, {}, device=META)
    generator = torch.Generator().manual_seed(1)
    seen = family.reset(family.sample_tasks(3, generator), 4, generator)
    shape = (3, 4, 1) if env == "cartpole-family" else (3, 4, 2)
    dtype = torch.int64 if env == "cartpole-family" else torch.float32
    for _ in range(3):
        transition = family.step(torch.zeros(shape, dtype=dtype, device=META))
        assert transition.observations.shape == seen.shape
        assert {part.device for part in transition} == {META}


def test_advantages_and_the_baseline_are_made_on_the_device():
    shape = (3, 20, 4)
    rewards, shares = (torch.empty(shape, device=META) for _ in range(2))
    done = torch.empty(shape, dtype=torch.bool, device=META)
    advantages, explained = _advantages(
        torch.empty(*shape, 2, device=META), rewards, shares, done, gamma=0.9, gae_lambda=0.9
    )
    assert (advantages.shape, advantages.device, explained.device) == (shape, META, META)
