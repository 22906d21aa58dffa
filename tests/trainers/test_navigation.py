"""2-D navigation: known answers, ends, and both of the paper's rewards."""

import pytest
import torch

from trainers.envs.families import make_family
from trainers.trainer import TrainingError

CPU = torch.device("cpu")


def family(**arguments):
    return make_family("navigation", arguments, device=CPU)


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def test_goals_are_uniform_in_the_square_and_come_from_the_generator():
    goals = family().sample_tasks(4000, generator())
    assert goals.abs().max() <= 0.5
    assert torch.allclose(goals.mean(0), torch.zeros(2), atol=0.02)
    assert torch.allclose(goals.var(0), torch.full((2,), 1 / 12), atol=0.005)
    assert torch.equal(goals[:7], family().sample_tasks(4000, generator())[:7])
    assert not torch.equal(goals[:7], family().sample_tasks(4000, generator(2))[:7])


@pytest.mark.parametrize(("reward", "power"), [("distance", 1), ("squared-distance", 2)])
def test_the_reward_is_that_of_the_place_after_the_step(reward, power):
    point = family(reward=reward)
    first = point.reset(torch.tensor([[0.4, 0.4]]), 1, generator())
    assert torch.equal(first, torch.zeros(1, 1, 2))
    # An action of 1 moves by 0.1, a larger one no further: to (0, 0.1), then to (0, 0).
    rewards = [point.step(torch.tensor([[[0.0, up]]])).rewards.item() for up in (9.0, -1.0)]
    assert rewards == pytest.approx([-(0.5**power), -(0.32 ** (power / 2))])


def test_an_episode_ends_near_the_goal_and_stays_there():
    point = family()
    point.reset(torch.tensor([[0.205, -0.1], [0.5, 0.5]]), 2, generator())
    actions = torch.tensor([[[1.0, -0.5], [0.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]]])
    steps = [point.step(actions) for _ in range(100)]
    ended = torch.stack([step.terminated[0, 0] for step in steps])
    assert ended.tolist() == [False] + [True] * 99
    assert steps[1].rewards[0, 0].item() == pytest.approx(-0.005, abs=1e-6), "the last step's own"
    assert all(step.rewards[0, 0] == 0 for step in steps[2:])
    assert all(torch.equal(step.observations[0, 0], steps[1].observations[0, 0]) for step in steps[2:])
    assert not steps[-2].truncated.any()
    assert steps[-1].truncated.tolist() == [[False, True], [False, False]]
    assert steps[-1].terminated.tolist() == [[True, False], [True, True]]
    after = point.step(actions)
    assert after.rewards.eq(0).all()
    assert torch.equal(after.truncated, steps[-1].truncated)
    assert torch.equal(after.terminated, steps[-1].terminated)


def test_trajectories_of_a_task_are_independent_rows():
    point = family()
    goals = point.sample_tasks(3, generator())
    point.reset(goals, 4, generator())
    actions = torch.randn(3, 4, 2, generator=generator())
    together = point.step(actions)
    assert together.observations.dtype == together.rewards.dtype == torch.float32
    for i in range(3):
        for j in range(4):
            point.reset(goals[i : i + 1], 1, generator())
            alone = point.step(actions[i : i + 1, j : j + 1])
            assert torch.equal(alone.observations[0, 0], together.observations[i, j])
            assert torch.equal(alone.rewards[0, 0], together.rewards[i, j])


def test_the_goal_is_described():
    point = family()
    assert point.describe(torch.tensor([0.25, -0.5])) == {"goal_x": 0.25, "goal_y": -0.5}


def test_an_unknown_reward_is_refused():
    with pytest.raises(TrainingError, match="reward=euclid: must be one of distance, squared-distance"):
        family(reward="euclid")
