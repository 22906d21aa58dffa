"""The commands, one file per command or closely related family.

This table is all that ``metarl-tui --help`` reads, so that it costs about as much as starting Python:
a command's module is imported when the command runs, and click only when there is something to parse.
"""

PROGRAM = "metarl-tui"

COMMANDS: dict[str, dict[str, tuple[str, str, str]]] = {
    "Train": {
        "train": ("train:train", "TRAINER", "start a run and open its screen"),
        "fork": ("fork:fork", "RUN [NAME=VALUE …]", "a new run that leaves RUN at an iteration"),
        "rerun": ("rerun:rerun", "RUN", "train again; say whether it is the same"),
        "evaluate": ("evaluate:evaluate", "RUN", "measure what a checkpoint is worth"),
        "adapt": ("adapt:adapt", "RUN --data FILE.csv", "teach a run of maml a new task"),
    },
    "Watch": {
        "open": ("screens:open_run", "RUN", "the screen of a run, live or ended"),
        "replay": ("screens:replay", "RUN", "the same screen, played from the start"),
        "list": ("list:list_command", "", "the runs, newest first"),
        "show": ("show:show", "RUN", "settings, state, newest metrics, changes of a run"),
        "plot": ("plot:plot", "RUN [METRIC …]", "charts of a run's metrics"),
        "screenshot": ("screenshot:screenshot", "RUN FILE.svg", "the screen of a run as a picture"),
        "log": ("log:log", "RUN", "what the worker wrote to its log"),
        "wait": ("wait:wait", "RUN", "block until a run has ended"),
    },
    "Steer": {
        "set": ("control:set_command", "RUN NAME=VALUE …", "change hyperparameters of a run"),
        "pause": ("control:pause", "RUN", "hold a run after its current iteration"),
        "resume": ("resume:resume", "RUN [NAME=VALUE …]", "go on with a paused or ended run"),
        "save": ("control:save", "RUN", "write a checkpoint now"),
        "stop": ("control:stop", "RUN", "end a run, with a checkpoint"),
    },
    "Keep": {
        "delete": ("delete:delete", "RUN", "remove a run's folder"),
    },
}
"""Sections of ``--help``; in each, a command's ``module:attribute`` here, arguments and short help."""

OPTIONS = (
    ("--runs-dir DIR", "where the runs are; else $METARL_RUNS_DIR,"),
    ("", "./saved_runs, or the user's data folder"),
    ("--ascii", "draw the screen in ASCII"),
    ("--no-mouse", "leave the mouse to the terminal, to select text"),
    ("--refresh HZ", "how often the screen looks for news (5)"),
    ("--version", "show the version and exit"),
    ("-h, --help", "show this and exit"),
)

ABOUT = """\
Train with PyTorch, watch it live, steer it while it runs, replay it.
Without a command: the home screen. RUN is a path, an id, the last part
of an id, a unique prefix, a name, or "latest". For show, evaluate, wait
and all of Steer it may be the name of a group of --seeds: all its runs."""


def help_page() -> str:
    """The text of ``metarl-tui --help``."""
    lines = [f"Usage: {PROGRAM} [OPTIONS] [COMMAND]", "", *(f"  {line}" for line in ABOUT.splitlines())]
    for section, commands in COMMANDS.items():
        lines += ["", f"{section}:"]
        for name, (_, arguments, text) in commands.items():
            lines.append(f"  {name + ' ' + arguments:<25}  {text}")
    lines += ["", "Options:", *(f"  {flags:<25}  {text}" for flags, text in OPTIONS)]
    return "\n".join([*lines, "", f"{PROGRAM} COMMAND --help says more about a command."])
