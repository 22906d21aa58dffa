"""What PPO's clipped objective measures of its ratios."""

import math

import pytest
import torch

from trainers.surrogate import clipped_surrogate


def measured(log_ratios, epsilon=0.2):
    new = torch.tensor(log_ratios)
    shares = torch.full_like(new, 1 / len(new))
    return clipped_surrogate(new, torch.zeros_like(new), torch.ones_like(new), shares, epsilon)


def test_the_divergence_of_hardly_another_policy_is_not_negative():
    # In float32 exp(4e-8) is 1, so that k3 itself would be -4e-8.
    assert measured([4e-8] * 8).approx_kl == 0
    assert measured([math.nan]).approx_kl.isnan()


def test_ratios_are_measured_by_hand():
    found = measured([math.log(1.5), math.log(0.5), 0.1, 0.0])
    k3 = (0.5 - math.log(1.5) - 0.5 - math.log(0.5) + math.exp(0.1) - 1.1) / 4
    assert found.approx_kl == pytest.approx(k3)
    assert found.clip_fraction == 0.5
    assert found.ratio_max == pytest.approx(1.5)
    assert found.loss == pytest.approx(-(1.2 + 0.5 + math.exp(0.1) + 1) / 4)
