"""Where fetched and converted files live."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """The cache folder, created if it is missing.

    Returns:
        `$MODEL_ORGANISMS_CACHE`, else `$XDG_CACHE_HOME/model-organisms`, else `~/.cache/model-organisms`.
    """
    own = os.environ.get("MODEL_ORGANISMS_CACHE")
    xdg = os.environ.get("XDG_CACHE_HOME")
    path = Path(own).expanduser() if own else (Path(xdg) if xdg else Path.home() / ".cache") / "model-organisms"
    path.mkdir(parents=True, exist_ok=True)
    return path
