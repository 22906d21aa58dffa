"""Intervals of a mean over few tasks and over many, beside what tables of Student's distribution say."""

import math

import numpy as np
import pytest
import torch

from trainers.intervals import mean_and_interval, student_quantile


@pytest.mark.parametrize(
    ("count", "table"),
    [(2, 12.706), (3, 4.303), (4, 3.182), (5, 2.776), (20, 2.093), (31, 2.042), (40, 2.023), (121, 1.980)],
)
def test_the_quantiles_are_those_of_the_tables(count, table):
    assert student_quantile(0.975, count - 1) == pytest.approx(table, abs=5e-4)


def test_the_two_formulas_meet_and_many_degrees_are_normal():
    for probability in (0.9, 0.975, 0.9999):
        exact, expanded = (student_quantile(probability, freedom) for freedom in (30, 31))
        assert 0 < exact - expanded < 0.04
    assert student_quantile(0.9999, 31) == pytest.approx(4.2155, abs=1e-4)
    assert student_quantile(0.975, 10**6) == pytest.approx(1.95997, abs=1e-4)
    assert student_quantile(0.5, 3) == pytest.approx(0, abs=1e-9)


def test_an_interval_is_as_wide_as_few_tasks_make_it():
    mean, half = mean_and_interval(torch.tensor([1.0, 2.0, 6.0]))
    assert mean == 3
    assert half == pytest.approx(4.302653 * np.std([1, 2, 6], ddof=1) / math.sqrt(3))
    assert mean_and_interval(torch.tensor([5.0]))[0] == 5
    assert math.isnan(mean_and_interval(torch.tensor([5.0]))[1])
    assert math.isnan(mean_and_interval(torch.tensor([1.0, math.nan]))[0])
    assert mean_and_interval(torch.full((7,), 2.0)) == (2.0, 0.0)


def test_an_interval_holds_the_mean_in_95_of_100_samples():
    samples = torch.randn(2000, 5, generator=torch.Generator().manual_seed(1))
    held = [abs(mean) <= half for mean, half in map(mean_and_interval, samples)]
    assert sum(held) / len(held) == pytest.approx(0.95, abs=0.012)
