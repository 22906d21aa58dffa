"""PPO's gradient written out, against autograd's of the same loss."""

from itertools import product

import numpy as np
import pytest
import torch

from trainers.hyperparameters import PPOHyperparameters
from trainers.policies import Policy
from trainers.ppo import Minibatch, gradients, weighed
from trainers.spaces import BoxSpec, DiscreteSpec

PLAIN = BoxSpec((3,), "float32", (-np.inf,), (np.inf,))
SPACES = {
    "discrete": DiscreteSpec((4,), (0,), (), "int64"),
    "multi": DiscreteSpec((2, 3, 2), (0, 0, 0), (3,), "int64"),
    "box": BoxSpec((2,), "float32", (-1.0,), (1.0,)),
}
ROWS = 50


def case(space, hidden, weights, *, normalize_observations=False, autograd=False):
    """A policy, whose gradients are written out or autograd's, and rows of another policy's."""
    generator = torch.Generator().manual_seed(7)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    policy = Policy(
        PLAIN,
        SPACES[space],
        hidden_sizes=hidden,
        normalize_observations=normalize_observations,
        generator=generator,
    )
    with torch.no_grad():
        policy.actor[-1].weight.mul_(100)
        for parameter in policy.parameters():
            parameter.add_(0.1 * normal(*parameter.shape))
        observations = normal(ROWS, 3)
        if policy.normalizer is not None:
            policy.normalizer.update(3 * normal(ROWS, 3) + 1, torch.ones(ROWS))
        actions = policy.act(observations, generator)
        log_probs, _, values = policy.evaluate(observations, actions)
    counted = (torch.rand(ROWS, generator=generator) < weights).float()
    batch = Minibatch(
        observations,
        actions,
        log_probs + 0.3 * normal(ROWS),
        values + 0.3 * normal(ROWS),
        normal(ROWS),
        normal(ROWS),
        counted,
    )
    assert policy.perceptrons is not None
    if autograd:
        policy.perceptrons = None
    return policy, batch


def found_by(policy, batch, h):
    measured = gradients(policy, weighed(batch, h), h)
    return measured, [parameter.grad.clone() for parameter in policy.parameters()]


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("hidden", [(64, 64), (5,), (6, 9, 4)])
@pytest.mark.parametrize("weights", [1.0, 0.7, 0.0])
def test_equals_autograd(space, hidden, weights):
    policy, batch = case(space, hidden, weights)
    reference, _ = case(space, hidden, weights, autograd=True)
    options = product((None, 0.1), (0.0, 0.03), (True, False))
    for value_clip_epsilon, entropy_coef, normalize_advantages in options:
        h = PPOHyperparameters(
            value_clip_epsilon=value_clip_epsilon,
            entropy_coef=entropy_coef,
            normalize_advantages=normalize_advantages,
            clip_epsilon=0.15,
        )
        measured, by_hand = found_by(policy, batch, h)
        expected, by_autograd = found_by(reference, batch, h)
        assert measured == pytest.approx(expected, rel=1e-5, abs=1e-6)
        size = max(1.0, expected.grad_norm)
        for one, other in zip(by_hand, by_autograd, strict=True):
            assert (one - other).abs().max() <= 1e-6 * size


@pytest.mark.parametrize("autograd", [False, True])
def test_the_divergence_of_hardly_another_policy_is_not_negative(autograd):
    policy, batch = case("discrete", (5,), 1.0, autograd=autograd)
    with torch.no_grad():
        policy.actor[-1].weight.zero_()
        policy.actor[-1].bias.copy_(torch.tensor([8.0, 0, 0, 0]))
        actions = torch.zeros_like(batch.actions)
        log_probs, _, _ = policy.evaluate(batch.observations, actions)
    # A ratio that float32 takes for 1, of a logarithm that it tells from 0: k3 itself would be negative.
    batch = batch._replace(actions=actions, log_probs=log_probs - 1e-8)
    assert gradients(policy, weighed(batch, PPOHyperparameters()), PPOHyperparameters()).approx_kl == 0


@pytest.mark.parametrize("autograd", [False, True])
def test_what_is_no_number_is_measured_as_such(autograd):
    policy, batch = case("discrete", (5,), 1.0, autograd=autograd)
    batch.log_probs[3] = torch.nan
    measured = gradients(policy, weighed(batch, PPOHyperparameters()), PPOHyperparameters())
    assert np.isnan(measured.approx_kl)


def test_normalised_observations_are_what_the_networks_see():
    policy, batch = case("discrete", (5,), 0.7, normalize_observations=True)
    reference, _ = case("discrete", (5,), 0.7, normalize_observations=True, autograd=True)
    _, by_hand = found_by(policy, batch, PPOHyperparameters())
    _, by_autograd = found_by(reference, batch, PPOHyperparameters())
    for one, other in zip(by_hand, by_autograd, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("observation", "activation", "written"),
    [
        (PLAIN, "tanh", True),
        (PLAIN, "relu", False),
        (BoxSpec((16, 16, 1), "uint8", (0.0,), (255.0,)), "tanh", False),
    ],
)
def test_it_is_for_perceptrons_with_tanh(observation, activation, written):
    policy = Policy(observation, SPACES["discrete"], activation=activation)
    assert (policy.perceptrons is not None) == written
    assert policy.to("meta").perceptrons is None


def test_a_policy_of_another_type_is_read_as_it_is_now():
    policy, batch = case("discrete", (5,), 1.0)
    policy.double()
    double = Minibatch(*(rows if rows.dtype == torch.int64 else rows.double() for rows in batch))
    _, by_hand = found_by(policy, double, PPOHyperparameters())
    policy.perceptrons = None
    _, by_autograd = found_by(policy, double, PPOHyperparameters())
    for one, other in zip(by_hand, by_autograd, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("space", SPACES)
def test_acting_is_the_same_with_and_without_autograd(space):
    policy, batch = case(space, (64, 64), 1.0)
    with torch.no_grad():
        evaluated = policy.evaluate(batch.observations, batch.actions)
        value, greedy = policy.value(batch.observations), policy.greedy(batch.observations)
    expected = policy.evaluate(batch.observations, batch.actions)
    for one, other in zip(evaluated, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(value, expected[2], rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(greedy, policy.greedy(batch.observations), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("normalize_observations", [False, True])
@pytest.mark.parametrize("space", SPACES)
def test_acting_by_hand_draws_the_same_actions(space, normalize_observations):
    policy, batch = case(space, (64, 64), 1.0, normalize_observations=normalize_observations)
    with torch.no_grad():
        noise = policy.head.noise(1, ROWS, torch.Generator().manual_seed(3))[0]
        found = policy.act_by_hand(batch.observations.numpy(), noise.numpy())
        expected = policy.act_by(batch.observations, noise)
        policy.perceptrons = None
        by_network = policy.act_by(batch.observations, noise)
    for actions in (expected, by_network):
        assert found.shape == actions.shape
        np.testing.assert_allclose(found, actions, rtol=1e-5, atol=2e-6)
    np.testing.assert_array_equal(policy.head.shaped(found), policy.head.shaped(torch.from_numpy(found)))
