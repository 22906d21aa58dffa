"""Running moments against NumPy over all rows at once."""

import numpy as np
import pytest
import torch

from trainers.normalizers import RewardNormalizer, RunningMoments


def test_moments_of_all_batches_equal_numpys_and_rows_of_weight_zero_do_not_count():
    random = np.random.default_rng(0)
    moments, counted = RunningMoments((3,)), []
    for size in (1, 7, 500, 20):
        rows = random.normal(1e3, 2, size=(size, 3))
        weights = (random.random(size) < 0.7).astype(np.float32)
        moments.update(torch.from_numpy(rows), torch.from_numpy(weights))
        counted.append(rows[weights > 0])
    rows = np.concatenate(counted)
    assert moments.count.item() == len(rows)
    np.testing.assert_allclose(moments.mean.numpy(), rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.variance.numpy(), rows.var(0), rtol=1e-9)
    normalised = moments(torch.from_numpy(rows))
    np.testing.assert_allclose(normalised.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(normalised.std(0, correction=0), 1, rtol=1e-6)


def test_nothing_seen_changes_nothing_and_outliers_are_clipped():
    moments = RunningMoments((1,))
    moments.update(torch.ones(2, 1), torch.zeros(2))
    assert moments(torch.tensor([[3.0]])).item() == pytest.approx(3, rel=1e-6)
    assert moments(torch.tensor([[1e9]])).item() == 10


def test_keeps_double_precision_when_the_policy_is_made_single():
    assert RunningMoments((1,)).float().mean.dtype == torch.float64


def test_rewards_are_divided_by_the_deviation_of_discounted_returns():
    random = np.random.default_rng(1)
    steps, envs, gamma = 50, 4, 0.9
    normalizer = RewardNormalizer(envs)
    running, all_returns = np.zeros(envs), []
    for _ in range(3):
        rewards = random.normal(5, 3, (steps, envs))
        done = (random.random((steps, envs)) < 0.1).astype(np.float32)
        weights = np.ones((steps, envs), np.float32)
        weights[1:] -= done[:-1]
        result = normalizer(rewards, done, weights, gamma)
        for t in range(steps):
            running = running * gamma + rewards[t]
            all_returns.append(running[weights[t] > 0])
            running = np.where(done[t] > 0, 0, running)
        expected = np.clip(rewards / np.concatenate(all_returns).std(), -10, 10)
        np.testing.assert_allclose(result, expected, rtol=1e-6)
