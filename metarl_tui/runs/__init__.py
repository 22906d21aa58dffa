"""A run on disk: its folder, journal, requests, checkpoints and signs of life."""
