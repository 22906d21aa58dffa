"""The clipped loss and its gradient, against loops over rows and finite differences, in float64."""

import math

import numpy as np
import pytest
import torch

from trainers.hyperparameters import PPOHyperparameters
from trainers.policies import Policy
from trainers.ppo import Minibatch, gradients, ppo_loss, weighed
from trainers.spaces import BoxSpec, DiscreteSpec

PLAIN = BoxSpec((3,), "float64", (-np.inf,), (np.inf,))
SPACES = {
    "discrete": DiscreteSpec((4,), (0,), (), "int64"),
    "multi": DiscreteSpec((2, 3), (0, 0), (2,), "int64"),
    "box": BoxSpec((2,), "float64", (-1.0,), (1.0,)),
}
ROWS = 40


def case(space, **values):
    """A policy and a minibatch of another policy's rows, a quarter of them with weight 0."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    policy = Policy(PLAIN, SPACES[space], hidden_sizes=(5,), generator=generator).double()
    with torch.no_grad():
        policy.actor[-1].weight.mul_(100)
        observations = normal(ROWS, 3)
        actions = policy.act(observations, generator)
        log_probs = policy.evaluate(observations, actions)[0] + 0.3 * normal(ROWS)
    weights = (torch.rand(ROWS, generator=generator) < 0.75).double()
    batch = Minibatch(observations, actions, log_probs, normal(ROWS), normal(ROWS), normal(ROWS), weights)
    return policy, batch, PPOHyperparameters(entropy_coef=0.03, **values)


def slow_loss(policy, batch, h):
    """The formulas, a row at a time."""
    rows = [i for i in range(ROWS) if batch.weights[i] == 1]
    log_probs, entropies, values = (t.tolist() for t in policy.evaluate(batch.observations, batch.actions))
    advantages = batch.advantages.tolist()
    if h.normalize_advantages:
        mean = sum(advantages[i] for i in rows) / len(rows)
        deviation = math.sqrt(sum((advantages[i] - mean) ** 2 for i in rows) / len(rows))
        advantages = [(advantage - mean) / (deviation + 1e-8) for advantage in advantages]
    policy_loss = value_loss = entropy = kl = clipped = ratio_max = 0.0
    for i in rows:
        ratio = math.exp(log_probs[i] - batch.log_probs[i].item())
        limited = min(max(ratio, 1 - h.clip_epsilon), 1 + h.clip_epsilon)
        policy_loss -= min(ratio * advantages[i], limited * advantages[i]) / len(rows)
        old, target = batch.values[i].item(), batch.targets[i].item()
        error = (values[i] - target) ** 2
        if h.value_clip_epsilon is not None:
            near = min(max(values[i], old - h.value_clip_epsilon), old + h.value_clip_epsilon)
            error = max(error, (near - target) ** 2)
        value_loss += 0.5 * error / len(rows)
        entropy += entropies[i] / len(rows)
        kl += (ratio - 1 - math.log(ratio)) / len(rows)
        clipped += (abs(ratio - 1) > h.clip_epsilon) / len(rows)
        ratio_max = max(ratio_max, ratio)
    loss = policy_loss + h.value_coef * value_loss - h.entropy_coef * entropy
    return loss, (policy_loss, value_loss, entropy, kl, clipped, ratio_max)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(
    "values", [{}, {"value_clip_epsilon": 0.1}, {"normalize_advantages": False, "clip_epsilon": 0.05}]
)
def test_loss_and_measurements_equal_the_formulas_row_by_row(space, values):
    policy, batch, h = case(space, **values)
    loss, measured = ppo_loss(policy, weighed(batch, h), h)
    expected, expected_measured = slow_loss(policy, batch, h)
    assert loss.item() == pytest.approx(expected, rel=1e-10)
    assert measured.tolist() == pytest.approx(expected_measured, rel=1e-10)
    assert 0.1 < measured[4] < 1


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("value_clip_epsilon", [None, 0.5])
def test_gradient_equals_finite_differences(space, value_clip_epsilon):
    policy, batch, h = case(space, value_clip_epsilon=value_clip_epsilon)
    norm = gradients(policy, weighed(batch, h), h).grad_norm
    squares, size = 0.0, 1e-6
    for parameter in policy.parameters():
        for index in range(parameter.numel()):
            entry = parameter.data.view(-1)[index]
            before, differences = entry.item(), []
            for sign in (1, -1):
                entry.fill_(before + sign * size)
                differences.append(sign * slow_loss(policy, batch, h)[0])
            entry.fill_(before)
            numeric = sum(differences) / (2 * size)
            assert parameter.grad.view(-1)[index].item() == pytest.approx(numeric, rel=1e-5, abs=1e-8)
            squares += numeric**2
    assert norm == pytest.approx(math.sqrt(squares), rel=1e-6)


def test_gradient_of_rows_with_weight_zero_is_zero():
    policy, batch, h = case("discrete")
    nothing = batch._replace(weights=torch.zeros(ROWS, dtype=torch.float64))
    measured = gradients(policy, weighed(nothing, h), h)
    assert np.isfinite(measured).all()
    assert all((parameter.grad == 0).all() for parameter in policy.parameters())


def test_a_row_that_does_not_count_may_have_any_ratio():
    policy, batch, h = case("box", normalize_advantages=False)
    index = int((batch.weights == 0).nonzero()[0])
    expected = gradients(policy, weighed(batch, h), h)
    batch.log_probs[index] -= 1e4  # the ratio is infinite
    batch.advantages[index] = -1
    assert gradients(policy, weighed(batch, h), h) == expected
    assert all(torch.isfinite(parameter.grad).all() for parameter in policy.parameters())
