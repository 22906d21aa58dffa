"""Families of environments: distributions of reinforcement-learning tasks that share their spaces."""
