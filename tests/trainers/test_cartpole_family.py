"""The CartPole family: Gymnasium's own dynamics when nothing is changed, and tasks that no policy shares."""

import gymnasium
import numpy as np
import pytest
import torch

from trainers.envs.families import make_family
from trainers.envs.families.cartpole import PARAMETERS
from trainers.trainer import TrainingError

CPU = torch.device("cpu")
UNCHANGED = torch.tensor([list(PARAMETERS.values())], dtype=torch.float64)


def family(**arguments):
    return make_family("cartpole-family", arguments, device=CPU)


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def balanced(observations, task):
    """Actions [n, K, 1] of a controller that keeps any task of the family up, told its force's sign."""
    lean = observations[..., 2] + 0.25 * observations[..., 3]
    return (lean * task[:, 3:].sign() > 0).long().unsqueeze(-1)


def gymnasium_twin(task, state):
    """Gymnasium's CartPole with a task's parameters, derived ones too, in a state of ours."""
    env = gymnasium.make("CartPole-v1", max_episode_steps=200)
    env.reset(seed=0)
    pole = env.unwrapped
    for name, value in zip(PARAMETERS, task.tolist(), strict=True):
        setattr(pole, name, value)
    pole.total_mass = pole.masscart + pole.masspole
    pole.polemass_length = pole.masspole * pole.length
    pole.state = state.double().numpy()
    return env


@pytest.mark.parametrize("changed", [False, True])
def test_it_is_gymnasiums_cartpole_step_by_step(changed):
    cartpoles = family()
    tasks = cartpoles.sample_tasks(6, generator()) if changed else UNCHANGED
    observations = cartpoles.reset(tasks, 2, generator())
    states = cartpoles._state.clone()
    twins = [[gymnasium_twin(task, state) for state in row] for task, row in zip(tasks, states, strict=True)]
    ended = torch.zeros(len(tasks), 2, dtype=torch.bool)
    lengths = []
    for step in range(200):
        actions = balanced(observations, tasks)
        if step > 60:
            actions[:, 1] = 1  # so that an episode of each task terminates and the other lasts
        observations, rewards, terminated, truncated = cartpoles.step(actions)
        for i, j in np.ndindex(*ended.shape):
            if ended[i, j]:
                assert rewards[i, j] == 0
                continue
            expected, reward, *flags, _ = twins[i][j].step(int(actions[i, j, 0]))
            assert np.abs(observations[i, j].numpy() - expected).max() < 1e-6
            assert rewards[i, j] == reward
            assert [bool(terminated[i, j]), bool(truncated[i, j])] == flags
            if any(flags):
                lengths.append(step + 1)
        ended = terminated | truncated
    assert ended.all()
    assert max(lengths) == 200
    assert min(lengths) < 200


def test_half_of_the_tasks_are_flipped_and_parameters_stay_within_the_spread():
    tasks = family(spread=3.0).sample_tasks(40, generator())
    assert (tasks[:, 3] < 0).sum() == 20
    ratios = tasks.abs() / UNCHANGED
    assert ((ratios >= 1 / 3) & (ratios <= 3)).all()
    assert ratios.min() < 0.5
    assert ratios.max() > 2
    signs = [family().sample_tasks(1, generator(seed))[0, 3].sign().item() for seed in range(40)]
    assert 10 < signs.count(-1.0) < 30, "a task drawn alone is flipped as often as not"


def test_with_a_spread_of_one_only_the_force_differs():
    tasks = family(spread=1).sample_tasks(10, generator())
    assert torch.equal(tasks.abs(), UNCHANGED.expand(10, 4))
    assert set(tasks[:, 3].tolist()) == {10.0, -10.0}


def test_the_controller_that_knows_the_sign_keeps_every_task_up_and_the_other_none():
    cartpoles = family()
    tasks = cartpoles.sample_tasks(40, generator())
    returns = []
    for told in (tasks, -tasks):
        total = torch.zeros(40, 3)
        observations = cartpoles.reset(tasks, 3, generator())
        for _ in range(200):
            observations, rewards, terminated, truncated = cartpoles.step(balanced(observations, told))
            total += rewards
        returns.append(total)
        assert (terminated ^ truncated).all()
    assert returns[0].min() == 200
    assert returns[1].max() < 60


def test_a_task_is_described_under_gymnasiums_names():
    cartpoles = family()
    assert cartpoles.describe(UNCHANGED[0]) == PARAMETERS
    pole = gymnasium.make("CartPole-v1").unwrapped
    assert {name: getattr(pole, name) for name in PARAMETERS} == PARAMETERS


@pytest.mark.parametrize("spread", [0.5, 10.5, 1e200, float("inf"), float("nan"), "wide"])
def test_a_spread_that_is_no_number_from_one_to_ten_is_refused(spread):
    with pytest.raises(TrainingError, match=r"spread=.*must be a number from 1 to 10"):
        family(spread=spread)
