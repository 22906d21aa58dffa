"""The screens, a ``.tcss`` beside each."""
