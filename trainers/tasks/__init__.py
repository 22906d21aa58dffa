"""Distributions of supervised tasks: what a task is, and how one is found by name."""

from trainers.tasks.distribution import Distribution, Options, Tasks, TaskSource, find_distribution

__all__ = ["Distribution", "Options", "TaskSource", "Tasks", "find_distribution"]
