"""State and restore: training goes on bit for bit, and a steered run equals itself."""

import json

import numpy as np
import pytest

from trainers.declarations import InvalidValue, make_settings
from trainers.hyperparameters import PPOHyperparameters, PPOSetup
from trainers.ppo import PPO
from trainers.trainer import State, TrainingError

SMALL = {"num_envs": 4, "rollout_steps": 16, "minibatch_size": 32, "hidden_sizes": (16,), "eval_every": 2}
NORMALISED = {**SMALL, "normalize_observations": True, "normalize_rewards": True}
RUNS = [
    ("CartPole-v1", "native", {**SMALL, "annealed": ("learning_rate", "clip_epsilon"), "anneal_steps": 400}),
    ("Pendulum-v1", "sync", {**NORMALISED, "eval_every": 7, "eval_episodes": 2}),
    ("probes:RightTwoActions", "sync", SMALL),
    ("CartPole-v1", "async", {**NORMALISED, "eval_every": None}),
    ("probes:Counted", "sync", {**SMALL, "anneal_steps": 40, "anneal_floor": 0.0}),
    ("image_probe:Squares", "sync", {**SMALL, "eval_every": 4, "eval_episodes": 2, "rollout_steps": 8}),
]


def trainer(env, vector, values):
    frame_stack = 3 if env.startswith("image") else 1
    setup = PPOSetup(env=env, vector=vector, frame_stack=frame_stack)
    return PPO(setup, make_settings(PPOHyperparameters, values))


def measured(ppo, iterations):
    rows = [ppo.step() for _ in range(iterations)]
    clocks = {"time/fps", "time/iteration_seconds", "time/env_seconds", "time/learn_seconds"}
    return [
        (row.number, row.events, {k: v for k, v in row.metrics.items() if k not in clocks}) for row in rows
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
    whole.close()
    resumed.close()


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
    wider.step()
    assert "8 environments" in wider.restore(copied(ppo.state()))
    assert wider.settings.values.num_envs == 8
    assert wider.change({"minibatch_size": 128}) == {"minibatch_size": (32, 128)}
    assert not wider.collector.episodes.returns.any()
    assert not wider.reward_normalizer.returns.any()
    assert wider.step().fault is None


def test_a_minibatch_size_that_does_not_divide_the_forks_rollout_is_not_taken_over():
    ppo = trainer("CartPole-v1", "native", {**SMALL, "minibatch_size": 64})
    ppo.change({"gamma": 0.5})
    fork = trainer("CartPole-v1", "native", {**SMALL, "num_envs": 6, "minibatch_size": 24})
    fork.restore(copied(ppo.state()))
    values = fork.settings.values
    assert (values.num_envs, values.minibatch_size, values.gamma) == (6, 24, 0.5)
    assert fork.step().fault is None


def test_a_fork_with_another_schedule_keeps_it_and_its_values():
    ppo = trainer("CartPole-v1", "native", {**SMALL, "anneal_steps": 100, "anneal_floor": 0.0})
    for _ in range(3):
        ppo.step()
    ppo.change({"epochs": 2})
    assert ppo.settings.values.learning_rate == 0
    constant = trainer("CartPole-v1", "native", {**SMALL, "anneal": "none", "learning_rate": 2e-3})
    constant.restore(copied(ppo.state()))
    assert constant.settings.schedules == {}
    assert constant.settings.values.anneal == "none"
    assert constant.settings.values.epochs == 2
    assert constant.step().metrics["train/learning_rate"] == 2e-3
    longer = trainer("CartPole-v1", "native", {**SMALL, "anneal_steps": 10_000, "anneal_floor": 0.0})
    longer.restore(copied(ppo.state()))
    assert longer.settings.schedules["learning_rate"].horizon == 10_000
    assert longer.step().metrics["train/learning_rate"] > 0


def test_a_value_by_hand_that_is_out_of_range_is_not_restored():
    ppo = trainer(*RUNS[0])
    state = copied(ppo.state())
    state.numbers["settings"]["values"]["gamma"] = 2
    with pytest.raises(InvalidValue, match="gamma = 2"):
        trainer(*RUNS[0]).restore(state)


def test_an_episode_that_begins_anew_begins_with_nothing(monkeypatch):
    values = {**NORMALISED, "eval_every": None, "rollout_steps": 32}
    ppo, resumed = (trainer("Pendulum-v1", "sync", values) for _ in range(2))
    ppo.step()
    monkeypatch.setattr("trainers.envs.replay.LONGEST_REPLAY", 20)
    assert ppo.collector.episodes.lengths.tolist() == [32] * 4
    assert "begins a new one" in resumed.restore(copied(ppo.state()))
    assert not resumed.collector.episodes.lengths.any()
    assert not resumed.collector.episodes.returns.any()
    assert not resumed.reward_normalizer.returns.any()
    for _ in range(7):
        resumed.step()
    assert resumed.step().metrics["rollout/ep_len_mean"] == 200


def test_an_environment_whose_spaces_have_changed_is_refused():
    state, other = (
        copied(trainer("CartPole-v1", "native", SMALL).state()),
        trainer("Pendulum-v1", "sync", SMALL),
    )
    with pytest.raises(TrainingError) as caught:
        other.restore(state)
    assert str(caught.value).startswith("env = Pendulum-v1: its observation space Box(shape 3, dtype float32")
    assert "is not the run's, Box(shape 4, dtype float32" in str(caught.value)
