"""Families by name, and the view of one environment of them."""

import warnings

import gymnasium
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from trainers.envs.families import make_family
from trainers.envs.families.single_view import SingleEnvironment
from trainers.envs.making import make_environments
from trainers.hyperparameters import PPOSetup
from trainers.trainer import TrainingError

CPU = torch.device("cpu")
BATCHED = ["navigation", "cartpole-family"]


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def drawn_actions(family, tasks, trajectories, generator):
    if hasattr(family.action, "sizes"):
        return torch.randint(2, (tasks, trajectories, 1), generator=generator)
    return torch.randn(tasks, trajectories, family.action.size, generator=generator)


def refusal(env, *, vector="auto", **arguments):
    with pytest.raises(TrainingError) as caught:
        make_family(env, arguments, vector=vector, device=CPU)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("env", BATCHED)
def test_a_rollout_follows_from_its_generator_alone(env):
    rollouts = []
    family = make_family(env, {}, device=CPU)
    for _ in range(2):
        draw = generator()
        tasks = family.sample_tasks(4, draw)
        seen = [family.reset(tasks, 3, draw)]
        for _ in range(family.horizon):
            transition = family.step(drawn_actions(family, 4, 3, draw))
            seen += [transition.observations, transition.rewards]
        rollouts.append(seen)
    assert all(torch.equal(one, other) for one, other in zip(*rollouts, strict=True))
    assert family.kind == "batched"


@pytest.mark.parametrize("env", BATCHED)
def test_shapes_and_types_are_those_of_the_protocol(env):
    family = make_family(env, {}, device=CPU)
    observations = family.reset(family.sample_tasks(4, generator()), 3, generator())
    assert observations.shape == (4, 3, *family.observation.shape)
    assert observations.dtype == torch.float32
    transition = family.step(drawn_actions(family, 4, 3, generator()))
    assert [part.dtype for part in transition] == [torch.float32, torch.float32, torch.bool, torch.bool]
    assert all(part.shape[:2] == (4, 3) for part in transition)


@pytest.mark.parametrize("env", BATCHED)
def test_a_step_needs_nothing_from_another_device(env):
    # Tensors on the meta device have no values: to ask for one, or to meet a tensor elsewhere, raises.
    meta = torch.device("meta")
    family = make_family(env, {}, device=meta)
    family.horizon = 3
    family.reset(family.sample_tasks(4, generator()), 3, generator())
    actions = drawn_actions(family, 4, 3, generator()).to(meta)
    for _ in range(family.horizon):
        transition = family.step(actions)
    assert all(part.device.type == "meta" for part in transition)


@pytest.mark.parametrize("env", BATCHED)
def test_what_a_step_gave_does_not_change_afterwards(env):
    family = make_family(env, {}, device=CPU)
    observations = family.reset(family.sample_tasks(4, generator()), 3, generator())
    kept, copies = [observations], [observations.clone()]
    for _ in range(20):
        transition = family.step(drawn_actions(family, 4, 3, generator()))
        kept += transition
        copies += [part.clone() for part in transition]
    assert all(torch.equal(one, other) for one, other in zip(kept, copies, strict=True))


@pytest.mark.parametrize("env", BATCHED)
def test_gymnasiums_checker_passes_the_single_view(env):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(SingleEnvironment(env), skip_render_check=True)
    # It also says this of Gymnasium's own CartPole.
    assert all("infinity" in str(warning.message) for warning in caught)


def test_the_single_view_becomes_another_task_at_each_reset_or_the_one_given():
    view = SingleEnvironment("navigation", reward="squared-distance")
    first, second = view.reset(seed=3)[1], view.reset()[1]
    assert first != second
    assert view.reset(seed=3)[1] == first
    told = view.reset(options={"task": [0.25, 0.5]})[1]
    assert told == {"goal_x": 0.25, "goal_y": 0.5}
    assert view.step([1.0, 0.0])[1] == pytest.approx(-(0.15**2 + 0.5**2))


def test_ppo_can_train_on_the_single_view():
    setup = PPOSetup(
        env="trainers.envs.families.single_view:SingleEnvironment", env_arg={"env": "cartpole-family"}
    )
    envs = make_environments(setup, 2, 1, kind="sync")
    envs.reset()
    assert (envs.step(torch.ones(2, dtype=torch.int64).numpy()).rewards == 1).all()


def test_an_unknown_family_is_refused_with_near_names():
    assert refusal("navigatoin") == (
        "env = navigatoin: no such family of environments; did you mean navigation? must be navigation, "
        "cartpole-family, half-cheetah-direction or package.module:Class"
    )
    assert "did you mean" not in refusal("zzz")
    assert "no module named nowhere" in refusal("nowhere:Env")


def test_an_argument_that_a_family_does_not_take_is_refused():
    assert refusal("cartpole-family", spred=2) == (
        "env_arg = spred=2: cartpole-family has no spred; did you mean spread? it takes spread"
    )


def test_a_kind_that_a_family_does_not_come_in_is_refused():
    assert refusal("navigation", vector="async") == (
        "vector = async: navigation steps as one tensor; use auto"
    )


def test_a_gymnasium_family_has_no_single_view():
    with pytest.raises(TrainingError, match="it is a Gymnasium environment by itself"):
        SingleEnvironment("task_probes:Told")


def test_the_single_view_is_a_gymnasium_environment():
    assert issubclass(SingleEnvironment, gymnasium.Env)
