"""Watch, steer and replay training runs in the terminal."""

__version__ = "0.1.0"
