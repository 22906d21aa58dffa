"""Hyperparameters that change while PPO trains, by hand and on a schedule."""

import numpy as np
import pytest
import torch
from ppo_runs import SMALL, trainer

from trainers.declarations import InvalidValue, declarations
from trainers.hyperparameters import PPOHyperparameters

LIVE = {
    "total_steps": 10_000, "minibatch_size": 64, "epochs": 2, "learning_rate": 0.01, "clip_epsilon": 0.05,
    "value_clip_epsilon": 0.001, "target_kl": 1e-6, "gamma": 0.5, "gae_lambda": 0.1, "entropy_coef": 0.1,
    "value_coef": 2.0, "max_grad_norm": None, "normalize_advantages": False, "eval_every": 1,
    "eval_episodes": 3, "until": 400.0,
}  # fmt: skip


def test_every_live_hyperparameter_is_tried_here():
    known = declarations(PPOHyperparameters)
    assert set(LIVE) == {name for name, declaration in known.items() if declaration.changes == "live"}


@pytest.mark.parametrize("name", LIVE)
def test_a_changed_hyperparameter_is_in_force_from_the_next_iteration(name):
    ppo, same = (trainer(**SMALL, learning_rate=1e-3) for _ in range(2))
    for _ in range(2):
        ppo.step(), same.step()
    ppo.settings.advance(ppo.progress.done)
    old = getattr(ppo.settings.values, name)
    assert ppo.change({name: LIVE[name]}) == {name: (old, LIVE[name])}
    changed, unchanged = ppo.step(), same.step()
    assert getattr(ppo.settings.values, name) == LIVE[name]
    assert np.isfinite(list(changed.metrics.values())).all()
    # Up to here both are the same run; what learning depends on tells them apart.
    assert changed.metrics["rollout/ep_rew_mean"] == unchanged.metrics["rollout/ep_rew_mean"]
    weights = zip(ppo.policy.parameters(), same.policy.parameters(), strict=True)
    equal = all(torch.equal(p, q) for p, q in weights)
    assert equal == (name in ("total_steps", "eval_every", "eval_episodes", "until"))
    assert ppo.step().fault is None


def test_a_change_by_hand_keeps_adams_moments_and_ends_the_schedule():
    ppo = trainer(**SMALL, total_steps=1000, anneal_floor=0.0, learning_rate=1e-3)
    ppo.step()
    assert ppo.step().metrics["train/learning_rate"] < 1e-3
    moments = ppo.state().tensors["optimizer.actor.0.weight.exp_avg"]
    ppo.change({"learning_rate": 5e-4})
    np.testing.assert_array_equal(moments, ppo.state().tensors["optimizer.actor.0.weight.exp_avg"])
    assert [ppo.step().metrics["train/learning_rate"] for _ in range(2)] == [5e-4, 5e-4]


def test_a_rebased_value_is_in_force_at_once_and_goes_on_falling():
    ppo = trainer(**SMALL, anneal_steps=1000, learning_rate=1e-3)
    for _ in range(3):
        last = ppo.step().metrics["train/learning_rate"]
    assert last < 9e-4
    [(old, new)] = ppo.change({"learning_rate": 5e-3}, rebase=True).values()
    assert (old < last, new) == (True, 5e-3)
    rates = [ppo.step().metrics["train/learning_rate"] for _ in range(20)]
    assert rates[0] == pytest.approx(5e-3, rel=1e-12)
    assert rates[1] < 4.8e-3
    # What remained fell to 1e-4, and was scaled as the value was.
    assert rates[-1] == pytest.approx(1e-4 * 5e-3 / old)


def test_annealing_ends_at_its_floor():
    both = ("learning_rate", "clip_epsilon")
    ppo = trainer(**SMALL, anneal_steps=200, annealed=both, anneal_floor=0.5, learning_rate=1e-3)
    rows = [ppo.step().metrics for _ in range(4)]
    assert rows[0]["train/learning_rate"] == 1e-3
    assert 5e-4 < rows[1]["train/learning_rate"] < 1e-3
    assert rows[3]["train/learning_rate"] == pytest.approx(5e-4)
    assert rows[3]["train/clip_epsilon"] == pytest.approx(0.1)


def test_a_change_that_does_not_fit_is_refused_as_a_whole():
    ppo = trainer(**SMALL)
    with pytest.raises(InvalidValue, match="must divide num_envs × rollout_steps"):
        ppo.change({"gamma": 0.5, "minibatch_size": 33})
    assert ppo.settings.values.gamma == 0.99
