"""Where data is kept."""

import os
import sys
from pathlib import Path


class DataError(ValueError):
    """Data that is missing, broken, of another kind, or out of reach; the message says what to do."""


def cache_dir() -> Path:
    """The folder for downloads and encoded corpora: TINYLLM_CACHE, or the platform's own place for such files."""
    if chosen := os.environ.get("TINYLLM_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "tinyllm" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "tinyllm"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinyllm"
