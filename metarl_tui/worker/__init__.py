"""The process that trains: it alone imports torch, and it alone writes a run's journal."""
