"""Distributions of actions against torch's own."""

import pytest
import torch

from trainers.distributions import Categorical, Gaussian


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(3)


def test_a_gaussian_over_any_leading_dimensions(generator):
    mean, log_std = torch.randn(4, 5, 6, 2, generator=generator), torch.randn(4, 1, 1, 2, generator=generator)
    ours, other = Gaussian(mean, log_std), Gaussian(mean.flip(0), 0.5 * log_std)
    theirs, theirs_too = (torch.distributions.Normal(d.mean, d.log_std.exp()) for d in (ours, other))
    actions = ours.sample(generator)
    log_probs, entropy = ours.evaluate(actions)
    assert log_probs.shape == entropy.shape == (4, 5, 6)
    torch.testing.assert_close(log_probs, theirs.log_prob(actions).sum(-1))
    torch.testing.assert_close(entropy, theirs.entropy().sum(-1))
    expected = torch.distributions.kl_divergence(theirs, theirs_too).sum(-1)
    torch.testing.assert_close(ours.divergence(other), expected)


def test_independent_choices_over_any_leading_dimensions(generator):
    logits, others = torch.randn(2, 4, 5, 7, generator=generator)
    ours, other = Categorical(logits, [3, 4]), Categorical(others, [3, 4])
    actions = ours.sample(generator)
    assert actions.shape == (4, 5, 2)
    log_probs, entropy = ours.evaluate(actions)
    expected = [torch.zeros(4, 5) for _ in range(3)]
    for choice, part in enumerate((slice(0, 3), slice(3, 7))):
        theirs, theirs_too = (torch.distributions.Categorical(logits=d[..., part]) for d in (logits, others))
        expected[0] += theirs.log_prob(actions[..., choice])
        expected[1] += theirs.entropy()
        expected[2] += torch.distributions.kl_divergence(theirs, theirs_too)
    for found, right in zip((log_probs, entropy, ours.divergence(other)), expected, strict=True):
        torch.testing.assert_close(found, right)


def test_choices_come_as_often_as_they_are_probable(generator):
    chances = torch.tensor([0.2, 0.5, 0.3])
    drawn = Categorical(chances.log().expand(60_000, 3), [3]).sample(generator)
    torch.testing.assert_close(drawn.flatten().bincount() / 60_000, chances, atol=0.01, rtol=0)
