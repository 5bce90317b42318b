"""Where what is compiled at its first use is kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$BENCH_CACHE, or blupbench in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("BENCH_CACHE") or Path(base) / "blupbench")
