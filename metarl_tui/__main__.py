"""``python -m metarl_tui`` is ``metarl-tui``."""

from metarl_tui.cli import main

main()
