"""MAML-PPO's meta-gradients against exact ones where every trajectory can be enumerated, in float64.

A trajectory's probability takes the place of its share of a sample, so that means over trajectories are
expectations. The exact meta-gradient differentiates the true expected return after true policy-gradient
steps, by formulas that know nothing of ratios, advantages or baselines.
"""

from dataclasses import replace
from itertools import product

import pytest
import torch

from trainers import policy_adaptation
from trainers.distributions import Categorical
from trainers.fast_weights import FastWeights
from trainers.hyperparameters import MAMLPPOHyperparameters
from trainers.maml_ppo import meta_loss
from trainers.meta_policies import MetaPolicy
from trainers.policy_adaptation import descend
from trainers.spaces import BoxSpec, DiscreteSpec
from trainers.trajectories import Trajectories

RATE, TASKS = 0.7, 3
UNCLIPPED = MAMLPPOHyperparameters(inner_lr=RATE, clip_epsilon=10.0)
RATIOS = pytest.mark.parametrize("inner_ratio", ["per-step", "cumulative"])


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Problem:
    """Tasks with common ``states``, ``actions`` and ``horizon``, whose transitions and rewards are random."""

    def __init__(self, states, actions, horizon):
        generator = torch.Generator().manual_seed(5)
        self.states, self.actions, self.horizon = states, actions, horizon
        spec = BoxSpec((states,), "float64", (0.0,), (1.0,))
        choice = DiscreteSpec((actions,), (0,), (), "int64")
        self.policy = MetaPolicy(spec, choice, (3,), "tanh")
        self.parameters = {
            name: torch.randn(p.shape, generator=generator).requires_grad_()
            for name, p in self.policy.initial(generator).items()
        }
        self.rewards = torch.randn(TASKS, states, actions, generator=generator)
        self.transitions = torch.rand(TASKS, states, actions, states, generator=generator).softmax(-1)
        self.baseline = torch.randn(TASKS, horizon, states, generator=generator)
        # All trajectories from state 0: [K, T] states and actions.
        paths = [
            (visited, taken)
            for visited in product([0], *[range(states)] * (horizon - 1))
            for taken in product(range(actions), repeat=horizon)
        ]
        self.visited, self.taken = (torch.tensor([path[part] for path in paths]) for part in (0, 1))

    def probabilities(self, log_policy, task):
        """Of each trajectory [K], for log π [states, actions]."""
        moves = self.transitions[task][self.visited[:, :-1], self.taken[:, :-1], self.visited[:, 1:]]
        return log_policy[self.visited, self.taken].sum(1).exp() * moves.prod(1)

    def log_policy(self, weights):
        """Log π of each task, [n, states, actions]."""
        everywhere = torch.eye(self.states).expand(weights.tasks, -1, -1)
        return self.policy.outputs(weights, everywhere).log_softmax(-1)

    def returns(self, parameters, task):
        """The expected return per step of the horizon, differentiable."""
        log_policy = self.log_policy(FastWeights(parameters, 1, adapted=()))[0]
        gained = self.rewards[task][self.visited, self.taken].sum(1)
        return (self.probabilities(log_policy, task) * gained).sum() / self.horizon

    @torch.no_grad()
    def enumerated(self, weights):
        """All trajectories of all tasks, as production's adaptation and loss take them."""
        log_policy = self.log_policy(weights)
        chances = torch.stack([self.probabilities(log_policy[task], task) for task in range(TASKS)])
        rewards = self.rewards[:, self.visited, self.taken]
        to_go = rewards.flip(2).cumsum(2).flip(2)
        advantages = to_go - self.baseline[:, torch.arange(self.horizon), self.visited]
        # [n, K, T, …] to [n, T, K, …].
        rows = len(self.visited)
        observations = torch.eye(self.states)[self.visited].expand(TASKS, -1, -1, -1).transpose(1, 2)
        actions = self.taken.expand(TASKS, -1, -1).transpose(1, 2).unsqueeze(-1)
        distribution = self.policy(weights, observations)
        return Trajectories(
            observations,
            actions,
            rewards.transpose(1, 2),
            (chances / self.horizon).unsqueeze(1).expand(TASKS, self.horizon, rows),
            distribution,
            distribution.evaluate(actions)[0],
            advantages.transpose(1, 2),
            torch.zeros(()),
        )

    def sampled(self, steps, inner_ratio="per-step"):
        """What production would have sampled before, between and after ``steps`` inner steps."""
        weights = FastWeights(self.parameters, TASKS)
        found = [self.enumerated(weights)]
        for _ in range(steps):
            weights, _ = descend(
                self.policy, weights, found[-1], RATE, inner_ratio=inner_ratio, second_order=False
            )
            found.append(self.enumerated(weights))
        return found

    def exact(self, steps, parameters=None):
        """−E[return] after ``steps`` true gradient steps, mean over tasks, and its gradient."""
        parameters = parameters or self.parameters
        total = torch.zeros(())
        for task in range(TASKS):
            own = parameters
            for _ in range(steps):
                slopes = torch.autograd.grad(self.returns(own, task), list(own.values()), create_graph=True)
                own = {name: p + RATE * s for (name, p), s in zip(own.items(), slopes, strict=True)}
            total = total - self.returns(own, task) / TASKS
        return total, torch.autograd.grad(total, list(parameters.values()))

    def found(self, sampled, parameters=None, h=UNCLIPPED, **options):
        """Production's loss and gradient."""
        parameters = parameters or self.parameters
        loss, _ = meta_loss(self.policy, parameters, sampled, h, **options)
        return loss, torch.autograd.grad(loss, list(parameters.values()))

    def moved(self):
        """Other parameters than those that were sampled with, as after an outer step."""
        generator = torch.Generator().manual_seed(9)
        return {
            name: (p + 0.3 * torch.randn(p.shape, generator=generator)).detach().requires_grad_()
            for name, p in self.parameters.items()
        }


def error(found, expected):
    found, expected = (torch.cat([g.flatten() for g in gradients]) for gradients in (found, expected))
    return float((found - expected).norm() / expected.norm())


@RATIOS
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_on_a_bandit_either_ratio_gives_the_exact_meta_gradient(steps, inner_ratio):
    bandit = Problem(states=1, actions=4, horizon=1)
    _, gradients = bandit.found(bandit.sampled(steps), inner_ratio=inner_ratio)
    assert error(gradients, bandit.exact(steps)[1]) < 1e-12


@RATIOS
def test_on_a_bandit_loss_and_gradient_stay_exact_away_from_the_sampling_policy(inner_ratio):
    """Through all epochs: the ratios' denominators stay the policies that were sampled with."""
    bandit = Problem(states=1, actions=4, horizon=1)
    # The loss of rewards themselves, so that it is the return and not an advantage.
    bandit.baseline.zero_()
    moved = bandit.moved()
    loss, gradients = bandit.found(bandit.sampled(2), moved, inner_ratio=inner_ratio)
    expected, slopes = bandit.exact(2, moved)
    torch.testing.assert_close(loss, expected)
    assert error(gradients, slopes) < 1e-12


@pytest.mark.parametrize("steps", [1, 2])
def test_over_several_decisions_the_cumulative_ratio_is_exact_and_the_per_step_one_nearly(steps):
    chain = Problem(states=2, actions=2, horizon=3)
    expected = chain.exact(steps)[1]
    errors = {
        ratio: error(chain.found(chain.sampled(steps, ratio), inner_ratio=ratio)[1], expected)
        for ratio in ("per-step", "cumulative")
    }
    print(f"\nrelative error after {steps} inner steps at horizon 3: {errors}")
    assert errors["cumulative"] < 1e-12
    assert 1e-4 < errors["per-step"] < 0.1


@pytest.mark.parametrize("shape", [(1, 4, 1), (2, 2, 3)], ids=["bandit", "chain"])
def test_differentiating_the_score_function_is_wrong(monkeypatch, shape):
    problem = Problem(*shape)
    expected = problem.exact(1)[1]
    sampled = problem.sampled(1)

    def score(log_probs, data, inner_ratio):
        return -(data.shares * log_probs * data.advantages).sum((1, 2))

    monkeypatch.setattr(policy_adaptation, "inner_losses", score)
    for mine, theirs in zip(problem.sampled(1), sampled, strict=True):
        torch.testing.assert_close(mine.shares, theirs.shares)  # the adaptation itself is the same
    wrong = error(problem.found(sampled)[1], expected)
    print(f"\nrelative error of the differentiated score function: {wrong}")
    assert wrong > 0.3


def test_first_order_is_the_gradient_at_the_adapted_parameters():
    chain = Problem(states=2, actions=2, horizon=3)
    _, gradients = chain.found(chain.sampled(2), variant="fomaml-ppo")
    weights = FastWeights(chain.parameters, TASKS)
    for data in chain.sampled(2)[:-1]:
        weights, _ = descend(chain.policy, weights, data, RATE, inner_ratio="per-step", second_order=False)
    expected = [torch.zeros_like(p) for p in chain.parameters.values()]
    for task in range(TASKS):
        own = {name: weights.parameter(name)[task].detach().requires_grad_() for name in chain.parameters}
        slopes = torch.autograd.grad(chain.returns(own, task), list(own.values()))
        expected = [total - slope / TASKS for total, slope in zip(expected, slopes, strict=True)]
    assert error(gradients, expected) < 1e-12


def test_promp_adds_the_divergence_from_the_sampling_policies():
    chain = Problem(states=2, actions=2, horizon=3)
    sampled, moved = chain.sampled(2), chain.moved()
    h = replace(UNCLIPPED, inner_kl_coef=0.5)
    plain, penalised = (
        meta_loss(chain.policy, moved, sampled, h, variant=variant) for variant in ("maml-ppo", "promp")
    )
    weights, total = FastWeights(moved, TASKS), 0.0
    for data in sampled[:-1]:
        assert isinstance(data.distribution, Categorical)
        ours = torch.distributions.Categorical(logits=chain.policy.outputs(weights, data.observations))
        theirs = torch.distributions.Categorical(logits=data.distribution.logits)
        divergence = torch.distributions.kl_divergence(theirs, ours)
        total = total + (data.shares * divergence).sum() / TASKS / 2
        weights, _ = descend(chain.policy, weights, data, RATE, inner_ratio="per-step", second_order=False)
    assert total.item() > 0.01
    torch.testing.assert_close(penalised[0] - plain[0], 0.5 * total)
    torch.testing.assert_close(penalised[1].inner_kl, total)


def test_losses_computed_beforehand_can_not_be_descended_where_changes_are_kept_in_factors():
    parameters = {"a.weight": torch.randn(50, 50).requires_grad_()}
    losses = parameters["a.weight"].sum().expand(2)
    with pytest.raises(ValueError, match="losses: must compute them"):
        FastWeights(parameters, 2, rank=1).descend(losses, 0.1, second_order=False)
