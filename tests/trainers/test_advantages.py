"""Advantages against a slow reference that walks episode by episode."""

import numpy as np
import pytest
import torch

from trainers.advantages import explained_variance, generalized_advantages, normalized

GAMMA, LAMBDA = 0.9, 0.8


def reference(rewards, values, terminated, done):
    """λ-weighted sum of n-step advantages, from the definition, for one environment; NaN in dummy rows."""
    steps = len(rewards)
    result = np.full(steps, np.nan)
    for start in range(steps):
        if start and done[start - 1]:
            continue
        total, weight = 0.0, 1.0
        for t in range(start, steps):
            following = 0.0 if terminated[t] else values[t + 1]
            total += weight * (rewards[t] + GAMMA * following - values[t])
            weight *= GAMMA * LAMBDA
            if done[t]:
                break
        result[start] = total
    return result


def random_rollout(seed, steps=40, envs=6):
    """Rewards, values, terminated, done with resets on the step after an end, as environments give them."""
    random = np.random.default_rng(seed)
    rewards, values = random.normal(size=(steps, envs)), random.normal(size=(steps + 1, envs))
    terminated, truncated = random.random((2, steps, envs)) < 0.1
    for t in range(1, steps):
        dummy = (terminated | truncated)[t - 1]
        terminated[t] &= ~dummy
        truncated[t] &= ~dummy
        rewards[t, dummy] = 0
    return rewards, values, terminated, terminated | truncated


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_definition_in_every_row_that_counts(seed):
    rewards, values, terminated, done = random_rollout(seed)
    tensors = [torch.from_numpy(array.astype(float)) for array in (rewards, values, terminated, done)]
    result = generalized_advantages(*tensors, GAMMA, LAMBDA).numpy()
    columns = [[array[:, i] for array in (rewards, values, terminated, done)] for i in range(6)]
    expected = np.stack([reference(*column) for column in columns], 1)
    counts = ~np.isnan(expected)
    assert 0.5 < counts.mean() < 0.95
    np.testing.assert_allclose(result[counts], expected[counts], rtol=1e-12, atol=1e-12)


def test_bootstraps_with_the_final_observations_value_at_a_truncation_and_not_at_a_termination():
    rewards, values = torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0], [10.0], [99.0]])
    one, none = torch.tensor([[1.0], [0.0]]), torch.zeros(2, 1)
    truncated = generalized_advantages(rewards, values, none, one, GAMMA, LAMBDA)
    terminated = generalized_advantages(rewards, values, one, one, GAMMA, LAMBDA)
    assert truncated[0].item() == pytest.approx(1 + GAMMA * 10)
    assert terminated[0].item() == pytest.approx(1)


def test_normalized_ignores_rows_of_weight_zero():
    advantages = torch.tensor([1.0, 3.0, 5.0, 1e6], dtype=torch.float64)
    weights = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    counted = normalized(advantages, weights / 3)[:3]
    assert counted.mean().item() == pytest.approx(0, abs=1e-9)
    assert counted.std(correction=0).item() == pytest.approx(1)


def test_one_row_alone_is_not_normalised():
    advantages = torch.tensor([5.0, -3.0, 7.0])
    assert normalized(advantages, torch.tensor([0.0, 1.0, 0.0]))[1] == -3
    assert normalized(advantages, torch.tensor([0.5, 0.5, 0.0]))[:2].tolist() == pytest.approx([1, -1])


def test_explained_variance():
    targets, weights = torch.tensor([1.0, 2.0, 3.0, 100.0]), torch.tensor([1.0, 1.0, 1.0, 0.0])
    assert explained_variance(targets, targets, weights) == pytest.approx(1)
    assert explained_variance(torch.zeros(4), targets, weights) == pytest.approx(0)
    close = torch.tensor([1.0, 2.0, 4.0, 0.0])
    assert explained_variance(close, targets, weights) == pytest.approx(1 - (2 / 9) / (2 / 3))
    assert explained_variance(targets, torch.ones(4), weights) is None
