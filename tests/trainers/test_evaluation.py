"""Evaluation of policies whose returns are known."""

import numpy as np
import pytest
import torch

from trainers.declarations import make_settings
from trainers.evaluation import Evaluator, evaluate
from trainers.hyperparameters import PPOHyperparameters, PPOSetup
from trainers.ppo import PPO

SMALL = {"num_envs": 4, "rollout_steps": 16, "minibatch_size": 32, "hidden_sizes": (16,), "eval_every": None}


def policy_for(setup, **values):
    return PPO(setup, make_settings(PPOHyperparameters, {**SMALL, **values})).policy


def test_the_most_probable_action_is_taken_unless_asked_otherwise():
    setup = PPOSetup(env="probes:RightAction", vector="sync")
    policy = policy_for(setup)
    with torch.no_grad():
        policy.actor[-1].weight.zero_()
        policy.actor[-1].bias.copy_(torch.tensor([0.0, 0.1]))
    assert evaluate(policy, setup, 50, seed=1).returns.tolist() == [1.0] * 50
    drawn = evaluate(policy, setup, 50, seed=1, deterministic=False).returns
    assert set(drawn.tolist()) == {1.0, -1.0}


def test_a_training_in_processes_is_evaluated_in_no_more_than_two_a_core(monkeypatch):
    monkeypatch.setattr("trainers.evaluation.available_cores", lambda: 1)
    setup = PPOSetup(env="probes:TwoSteps", vector="async")
    ppo = PPO(
        setup,
        make_settings(PPOHyperparameters, {**SMALL, "num_envs": 2, "eval_every": 1, "eval_episodes": 9}),
    )
    assert ppo.step().metrics["eval/return_mean"] == 1
    found = ppo._evaluations.environments
    assert (found.kind, found.num_envs) == ("async", 2)
    ppo.close()
    setup = PPOSetup(env="probes:TwoSteps", vector="auto")
    assert evaluate(ppo.policy, setup, 9, seed=1, kind="async").returns.tolist() == [1.0] * 9


@pytest.mark.parametrize("episodes", [1, 5, 130, 300])
def test_plays_as_many_episodes_as_asked(episodes):
    setup = PPOSetup(env="probes:TwoSteps", vector="sync")
    result = evaluate(policy_for(setup), setup, episodes, seed=1)
    assert result.returns.tolist() == [1.0] * episodes
    assert result.lengths.tolist() == [2.0] * episodes


def test_short_episodes_are_not_favoured():
    # The first 128 episodes to end would be the shorter ones of each pair.
    setup = PPOSetup()
    policy = policy_for(setup)
    evaluation = evaluate(policy, setup, 256, seed=1, deterministic=False)
    one_by_one = evaluate(policy, setup, 128, seed=1, deterministic=False)
    assert evaluation.lengths.mean() == pytest.approx(one_by_one.lengths.mean(), rel=0.15)
    np.testing.assert_array_equal(evaluation.lengths, evaluation.returns)


def test_evaluations_begin_alike_and_depend_on_the_policy_alone():
    setup = PPOSetup()
    policy = policy_for(setup)
    evaluator = Evaluator(setup, 8, seed=3)
    first = evaluator(policy).returns
    evaluator(policy, deterministic=False)
    np.testing.assert_array_equal(first, evaluator(policy).returns)
    np.testing.assert_array_equal(first, evaluate(policy, setup, 8, seed=3).returns)
    evaluator.close()


def test_the_normaliser_is_used_and_frozen():
    setup = PPOSetup()
    policy = policy_for(setup, normalize_observations=True)
    plain = evaluate(policy, setup, 8, seed=3).returns
    policy.normalizer.update(torch.randn(100, 4), torch.ones(100))
    policy.normalizer.mean.fill_(-5)
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    assert not np.array_equal(plain, evaluate(policy, setup, 8, seed=3).returns)
    assert all(torch.equal(before[name], tensor) for name, tensor in policy.state_dict().items())


def test_an_episode_that_never_ends_counts_as_it_stands(monkeypatch):
    monkeypatch.setattr("trainers.evaluation.LONGEST_EPISODE", 50)
    setup = PPOSetup(env="probes:Endless", vector="sync")
    result = evaluate(policy_for(setup), setup, 3, seed=1)
    assert result.lengths.tolist() == [50, 50, 50]
