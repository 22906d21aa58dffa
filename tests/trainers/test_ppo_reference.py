"""Whole iterations against a slow PPO in float64, written from the raw rollout and the paper alone."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.distributions import Categorical, Normal

from trainers.declarations import make_settings
from trainers.hyperparameters import PPOHyperparameters, PPOSetup
from trainers.ppo import PPO

ENVS, STEPS = 6, 20
BASE = {
    "num_envs": ENVS, "rollout_steps": STEPS, "minibatch_size": 30, "hidden_sizes": (16, 8), "epochs": 2,
    "learning_rate": 3e-3, "entropy_coef": 0.02, "eval_every": None,
}  # fmt: skip


class Mixed(gymnasium.Env):
    """Random observations and rewards; episodes terminate and are truncated at random."""

    def __init__(self, box=False):
        self.observation_space = spaces.Box(-99, 99, (3,), np.float32)
        self.action_space = spaces.Box(-1, 1, (2,), np.float32) if box else spaces.MultiDiscrete([2, 3])

    def observe(self):
        return 3 * self.np_random.normal(size=3).astype(np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observe(), {}

    def step(self, action):
        chance, reward = self.np_random.random(), 2 * self.np_random.normal() + action.sum()
        return self.observe(), float(reward), bool(chance < 0.12), bool(chance > 0.85), {}


class SlowPPO:
    """Follows a trainer: takes its rollouts and random order of rows, and does all else by itself."""

    def __init__(self, ppo, box):
        self.ppo, self.box = ppo, box
        self.parameters = {name: t.detach().double().clone() for name, t in ppo.policy.named_parameters()}
        self.moments = {
            name: (torch.zeros_like(t), torch.zeros_like(t)) for name, t in self.parameters.items()
        }
        self.adam_steps = 0
        self.seen, self.returns, self.running = [], [], np.zeros(ENVS)
        self.ended = np.zeros(ENVS, bool)

    def network(self, name, inputs, parameters):
        layers = sorted({int(key.split(".")[1]) for key in parameters if key.startswith(name)})
        for layer in layers:
            inputs = inputs @ parameters[f"{name}.{layer}.weight"].T + parameters[f"{name}.{layer}.bias"]
            inputs = torch.tanh(inputs) if layer != layers[-1] else inputs
        return inputs

    def values(self, inputs, parameters):
        return self.network("critic", inputs, parameters).squeeze(-1)

    def log_probs_and_entropy(self, inputs, actions, parameters):
        outputs = self.network("actor", inputs, parameters)
        if self.box:
            normal = Normal(outputs, parameters["head.log_std"].exp())
            return normal.log_prob(actions.double()).sum(-1), normal.entropy().sum(-1)
        parts = [(Categorical(logits=outputs[:, :2]), actions[:, 0])]
        parts += [(Categorical(logits=outputs[:, 2:]), actions[:, 1])]
        return sum(d.log_prob(a) for d, a in parts), sum(d.entropy() for d, _ in parts)

    def normalised_observations(self, observations, counts):
        h = self.ppo.settings.values
        if not h.normalize_observations:
            return observations
        rows = np.concatenate(self.seen) if self.seen else None
        self.seen.append(observations[:-1].numpy()[counts])
        if rows is None:
            return observations.clamp(-10, 10)
        mean, deviation = torch.tensor(rows.mean(0)), torch.tensor(np.sqrt(rows.var(0) + 1e-8))
        return ((observations - mean) / deviation).clamp(-10, 10)

    def normalised_rewards(self, rewards, counts, done):
        h = self.ppo.settings.values
        if not h.normalize_rewards:
            return rewards
        for t, n in np.argwhere(counts):
            self.running[n] = self.running[n] * h.gamma + rewards[t, n]
            self.returns.append(self.running[n])
            if done[t, n]:
                self.running[n] = 0
        return np.clip(rewards / np.sqrt(np.var(self.returns) + 1e-8), -10, 10)

    def advantages(self, rewards, values, terminated, done, counts):
        """The sum of discounted temporal differences up to the episode's end, for each row by itself."""
        h, result = self.ppo.settings.values, np.zeros(rewards.shape)
        for t, n in np.argwhere(counts):
            share = 1.0
            for s in range(t, STEPS):
                following = 0 if terminated[s, n] else values[s + 1, n]
                result[t, n] += share * (rewards[s, n] + h.gamma * following - values[s, n])
                share *= h.gamma * h.gae_lambda
                if done[s, n]:
                    break
        return result

    def minibatches(self, order):
        h = self.ppo.settings.values
        for _ in range(h.epochs):
            yield from torch.randperm(ENVS * STEPS, generator=order).split(h.minibatch_size)

    def minibatch(self, rows, chosen):
        """One minibatch's measurements and gradients."""
        h = self.ppo.settings.values
        inputs, actions, old_log_probs, old_values, advantages, targets = (row[chosen] for row in rows)
        parameters = {name: t.clone().requires_grad_() for name, t in self.parameters.items()}
        log_probs, entropy = self.log_probs_and_entropy(inputs, actions, parameters)
        values = self.values(inputs, parameters)
        if h.normalize_advantages:
            advantages = (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-8)
        ratio = (log_probs - old_log_probs).exp()
        limited = ratio.clamp(1 - h.clip_epsilon, 1 + h.clip_epsilon)
        policy_loss = -torch.min(ratio * advantages, limited * advantages).mean()
        errors = (values - targets) ** 2
        if h.value_clip_epsilon is not None:
            near = old_values + (values - old_values).clamp(-h.value_clip_epsilon, h.value_clip_epsilon)
            errors = torch.max(errors, (near - targets) ** 2)
        value_loss = 0.5 * errors.mean()
        (policy_loss + h.value_coef * value_loss - h.entropy_coef * entropy.mean()).backward()
        gradients = {name: parameter.grad for name, parameter in parameters.items()}
        norm = torch.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
        measured = {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy.mean(),
            "approx_kl": (ratio - 1 - ratio.log()).mean(),
            "clip_fraction": ((ratio - 1).abs() > h.clip_epsilon).double().mean(),
            "ratio_max": ratio.max(),
            "grad_norm": norm,
        }
        return {name: value.item() for name, value in measured.items()}, gradients

    def adam(self, gradients, norm, learning_rate):
        h = self.ppo.settings.values
        self.adam_steps += 1
        for name, gradient in gradients.items():
            if h.max_grad_norm is not None:
                gradient = gradient * min(1, h.max_grad_norm / norm)
            first, second = self.moments[name]
            first.mul_(0.9).add_(0.1 * gradient)
            second.mul_(0.999).add_(0.001 * gradient**2)
            mean, square = first / (1 - 0.9**self.adam_steps), second / (1 - 0.999**self.adam_steps)
            self.parameters[name] = self.parameters[name] - learning_rate * mean / (square.sqrt() + 1e-5)

    def follow(self):
        """Let the trainer do an iteration, do it again: what it measured, and what is to be measured."""
        order = torch.Generator()
        order.set_state(self.ppo.generators["minibatches"].get_state())
        metrics = self.ppo.step().metrics
        rollout, h = self.ppo.collector, self.ppo.settings.values
        terminated, done = rollout.terminated, rollout.terminated | rollout.truncated
        counts = ~np.concatenate((self.ended[None], done[:-1]))
        self.ended = done[-1].copy()

        observations = self.normalised_observations(rollout.observations.double(), counts)
        rewards = self.normalised_rewards(rollout.rewards.copy(), counts, done)
        values = self.values(observations, self.parameters)
        advantages = self.advantages(rewards, values.numpy(), terminated, done, counts)
        advantages, old_values = torch.tensor(advantages).flatten(), values[:-1].flatten()
        inputs, actions = observations[:-1].flatten(0, 1), rollout.actions.flatten(0, 1)
        old_log_probs, _ = self.log_probs_and_entropy(inputs, actions, self.parameters)
        targets = advantages + old_values
        rows = (inputs, actions, old_log_probs, old_values, advantages, targets)

        counted, measured = torch.tensor(counts.flatten()), []
        for chosen in self.minibatches(order):
            row, gradients = self.minibatch(rows, chosen[counted[chosen]])
            measured.append(row)
            if h.target_kl is not None and row["approx_kl"] > 1.5 * h.target_kl:
                break
            self.adam(gradients, row["grad_norm"], metrics["train/learning_rate"])
        expected = {f"train/{name}": np.mean([row[name] for row in measured]) for name in measured[0]}
        expected["train/ratio_max"] = max(row["ratio_max"] for row in measured)
        errors = (targets - old_values)[counted].numpy()
        expected["train/explained_variance"] = 1 - np.var(errors) / np.var(targets[counted].numpy())
        return {name: metrics[name] for name in expected}, expected, len(measured)


@pytest.mark.parametrize("box", [False, True], ids=["multidiscrete", "box"])
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"normalize_observations": True, "normalize_rewards": True, "value_clip_epsilon": 0.1},
        {"target_kl": 5e-4, "normalize_advantages": False, "epochs": 8, "gamma": 0.9, "max_grad_norm": None},
        {"minibatch_size": 120, "epochs": 3, "anneal_steps": 300},
    ],
    ids=["plain", "normalised", "stopped", "whole"],
)
def test_iterations_equal_the_slow_ones(box, values):
    setup = PPOSetup(env=f"{__name__}:Mixed", env_arg={"box": box}, vector="sync")
    ppo = PPO(setup, make_settings(PPOHyperparameters, {**BASE, **values}))
    slow, minibatches = SlowPPO(ppo, box), []
    for _ in range(3):
        found, expected, number = slow.follow()
        minibatches.append(number)
        assert found == pytest.approx(expected, rel=2e-4, abs=2e-6)
        for name, parameter in ppo.policy.named_parameters():
            torch.testing.assert_close(parameter.double(), slow.parameters[name], rtol=0, atol=1e-5)
            # From the same weights again, so that rounding does not add up.
            slow.parameters[name] = parameter.detach().double().clone()
    if "target_kl" in values:
        assert min(minibatches) < 8 * 4
