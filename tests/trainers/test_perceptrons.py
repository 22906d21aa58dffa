"""Perceptrons written out, against the same networks under autograd."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from trainers.perceptrons import Perceptrons, Tanh

ROWS = 7


def networks(inputs, hidden, outputs, dtype=torch.float64):
    """A network for each number of ``outputs``, with biases that are not zero."""
    torch.manual_seed(4)
    found = []
    for last in outputs:
        sizes, layers = [inputs, *hidden, last], []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), Tanh()]
        found.append(nn.Sequential(*layers[:-1]).to(dtype))
    return found


SHAPES = [
    (4, (64, 64), (2, 1)),
    (3, (5,), (2, 1)),
    (9, (4, 6, 5), (3, 1)),  # both more inputs than outputs, and fewer
    (2, (8, 8), (1, 4, 2)),
    (3, (), (2, 1)),
    (4, (6,), (3,)),
]


@pytest.mark.parametrize(("inputs", "hidden", "outputs"), SHAPES)
def test_outputs_and_gradients_are_autograds(inputs, hidden, outputs):
    nets = networks(inputs, hidden, outputs)
    perceptrons = Perceptrons(*nets)
    # Other numbers of rows in between: tensors are used again, and made anew where they do not fit.
    for rows in (ROWS, ROWS, 3, ROWS):
        x = torch.randn(rows, inputs, dtype=torch.float64)
        by_output = [torch.randn(rows, size, dtype=torch.float64) for size in outputs]
        expected = [net(x) for net in nets]
        parameters = [parameter for net in nets for parameter in net.parameters()]
        gradients = torch.autograd.grad(expected, parameters, by_output)

        with torch.no_grad():
            found = perceptrons.forward(x)
            for number, output in enumerate(expected):
                torch.testing.assert_close(found[number, : output.shape[1]].mT, output)
                torch.testing.assert_close(
                    torch.from_numpy(perceptrons.forward_of(number, x.numpy())), output
                )
            for part, given in zip(perceptrons.output_gradients, by_output, strict=True):
                part[: given.shape[1]] = given.mT
            perceptrons.backward()
        for parameter, gradient in zip(parameters, gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)
            assert parameter.grad.stride() == parameter.stride()
        norm = torch.nn.utils.get_total_norm(gradients)
        torch.testing.assert_close(torch.linalg.vector_norm(perceptrons.gradient), norm)


def test_float32_gradients_are_autograds_to_a_millionth():
    nets = networks(4, (64, 64), (2, 1), torch.float32)
    perceptrons = Perceptrons(*nets)
    x, by_output = torch.randn(1024, 4), torch.randn(2, 1024, 2) / 1024
    parameters = [parameter for net in nets for parameter in net.parameters()]
    gradients = torch.autograd.grad([net(x) for net in nets], parameters, [by_output[0], by_output[1, :, :1]])
    with torch.no_grad():
        perceptrons.forward(x)
        perceptrons.output_gradients[0] = by_output[0].mT
        perceptrons.output_gradients[1, 0] = by_output[1, :, 0]
        perceptrons.backward()
    for parameter, gradient in zip(parameters, gradients, strict=True):
        assert (parameter.grad - gradient).abs().max() < 1e-6


def test_parameters_are_read_anew():
    (net,) = networks(3, (5,), (2,))
    perceptrons = Perceptrons(net)
    x = torch.randn(ROWS, 3, dtype=torch.float64)
    with torch.no_grad():
        before = perceptrons.forward(x).clone()
        net[0].weight.mul_(2)
        net[2].bias.add_(1)
        after = perceptrons.forward(x)
        torch.testing.assert_close(after[0].mT, net(x))
    assert not torch.allclose(before, after)


def test_tanh_is_tanh():
    x = torch.linspace(-30, 30, 100_001)
    assert (Tanh()(x) - torch.tanh(x)).abs().max() < 3e-7
    x = torch.tensor([-1e4, 0.0, 1e4, float("nan")], requires_grad=True)
    y = Tanh()(x)
    torch.testing.assert_close(y, torch.tanh(x), equal_nan=True)
    y.sum().backward()
    assert x.grad[:3].tolist() == [0, 1, 0]
