"""Adam's short step, against PyTorch's own."""

import torch
from torch import nn

from trainers.adam import Adam


def test_an_update_is_a_step_bit_for_bit():
    torch.manual_seed(1)
    network, other = nn.Linear(5, 3), nn.Linear(5, 3)
    other.load_state_dict(network.state_dict())
    mine = Adam(list(network.parameters()), list(network.parameters()), 0.01, 1e-5)
    theirs = torch.optim.Adam(other.parameters(), 0.01, eps=1e-5, fused=True)
    for number in range(10):
        mine.learning_rate = theirs.param_groups[0]["lr"] = 0.01 / (1 + number)
        for one, two in zip(network.parameters(), other.parameters(), strict=True):
            one.grad = torch.randn_like(one)
            two.grad = one.grad.clone()
        before = network.weight.clone()
        with torch.no_grad():
            mine.update()
        theirs.step()
        assert not torch.equal(network.weight, before)
        for one, two in zip(network.parameters(), other.parameters(), strict=True):
            assert torch.equal(one, two)
            assert all(
                torch.equal(mine.state[one][name], theirs.state[two][name]) for name in mine.state[one]
            )


def test_parts_of_a_whole_are_updated_as_by_themselves_also_after_their_moments_were_replaced():
    torch.manual_seed(1)
    whole, other = torch.randn(12), torch.randn(2)
    parts = [whole[:6].view(2, 3), whole[7:], other]
    alone = [nn.Parameter(part.clone()) for part in parts]
    mine, theirs = (
        Adam(parts, [whole, other], 0.01, 1e-5),
        torch.optim.Adam(alone, 0.01, eps=1e-5, fused=True),
    )
    for _ in range(6):
        whole.grad, other.grad = torch.randn(12), torch.randn(2)
        gradients = [whole.grad[:6].view(2, 3), whole.grad[7:], other.grad]
        for parameter, gradient in zip(alone, gradients, strict=True):
            parameter.grad = gradient.clone()
        with torch.no_grad():
            mine.update()
        theirs.step()
        for part, parameter in zip(parts, alone, strict=True):
            assert torch.equal(part, parameter)
        for part in parts:
            mine.state[part] = {name: moment.clone() for name, moment in mine.state[part].items()}
