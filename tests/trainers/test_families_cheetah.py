"""Half-cheetahs that run forwards or backwards, on MuJoCo."""

import importlib.util

import gymnasium
import numpy as np
import pytest
import torch

from trainers.envs.families import make_family
from trainers.trainer import TrainingError

CPU = torch.device("cpu")
needs_mujoco = pytest.mark.skipif(
    importlib.util.find_spec("mujoco") is None,
    reason='needs pip install "metarl-tui[mujoco]"',
)


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def cheetahs():
    family = make_family("half-cheetah-direction", {}, vector="sync", device=CPU)
    yield family
    family.close()


def rollout(family, steps=20, tasks=(1.0, -1.0)):
    draw = generator()
    seen = [family.reset(tasks, 2, draw)]
    for _ in range(steps):
        seen += family.step(torch.randn(2, 2, 6, generator=draw))
    return seen


@needs_mujoco
def test_the_reward_is_the_velocity_in_the_tasks_direction_less_the_papers_cost(
    cheetahs, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # where MuJoCo writes of what is out of date in Gymnasium's own
    plain = gymnasium.make("HalfCheetah-v5")
    draw = generator()
    observations = cheetahs.reset([1.0, -1.0], 1, draw)
    seeds = torch.randint(2**31, (2,), generator=generator()).tolist()
    action = torch.linspace(-1.5, 1.5, 6)
    for row in range(2):
        expected, _ = plain.reset(seed=seeds[row])
        assert np.allclose(observations[row, 0].numpy(), expected)
    transition = cheetahs.step(action.expand(2, 1, 6))
    for row, direction in enumerate((1.0, -1.0)):
        plain.reset(seed=seeds[row])
        clipped = action.clamp(-1, 1).numpy()
        expected, _, _, _, info = plain.step(clipped)
        assert np.allclose(transition.observations[row, 0].numpy(), expected)
        reward = direction * info["x_velocity"] - 0.05 * np.square(clipped).sum()
        assert transition.rewards[row, 0].item() == pytest.approx(reward, rel=1e-5)


@needs_mujoco
def test_a_rollout_follows_from_its_generator_alone(cheetahs):
    first = rollout(cheetahs)
    assert all(torch.equal(one, other) for one, other in zip(first, rollout(cheetahs), strict=True))
    elsewhere = make_family("half-cheetah-direction", {}, vector="async", device=CPU)
    try:
        other = rollout(elsewhere)
    finally:
        elsewhere.close()
    assert all(torch.equal(one, other) for one, other in zip(first, other, strict=True))


@needs_mujoco
def test_directions_are_drawn_and_episodes_take_two_hundred_steps(cheetahs):
    directions = cheetahs.sample_tasks(40, generator())
    assert set(directions) == {-1.0, 1.0}
    assert cheetahs.describe(directions[0]) == {"task": directions[0]}
    assert cheetahs.horizon == 200


@needs_mujoco
def test_nothing_is_written_to_the_working_folder(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    make_family("half-cheetah-direction", {}, vector="sync", device=CPU).close()
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_without_mujoco_it_says_what_to_install(hide_package):
    hide_package("mujoco", "gymnasium.envs.mujoco", "trainers.envs.families.cheetah")
    with pytest.raises(TrainingError) as refusal:
        make_family("half-cheetah-direction", {}, device=CPU)
    assert str(refusal.value) == (
        'env = half-cheetah-direction: MuJoCo is not installed; pip install "metarl-tui[mujoco]"'
    )
