"""Adam's short step, against PyTorch's own."""

import torch
from torch import nn

from trainers.adam import Adam


def test_an_update_is_a_step_bit_for_bit():
    torch.manual_seed(1)
    network, other = nn.Linear(5, 3), nn.Linear(5, 3)
    other.load_state_dict(network.state_dict())
    mine = Adam(list(network.parameters()), 0.01, 1e-5)
    theirs = torch.optim.Adam(other.parameters(), 0.01, eps=1e-5, fused=True)
    for number in range(10):
        for group in (*mine.param_groups, *theirs.param_groups):
            group["lr"] = 0.01 / (1 + number)
        for one, two in zip(network.parameters(), other.parameters(), strict=True):
            one.grad = torch.randn_like(one)
            two.grad = one.grad.clone()
        before = network.weight.clone()
        mine.update()
        theirs.step()
        assert not torch.equal(network.weight, before)
        for one, two in zip(network.parameters(), other.parameters(), strict=True):
            assert torch.equal(one, two)
            assert all(
                torch.equal(mine.state[one][name], theirs.state[two][name]) for name in mine.state[one]
            )
