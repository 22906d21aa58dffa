"""Watch, steer and replay training runs in the terminal."""

TYPE_CHECKING = False  # importing typing would cost a third of what --help may cost
if TYPE_CHECKING:
    __version__: str


def __getattr__(name: str) -> str:
    """``__version__``, looked up when asked for: the lookup costs more than a small module's import."""
    if name != "__version__":
        raise AttributeError(name)
    from importlib import metadata

    try:
        version = metadata.version("metarl-tui")
    except metadata.PackageNotFoundError:  # run from a checkout that is not installed
        version = "0+unknown"
    globals()["__version__"] = version
    return version
