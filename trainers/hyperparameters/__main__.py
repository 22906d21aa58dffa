"""``python -m trainers.hyperparameters`` prints the README's tables."""

from trainers.hyperparameters import markdown_tables

print(markdown_tables())
