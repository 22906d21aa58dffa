"""Action distributions against torch.distributions; networks for every shape of observation."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import distributions

from trainers.envs.spaces import action_spec, observation_spec
from trainers.policies import CategoricalHead, GaussianHead, Policy
from trainers.spaces import BoxSpec, DiscreteSpec, image_layout, spec_from_json
from trainers.trainer import TrainingError

PLAIN = BoxSpec((3,), "float32", (-np.inf,), (np.inf,))
PAIR = DiscreteSpec((3, 4), (0, 5), (2,), "int64")
CONTINUOUS = BoxSpec((2,), "float32", (-1.0, -2.0), (1.0, 2.0))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_categorical_log_prob_and_entropy_equal_torch_distributions():
    head, logits = CategoricalHead(PAIR), torch.randn(50, 7, generator=generator())
    actions = head.sample(logits, generator())
    parts = [distributions.Categorical(logits=part) for part in logits.split([3, 4], -1)]
    log_prob, entropy = head.evaluate(logits, actions)
    expected = sum(part.log_prob(actions[:, i]) for i, part in enumerate(parts))
    torch.testing.assert_close(log_prob, expected)
    torch.testing.assert_close(entropy, sum(part.entropy() for part in parts))


def test_categorical_samples_follow_the_probabilities():
    head, logits = CategoricalHead(DiscreteSpec((3,), (0,), (), "int64")), torch.tensor([[0.0, 1.0, -1.0]])
    actions = head.sample(logits.expand(20_000, 3), generator())
    shares = torch.bincount(actions.squeeze(), minlength=3) / 20_000
    torch.testing.assert_close(shares, logits.softmax(-1)[0], atol=0.01, rtol=0)
    assert (head.mode(logits.expand(5, 3)) == 1).all()


def test_gaussian_log_prob_is_of_the_unclipped_action_and_greedy_is_the_mean():
    head, means = GaussianHead(CONTINUOUS), torch.randn(50, 2, generator=generator())
    head.log_std.data = torch.tensor([0.3, -0.7])
    actions = head.sample(means, generator(1))
    expected = distributions.Normal(means, head.log_std.exp())
    log_prob, entropy = head.evaluate(means, actions)
    torch.testing.assert_close(log_prob, expected.log_prob(actions).sum(-1))
    torch.testing.assert_close(entropy, expected.entropy().sum(-1))
    assert torch.equal(head.mode(means), means)
    assert actions.abs().max() > 1.5
    inside = head.shaped(actions)
    assert (np.abs(inside) <= [1, 2]).all()
    assert inside.dtype == np.float32
    assert np.isnan(head.shaped(torch.tensor([[0.0, np.nan]]))[0, 1])


def test_gaussian_samples_have_the_mean_and_deviation():
    head = GaussianHead(CONTINUOUS)
    head.log_std.data = torch.tensor([0.0, 1.0])
    actions = head.sample(torch.tensor([[1.0, -1.0]]).expand(50_000, 2), generator())
    torch.testing.assert_close(actions.mean(0), torch.tensor([1.0, -1.0]), atol=0.05, rtol=0)
    torch.testing.assert_close(actions.std(0), head.log_std.exp().detach(), rtol=0.02, atol=0)


def test_actions_have_the_spaces_shape_type_and_start():
    space = spaces.MultiDiscrete([[3, 4]], start=[[0, 5]])
    head = CategoricalHead(action_spec(space))
    chosen = head.sample(torch.zeros(30, 7), generator())
    actions = head.shaped(chosen)
    assert all(action in space for action in actions)
    assert actions.reshape(-1, 2).min(0).tolist() == [0, 5]
    assert actions.reshape(-1, 2).max(0).tolist() == [2, 8]


def test_the_start_of_a_single_choice():
    space = spaces.Discrete(5, start=-2)
    actions = CategoricalHead(action_spec(space)).shaped(torch.arange(5)[:, None])
    assert actions.tolist() == [-2, -1, 0, 1, 2]
    assert all(action in space for action in actions)


def test_clipped_actions_are_in_spaces_that_float32_cannot_bound():
    space = spaces.Box(-0.1, 0.1, (2,), np.float64)
    actions = GaussianHead(action_spec(space)).shaped(torch.tensor([[9.0, -9.0], [0.05, 0.1]]))
    assert all(action in space for action in actions)


def test_actor_and_critic_are_initialised_orthogonally_with_their_gains():
    policy = Policy(PLAIN, PAIR, hidden_sizes=(16, 16), generator=generator())
    hidden = policy.actor[2].weight
    torch.testing.assert_close(hidden @ hidden.T, 2 * torch.eye(16), atol=1e-5, rtol=0)
    assert torch.linalg.matrix_norm(policy.actor[-1].weight, 2).item() == pytest.approx(0.01, rel=1e-4)
    assert torch.linalg.vector_norm(policy.critic[-1].weight).item() == pytest.approx(1, rel=1e-4)
    assert all((p == 0).all() for name, p in policy.named_parameters() if name.endswith("bias"))


def test_actor_and_critic_share_nothing():
    policy = Policy(PLAIN, PAIR, generator=generator())
    policy.zero_grad(set_to_none=True)
    policy.value(torch.randn(4, 3)).sum().backward()
    assert all(parameter.grad is None for parameter in policy.actor.parameters())


@pytest.mark.parametrize("activation", ["tanh", "relu", "elu", "gelu"])
@pytest.mark.parametrize("sizes", [(), (8,), (8, 4, 8)])
def test_any_hidden_sizes_and_activation(activation, sizes):
    policy = Policy(PLAIN, CONTINUOUS, hidden_sizes=sizes, activation=activation, generator=generator())
    log_prob, entropy, value = policy.evaluate(torch.randn(5, 3), torch.randn(5, 2))
    assert log_prob.shape == entropy.shape == value.shape == (5,)


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((4,), "float32", None),
        ((), "float32", None),
        ((3, 3, 2), "float32", None),
        ((10, 12), "float32", None),
        ((10, 12), "uint8", (1, 1, 10, 12, False)),
        ((84, 80, 3), "uint8", (1, 3, 84, 80, True)),
        ((3, 84, 80), "uint8", (1, 3, 84, 80, False)),
        ((4, 84, 80), "uint8", (1, 4, 84, 80, False)),
        ((4, 84, 80, 3), "uint8", (4, 3, 84, 80, True)),
        ((4, 3, 84, 80), "float32", (4, 3, 84, 80, False)),
    ],
)
def test_images_are_told_from_other_observations(shape, dtype, expected):
    layout = image_layout(shape, dtype)
    fields = layout and (layout.frames, layout.channels, layout.height, layout.width, layout.channels_last)
    assert fields == expected


def test_the_same_image_in_either_order_gives_the_same_value():
    first = Policy(BoxSpec((3, 20, 24), "uint8", (0.0,), (255.0,)), PAIR, generator=generator())
    last = Policy(BoxSpec((20, 24, 3), "uint8", (0.0,), (255.0,)), PAIR, generator=generator())
    images = torch.randint(0, 256, (5, 3, 20, 24), dtype=torch.uint8, generator=generator())
    torch.testing.assert_close(first.value(images), last.value(images.permute(0, 2, 3, 1)))
    assert first.stored_dtype == torch.uint8


def test_stacked_observations_are_images_where_one_of_them_is():
    assert image_layout((8, 128), "uint8", stacked=True) is None
    layout = image_layout((4, 84, 80), "uint8", stacked=True)
    assert (layout.frames, layout.channels, layout.height, layout.width) == (4, 1, 84, 80)
    assert image_layout((4, 84, 80, 3), "uint8", stacked=True).frames == 4
    assert image_layout((4, 2, 3, 84, 80), "uint8", stacked=True).frames == 8
    many = image_layout((84, 3, 84, 84), "uint8", stacked=True)
    assert (many.frames, many.channels) == (84, 3)
    spec = observation_spec(spaces.Box(0, 255, (4, 84, 80), np.uint8), stacked=True)
    assert spec.image == layout
    assert spec_from_json(spec.to_json()) == spec


def test_bytes_of_an_image_are_divided_by_255_and_other_images_scaled_by_their_bounds():
    high = np.full((16, 16, 3), 255, np.uint8)
    high[0] = 254
    uneven = observation_spec(spaces.Box(np.zeros_like(high), high, dtype=np.uint8))
    images = torch.randint(0, 256, (5, 16, 16, 3), dtype=torch.uint8, generator=generator())
    expected = Policy(BoxSpec((16, 16, 3), "float32", (0.0,), (1.0,)), PAIR, generator=generator())
    for spec in (uneven, BoxSpec((16, 16, 3), "uint8", (0.0,), (255.0,))):
        policy = Policy(spec, PAIR, generator=generator())
        torch.testing.assert_close(policy.value(images), expected.value(images / 255))
    wide = Policy(BoxSpec((16, 16, 3), "float32", (-2.0,), (2.0,)), PAIR, generator=generator())
    torch.testing.assert_close(wide.value(images / 255 * 4 - 2), expected.value(images / 255))


@pytest.mark.parametrize("shape", [(8, 8, 3), (36, 36), (84, 84, 1), (4, 40, 50, 3)])
def test_convolutions_fit_images_of_any_size(shape):
    policy = Policy(BoxSpec(shape, "uint8", (0.0,), (255.0,)), CONTINUOUS, generator=generator())
    _, _, value = policy.evaluate(torch.full((2, *shape), 255, dtype=torch.uint8), torch.zeros(2, 2))
    value.sum().backward()
    assert all(p.grad is not None for p in policy.features.parameters())


def test_scalar_and_many_dimensional_observations_are_flattened():
    for shape in ((), (2, 3), (2, 1, 2, 1, 2)):
        policy = Policy(BoxSpec(shape, "float64", (-1.0,), (1.0,)), PAIR, generator=generator())
        assert policy.value(torch.zeros(4, *shape)).shape == (4,)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1, 1, (2, 3)),
        spaces.Box(np.array([-np.inf, 0]), np.array([3, np.inf]), dtype=np.float64),
        spaces.Discrete(5, start=-2),
        spaces.MultiDiscrete([2, 3, 4]),
    ],
)
def test_descriptions_survive_json(space):
    spec = action_spec(space)
    assert spec_from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    "space", [spaces.MultiBinary(3), spaces.Tuple([spaces.Discrete(2)]), spaces.Box(0, 255, (2,), np.uint8)]
)
def test_other_action_spaces_are_refused_by_name(space):
    with pytest.raises(TrainingError, match=r"action space .* is not supported; it must be Discrete, Multi"):
        action_spec(space)


def test_other_observation_spaces_are_refused_by_name():
    with pytest.raises(TrainingError, match=r"observation space Discrete\(16\) is not supported; it must be"):
        observation_spec(spaces.Discrete(16))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda policy: pickle.loads(pickle.dumps(policy))])
def test_a_copy_computes_and_learns_by_itself(copied):
    policy = Policy(BoxSpec((3,), "float32", (-np.inf,), (np.inf,)), DiscreteSpec((4,), (0,), (), "int64"))
    other, observations = copied(policy), torch.randn(6, 3)
    with torch.no_grad():
        policy.value(observations), policy.evaluate(observations, torch.zeros(6, 1, dtype=torch.int64))
        again = copied(policy)  # after forward has allocated
        values = policy.value(observations)
        for one in (other, again):
            assert one.perceptrons is not None
            both = one.evaluate(observations, torch.zeros(6, 1, dtype=torch.int64))[2]
            torch.testing.assert_close(both, one.critic(observations).squeeze(-1), rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(both, values, rtol=1e-5, atol=1e-6)
            one.critic[-1].bias.add_(1)
            torch.testing.assert_close(one.value(observations), values + 1, rtol=1e-5, atol=1e-6)
            assert torch.equal(policy.value(observations), values)


@pytest.mark.parametrize("broken", [math.inf, -3e38, math.nan])
@pytest.mark.filterwarnings("error")
def test_weights_that_are_not_numbers_any_more_are_told_by_nobody(broken):
    policy = Policy(BoxSpec((3,), "float32", (-1.0,), (1.0,)), BoxSpec((2,), "float32", (-1.0,), (1.0,)))
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.fill_(broken)
        policy.head.log_std.fill_(1e4)
        observations = torch.full((4, 3), 1e30)
        policy.act_by_hand(observations.numpy(), np.full((4, 2), 2.0, np.float32))
        policy.value(observations)
        policy.greedy(observations)


def test_a_type_that_numpy_does_not_have_is_acted_in_by_pytorch():
    observation, action = BoxSpec((3,), "float32", (-1.0,), (1.0,)), DiscreteSpec((2,), (0,), (), "int64")
    policy = Policy(observation, action).to(torch.bfloat16)
    assert policy.perceptrons is None
    assert policy.to(torch.float32).perceptrons is not None
