"""How many threads a trainer takes."""

import pytest
import torch
from ppo_runs import SMALL
from threadpoolctl import threadpool_info, threadpool_limits

from trainers.declarations import make_settings
from trainers.hyperparameters import PPOHyperparameters, PPOSetup
from trainers.ppo import PPO


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = torch.get_num_threads()
    with threadpool_limits(None):
        yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2])
def test_products_in_pytorch_and_numpy_take_the_threads_that_were_asked_for(count):
    PPO(PPOSetup(threads=count), make_settings(PPOHyperparameters, SMALL))
    assert torch.get_num_threads() == count
    assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {count}
