"""State and restore: training goes on bit for bit, and a steered run equals itself."""

import json

import numpy as np
import pytest

from trainers.declarations import make_settings
from trainers.hyperparameters import PPOHyperparameters, PPOSetup
from trainers.ppo import PPO
from trainers.trainer import State

SMALL = {"num_envs": 4, "rollout_steps": 16, "minibatch_size": 32, "hidden_sizes": (16,), "eval_every": 2}
NORMALISED = {**SMALL, "normalize_observations": True, "normalize_rewards": True}
RUNS = [
    ("CartPole-v1", "native", {**SMALL, "annealed": ("learning_rate", "clip_epsilon"), "anneal_steps": 400}),
    ("Pendulum-v1", "sync", {**NORMALISED, "eval_every": 7, "eval_episodes": 2}),
    ("probes:RightTwoActions", "sync", SMALL),
]


def trainer(env, vector, values):
    return PPO(PPOSetup(env=env, vector=vector), make_settings(PPOHyperparameters, values))


def measured(ppo, iterations):
    rows = [ppo.step() for _ in range(iterations)]
    return [
        (row.number, row.events, {k: v for k, v in row.metrics.items() if k == "time/steps" or k[:5] != "time/"})
        for row in rows
    ]


def copied(state):
    """As it comes back from a checkpoint: numbers through JSON, arrays that may not be written to."""
    arrays = [{name: array.copy() for name, array in part.items()} for part in (state.weights, state.tensors)]
    for part in arrays:
        for array in part.values():
            array.flags.writeable = False
    return State(*arrays, json.loads(json.dumps(state.numbers)))


def assert_equal_states(first, second):
    for one, other in ((first.weights, second.weights), (first.tensors, second.tensors)):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
            assert one[name].dtype == other[name].dtype
    assert json.dumps(first.numbers) == json.dumps(second.numbers)


@pytest.mark.parametrize(("env", "vector", "values"), RUNS)
def test_a_restored_trainer_goes_on_bit_for_bit(env, vector, values):
    whole = trainer(env, vector, values)
    first = measured(whole, 3)
    state = copied(whole.state())
    expected = measured(whole, 5)
    resumed = trainer(env, vector, values)
    resumed.step()
    assert resumed.restore(state) is None
    assert resumed.iteration == len(first) == 3
    assert_equal_states(state, resumed.state())
    assert measured(resumed, 5) == expected
    assert_equal_states(whole.state(), resumed.state())


def test_a_state_before_the_first_iteration_restores():
    fresh, other = (trainer(*RUNS[0]) for _ in range(2))
    state = copied(fresh.state())
    other.step()
    other.restore(state)
    assert measured(fresh, 2) == measured(other, 2)


def test_the_same_seed_gives_the_same_run_and_another_seed_another():
    first, second = (measured(trainer(*RUNS[0]), 3) for _ in range(2))
    assert first == second
    other = PPO(PPOSetup(seed=2), make_settings(PPOHyperparameters, RUNS[0][2]))
    assert measured(other, 3) != first


def test_settings_steered_by_hand_are_restored():
    ppo = trainer(*RUNS[0])
    ppo.step()
    ppo.change({"learning_rate": 2e-3, "gamma": 0.9})
    ppo.change({"clip_epsilon": 0.4}, rebase=True)
    resumed = trainer(*RUNS[0])
    resumed.restore(copied(ppo.state()))
    assert resumed.settings.values == ppo.settings.values
    assert resumed.settings.schedules == ppo.settings.schedules
    assert list(ppo.settings.schedules) == ["clip_epsilon"]
    assert measured(resumed, 2) == measured(ppo, 2)


def test_an_event_is_not_said_again_after_a_restore():
    ppo = trainer("CartPole-v1", "native", {**SMALL, "rollout_steps": 256})
    ppo.environments.reward_threshold = 5.0
    assert [ppo.step() for _ in range(3)][-1].metrics["rollout/episodes"] > 100
    resumed = trainer("CartPole-v1", "native", {**SMALL, "rollout_steps": 256})
    resumed.environments.reward_threshold = 5.0
    resumed.restore(copied(ppo.state()))
    assert resumed.step().events == ()


def test_another_number_of_environments_begins_new_episodes_and_says_so():
    ppo = trainer("CartPole-v1", "native", {**NORMALISED, "eval_every": None})
    ppo.step()
    wider = trainer("CartPole-v1", "native", {**NORMALISED, "eval_every": None, "num_envs": 8})
    assert "8 environments" in wider.restore(copied(ppo.state()))
    assert wider.step().fault is None
