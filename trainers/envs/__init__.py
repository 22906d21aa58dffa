"""Gymnasium environments, many side by side, whose state can be saved and restored exactly."""
