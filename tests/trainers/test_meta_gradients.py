"""Meta-gradients against what they are by definition: float64, smooth activations, 1, 3 and 5 inner steps."""

from dataclasses import replace

import pytest
import torch

from trainers.adaptation import InnerLoop, task_losses
from trainers.fast_weights import FastWeights
from trainers.learners import Convolutional, Perceptron
from trainers.maml import meta_gradient
from trainers.tasks import Tasks

STEPS = pytest.mark.parametrize("steps", [1, 3, 5])
KINDS = pytest.mark.parametrize("classes", [None, 3], ids=["regression", "classification"])
TASKS, ROWS, INPUTS, RATE = 3, 4, 3, 0.1


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def made(classes, steps, sizes=(4, 3), **options):
    """A small smooth network, its parameters, and tasks of both kinds."""
    generator = torch.Generator().manual_seed(steps)
    network = Perceptron(INPUTS, sizes, classes or 2, "tanh")
    parameters = {name: p.requires_grad_() for name, p in network.initial(generator).items()}
    for name in parameters:
        if name.endswith("bias"):
            parameters[name].data.normal_(generator=generator)
    x = torch.randn(2, TASKS, ROWS, INPUTS, generator=generator)
    if classes:
        y = torch.randint(classes, (2, TASKS, ROWS), generator=generator)
    else:
        y = torch.randn(2, TASKS, ROWS, 2, generator=generator)
    return InnerLoop(network, steps, RATE, **options), parameters, Tasks(x[0], y[0], x[1], y[1])


def outer_loss(loop, parameters, tasks, step_weights=None):
    """The mean query loss after adapting, with derivatives of no order but those within the steps."""
    weights, total = loop.begin(parameters, tasks), 0.0
    for step in range(loop.steps):
        weights, _ = loop.descend(weights, tasks, step, second_order=False)
        share = step_weights[step] if step_weights else float(step == loop.steps - 1)
        total += share * task_losses(loop.query_outputs(weights, tasks), tasks.query_y).mean().item()
    return total


def finite_differences(loss, tensors, distance=1e-5):
    """Central differences with respect to every number of ``tensors``."""
    found = {}
    for name, tensor in tensors.items():
        gradient, values = torch.zeros(tensor.numel()), tensor.data.view(-1)
        for at in range(len(values)):
            middle = values[at].item()
            values[at] = middle + distance
            above = loss()
            values[at] = middle - distance
            gradient[at] = (above - loss()) / (2 * distance)
            values[at] = middle
        found[name] = gradient.view(tensor.shape)
    return found


def relative_error(found, expected):
    difference = torch.cat([(found[name] - expected[name]).flatten() for name in expected])
    return float(difference.norm() / torch.cat([value.flatten() for value in expected.values()]).norm())


@STEPS
@KINDS
def test_maml_equals_finite_differences(steps, classes):
    loop, parameters, tasks = made(classes, steps)
    found = meta_gradient(loop, parameters, tasks).gradients
    expected = finite_differences(lambda: outer_loss(loop, parameters, tasks), parameters)
    assert relative_error(found, expected) < 1e-6


@STEPS
def test_wide_layers_hold_their_change_in_factors_and_change_nothing_by_it(steps):
    loop, parameters, tasks = made(3, steps, sizes=(60, 50))
    weights = loop.begin(parameters, tasks)
    assert weights._factored == {"layer2.weight"}
    found = meta_gradient(loop, parameters, tasks)
    expected = meta_gradient(replace(loop, factors=False), parameters, tasks)
    assert relative_error(found.gradients, expected.gradients) < 1e-12
    torch.testing.assert_close(found.adaptation.losses, expected.adaptation.losses)


def test_rates_by_name_are_refused_where_a_bias_would_go_by_its_weights_rate():
    loop, parameters, tasks = made(3, 1, sizes=(60, 50))
    rates = {name: torch.tensor(0.1 if name.endswith("weight") else 0.0) for name in parameters}
    with pytest.raises(ValueError, match="rates by name: must be one for all where"):
        meta_gradient(replace(loop, rates=rates), parameters, tasks, variant="metasgd")
    whole = replace(loop, rates=rates, factors=False)
    weights, _ = whole.descend(whole.begin(parameters, tasks), tasks, 0, second_order=False)
    still = {name for name, p in parameters.items() if torch.equal(weights.parameter(name)[0], p)}
    assert still == {name for name in parameters if name.endswith("bias")}


@STEPS
@KINDS
def test_anil_equals_finite_differences_and_adapts_the_head_alone(steps, classes):
    loop, parameters, tasks = made(classes, steps)
    loop = replace(loop, adapted=loop.network.head)
    found = meta_gradient(loop, parameters, tasks, variant="anil").gradients
    expected = finite_differences(lambda: outer_loss(loop, parameters, tasks), parameters)
    assert relative_error(found, expected) < 1e-6
    weights, _ = loop.descend(loop.begin(parameters, tasks), tasks, 0, second_order=False)
    still = {name for name, p in parameters.items() if torch.equal(weights.parameter(name)[0], p)}
    assert still == parameters.keys() - {*loop.network.head}


@STEPS
@KINDS
def test_metasgd_equals_finite_differences_in_weights_and_rates(steps, classes):
    loop, parameters, tasks = made(classes, steps, factors=False)
    generator = torch.Generator().manual_seed(0)
    rates = {
        n: (0.2 * torch.rand(p.shape, generator=generator)).requires_grad_() for n, p in parameters.items()
    }
    loop = replace(loop, rates=rates)
    found = meta_gradient(loop, parameters, tasks, variant="metasgd").gradients
    learned = parameters | {f"inner_lr.{name}": rate for name, rate in rates.items()}
    expected = finite_differences(lambda: outer_loss(loop, parameters, tasks), learned)
    assert found.keys() == learned.keys()
    assert relative_error(found, expected) < 1e-6


@STEPS
def test_maml_equals_hessian_vector_products(steps):
    """∇ = Π (I − α H(θᵢ)) ∇query(θ_k), each factor applied as a Hessian-vector product, task by task."""
    loop, parameters, tasks = made(3, steps)
    names, shapes = list(parameters), [p.shape for p in parameters.values()]
    total = torch.zeros(sum(p.numel() for p in parameters.values()))

    def loss(flat, x, y):
        parts = torch.split(flat, [shape.numel() for shape in shapes])
        h = x
        for layer in range(3):
            weight, bias = (parts[2 * layer + i].view(shapes[2 * layer + i]) for i in (0, 1))
            h = h @ weight + bias
            h = h.tanh() if layer < 2 else h
        return torch.nn.functional.cross_entropy(h, y)

    for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
        points = [torch.cat([p.detach().flatten() for p in parameters.values()])]
        for _ in range(steps):
            gradient = torch.func.grad(loss)(points[-1], support_x, support_y)
            points.append(points[-1] - RATE * gradient)
        vector = torch.func.grad(loss)(points[-1], query_x, query_y)
        for point in reversed(points[:-1]):
            _, product = torch.autograd.functional.hvp(
                lambda flat, x=support_x, y=support_y: loss(flat, x, y), point, vector
            )
            vector = vector - RATE * product
        total += vector / TASKS
    parts = torch.split(total, [shape.numel() for shape in shapes])
    expected = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
    assert relative_error(meta_gradient(loop, parameters, tasks).gradients, expected) < 1e-10


@STEPS
@KINDS
@pytest.mark.parametrize("how", [{"variant": "fomaml"}, {"first_order": True}], ids=["fomaml", "annealing"])
def test_first_order_is_the_query_gradient_at_the_adapted_weights(steps, classes, how):
    loop, parameters, tasks = made(classes, steps, sizes=(30, 40))
    found = meta_gradient(loop, parameters, tasks, **how).gradients
    adapted = loop.begin(parameters, tasks)
    for step in range(steps):
        adapted, _ = loop.descend(adapted, tasks, step, second_order=False)
    own = {name: adapted.parameter(name).detach().requires_grad_() for name in parameters}
    loss = task_losses(loop.network(FastWeights.of_tasks(own), tasks.query_x), tasks.query_y).sum()
    gradients = torch.autograd.grad(loss, list(own.values()))
    expected = {name: g.mean(0) for name, g in zip(own, gradients, strict=True)}
    assert relative_error(found, expected) < 1e-12


@STEPS
@KINDS
def test_reptile_is_the_way_back_by_the_rate(steps, classes):
    loop, parameters, tasks = made(classes, steps, sizes=(30, 40))
    found = meta_gradient(loop, parameters, tasks, variant="reptile").gradients
    way = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for task in range(TASKS):
        own = {name: p.detach().clone().requires_grad_() for name, p in parameters.items()}
        for _ in range(steps):
            weights = FastWeights(own, 1)
            outputs = loop.network(weights, tasks.support_x[task : task + 1])
            loss = task_losses(outputs, tasks.support_y[task : task + 1]).sum()
            gradients = torch.autograd.grad(loss, list(own.values()))
            moved = zip(own.items(), gradients, strict=True)
            own = {name: (p - RATE * g).detach().requires_grad_() for (name, p), g in moved}
        for name, p in parameters.items():
            way[name] += (p.detach() - own[name].detach()) / RATE / TASKS
    assert relative_error(found, way) < 1e-10


def test_the_multi_step_loss_equals_finite_differences():
    loop, parameters, tasks = made(3, 3)
    shares = (0.2, 0.3, 0.5)
    found = meta_gradient(loop, parameters, tasks, step_weights=shares).gradients
    expected = finite_differences(lambda: outer_loss(loop, parameters, tasks, shares), parameters)
    assert relative_error(found, expected) < 1e-6


@STEPS
def test_the_convolutional_networks_meta_gradient_equals_a_directional_difference(steps):
    generator = torch.Generator().manual_seed(1)
    network = Convolutional((1, 8, 8), 3, 2)
    parameters = {name: p.requires_grad_() for name, p in network.initial(generator).items()}
    x = torch.randn(2, TASKS, ROWS, 1, 8, 8, generator=generator)
    y = torch.randint(2, (2, TASKS, ROWS), generator=generator)
    tasks, loop = Tasks(x[0], y[0], x[1], y[1]), InnerLoop(network, steps, 0.01)
    found = meta_gradient(loop, parameters, tasks).gradients
    direction = {name: torch.randn(p.shape, generator=generator) for name, p in parameters.items()}

    def moved(by):
        there = {n: (p + by * direction[n]).detach().requires_grad_() for n, p in parameters.items()}
        return outer_loss(loop, there, tasks)

    # So near that no ReLU and no maximum changes sides on the way.
    expected = (moved(1e-7) - moved(-1e-7)) / 2e-7
    assert sum(float((found[n] * d).sum()) for n, d in direction.items()) == pytest.approx(expected, rel=1e-5)
