"""What is sampled of many tasks at once: shares, advantages, the baseline, and tasks that are lost."""

import math

import numpy as np
import pytest
import torch

from trainers.envs.families.family import Transition
from trainers.fast_weights import FastWeights
from trainers.linear_baseline import fitted_values
from trainers.meta_policies import MetaPolicy
from trainers.spaces import BoxSpec
from trainers.trajectories import Generators, collect

HORIZON = 25


class Countdown:
    """Task i, trajectory j terminates after tasks[i] + j steps; the reward is i + 1, the state the time."""

    observation = BoxSpec((1,), "float32", (-math.inf,), (math.inf,))
    action = BoxSpec((2,), "float32", (-1.0,), (1.0,))
    horizon = HORIZON
    kind = "batched"

    def reset(self, tasks, trajectories, generator):
        self.ends = tasks[:, None] + torch.arange(trajectories)
        self.worth = torch.arange(len(tasks))[:, None] + 1.0
        self.time, self.actions = 0, []
        return torch.zeros(*self.ends.shape, 1)

    def step(self, actions):
        assert actions.isfinite().all()
        self.actions.append(actions)
        rewards = (self.time < self.ends) * self.worth
        self.time += 1
        terminated = self.time >= self.ends
        observations = torch.full((*self.ends.shape, 1), float(self.time))
        truncated = ~terminated & (self.time == HORIZON)
        return Transition(observations, rewards, terminated, truncated)


def sampled(tasks, trajectories=2, gamma=1.0, spoil=None):
    family, policy = Countdown(), MetaPolicy(Countdown.observation, Countdown.action, (4,), "tanh")
    parameters = policy.initial(torch.Generator().manual_seed(1))
    each = {name: p.expand(len(tasks), *p.shape).clone() for name, p in parameters.items()}
    if spoil is not None:
        each["layer1.weight"][spoil] = math.nan
    generators = Generators(torch.Generator().manual_seed(2), torch.Generator().manual_seed(3))
    weights = FastWeights.of_tasks(each)
    data = collect(
        family,
        policy,
        weights,
        torch.tensor(tasks),
        trajectories,
        gamma=gamma,
        gae_lambda=1.0,
        generators=generators,
    )
    return data, policy, weights, family


def test_rows_count_up_to_the_end_and_sampling_stops_when_all_have_ended():
    data, _, _, family = sampled([3, 9])
    assert data.shares.shape == (2, 10, 2)  # asked every ten steps
    assert len(family.actions) == 10
    counted = data.shares > 0
    assert counted.sum(1).tolist() == [[3, 4], [9, 10]]
    torch.testing.assert_close(data.shares.sum((1, 2)), torch.ones(2))
    torch.testing.assert_close(data.shares[counted][0], torch.tensor(1 / 7))
    assert data.steps == 26
    assert data.returns.tolist() == [[3, 4], [18, 20]]
    assert sampled([30, 40])[0].shares.shape[1] == HORIZON


def test_log_probabilities_are_those_of_the_weights_sampled_with():
    data, policy, weights, family = sampled([4, 6])
    assert torch.equal(data.actions, torch.stack(family.actions, 1))
    again = policy(weights, data.observations)
    torch.testing.assert_close(data.log_probs, again.evaluate(data.actions)[0])
    assert data.distribution.divergence(again).abs().max() < 1e-6


def test_advantages_are_normal_within_each_task():
    data, *_ = sampled([5, 12], trajectories=8, gamma=0.9)
    means = (data.shares * data.advantages).sum((1, 2))
    torch.testing.assert_close(means, torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close((data.shares * data.advantages.square()).sum((1, 2)), torch.ones(2))
    assert data.explained_variance > 0.5


@pytest.mark.parametrize("tasks", [[1, 1], [5, 12]])
def test_the_explained_variance_of_constant_returns_is_no_number(tasks):
    # With gamma 0 all returns of a task are its reward; elsewhere they are as many as steps are left.
    data, *_ = sampled(tasks, trajectories=3, gamma=0.0)
    assert data.explained_variance.isnan()
    assert sampled(tasks, trajectories=3)[0].explained_variance.isfinite()


def test_a_task_whose_weights_are_not_finite_is_lost_alone():
    data, *_ = sampled([5, 5], spoil=1)
    assert data.returns[0].isfinite().all()
    assert data.returns[1].isnan().all()
    assert data.log_probs[0].isfinite().all()


def test_the_baseline_is_least_squares_of_each_task_by_itself():
    generator = torch.Generator().manual_seed(4)
    steps, tasks, trajectories = 30, 3, 5
    observations = 4 * torch.randn(steps, tasks, trajectories, 2, generator=generator)
    returns = torch.randn(steps, tasks, trajectories, generator=generator)
    shares = (torch.rand(returns.shape, generator=generator) < 0.7).float() / 100
    returns[shares == 0] = 1e6
    found = fitted_values(observations, returns, shares)
    time = np.broadcast_to(np.arange(steps)[:, None] / 100, (steps, trajectories))
    for task in range(tasks):
        o = observations[:, task].double().clamp(-10, 10).numpy()
        columns = [*np.moveaxis(o, -1, 0), *np.moveaxis(o**2, -1, 0), *(time**p for p in range(4))]
        x = np.stack([column.ravel() for column in columns], 1)
        y, w = (rows[:, task].double().numpy().ravel() for rows in (returns, shares))
        ridge = math.sqrt(1e-5) * np.eye(x.shape[1])
        root = np.sqrt(w)[:, None]
        solution, *_ = np.linalg.lstsq(
            np.concatenate((x * root, ridge)),
            np.concatenate((y * root[:, 0], np.zeros(len(ridge)))),
            rcond=None,
        )
        np.testing.assert_allclose(found[:, task].numpy().ravel(), x @ solution, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("trajectories", "size"), [(1, 4), (2, 10), (1, 40)])
def test_with_few_rows_the_baseline_leaves_advantages_to_learn_from(trajectories, size):
    generator = torch.Generator().manual_seed(6)
    observations = torch.randn(20, 3, trajectories, size, generator=generator)
    returns = torch.randn(20, 3, trajectories, generator=generator)
    shares = torch.full_like(returns, 1 / (20 * trajectories))
    rest = returns - fitted_values(observations, returns, shares)
    # A fit to noise by a third as many features as rows takes a third of its variance on average.
    assert (rest.square().mean((0, 2)) > 0.4 * returns.square().mean((0, 2))).all()


def test_with_very_few_rows_the_baseline_is_their_mean():
    returns = torch.tensor([1.0, 5.0, 3.0]).view(3, 1, 1)
    values = fitted_values(torch.randn(3, 1, 1, 2), returns, torch.full((3, 1, 1), 1 / 3))
    torch.testing.assert_close(values, torch.full((3, 1, 1), 3.0), atol=1e-3, rtol=0)


@pytest.mark.parametrize("extreme", [1e30, -1e30])
def test_the_baseline_clips_what_is_far_out(extreme):
    observations = torch.full((20, 1, 2, 1), extreme)
    values = fitted_values(observations, torch.ones(20, 1, 2), torch.full((20, 1, 2), 1 / 40))
    torch.testing.assert_close(values, torch.ones(20, 1, 2), atol=1e-2, rtol=0)
