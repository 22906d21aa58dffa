"""Our side of peers.py's rows: the work done, as JSON on stdout.

python own_programs.py ENVS,STEPS,MINIBATCH,EPOCHS|sinusoid|omniglot SECONDS
"""

from __future__ import annotations

import json
import sys

import torch
from peer_programs import measured

from trainers.adaptation import InnerLoop
from trainers.hyperparameters import PPOHyperparameters, PPOSetup
from trainers.learners import Perceptron
from trainers.maml import meta_gradient
from trainers.ppo import PPO
from trainers.tasks.distribution import Tasks

torch.set_num_threads(1)


def throughput(batch: str, seconds: float) -> dict[str, float]:
    """Environment steps of PPO on CartPole-v1, with RL Baselines3 Zoo's other hyperparameters."""
    num_envs, rollout_steps, minibatch_size, epochs = map(int, batch.split(","))
    h = PPOHyperparameters(
        num_envs=num_envs, rollout_steps=rollout_steps, minibatch_size=minibatch_size, epochs=epochs,
        learning_rate=1e-3, gamma=0.98, gae_lambda=0.8, annealed=("learning_rate", "clip_epsilon"),
        eval_every=None,
    )  # fmt: skip
    trainer = PPO(PPOSetup(), h)

    def work() -> int:
        before = trainer.progress.done
        for _ in range(8):
            trainer.step()
        return int(trainer.progress.done - before)

    return measured(work, seconds)


def maml(task: str, seconds: float) -> dict[str, float]:
    """Meta-iterations on given samples: second derivatives, one inner step, one step of Adam."""
    if task == "sinusoid":
        network, rate = Perceptron(1, (40, 40), 1, "relu"), 0.01
        x = torch.rand(25, 10, 1)
        tasks = Tasks(x, x.sin(), x, x.sin())
    else:
        network, rate = Perceptron(784, (256, 128, 64), 5, "relu"), 0.4
        images, labels = torch.rand(2, 32, 5, 784), torch.arange(5).expand(32, 5)
        tasks = Tasks(images[0], labels, images[1], labels)
    parameters = network.initial(torch.Generator().manual_seed(1))
    for parameter in parameters.values():
        parameter.requires_grad_()
    optimizer = torch.optim.Adam(parameters.values(), 1e-3, fused=True)
    loop = InnerLoop(network, 1, rate)

    def work() -> int:
        for name, gradient in meta_gradient(loop, parameters, tasks).gradients.items():
            parameters[name].grad = gradient
        optimizer.step()
        return 1

    return measured(work, seconds)


def main() -> None:
    name, seconds = sys.argv[1], float(sys.argv[2])
    print(json.dumps(throughput(name, seconds) if "," in name else maml(name, seconds)))


if __name__ == "__main__":
    main()
