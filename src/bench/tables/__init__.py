"""Tables of the report. The folder is the registry: one module per table.

A module `bench.tables.<name>` defines TITLE, CAPTION and `draw(frame)`, a pure function from the long table
of measurements to the table that is shown. Modules whose name starts with "_" are shared, not tables.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.record import atomic_path, write_text

if TYPE_CHECKING:
    import pandas as pd

HERE = Path(__file__).parent


def names() -> list[str]:
    """Every table in the folder."""
    return sorted(i.name for i in pkgutil.iter_modules([str(HERE)]) if not i.name.startswith("_"))


def load(name: str) -> ModuleType:
    """The module of table `name`."""
    if name not in names():
        raise BenchError(f"there is no table {name!r}; there are {', '.join(names())}")
    return importlib.import_module(f"bench.tables.{name}")


def sources(name: str) -> list[str]:
    """The files a change to which must redraw table `name`."""
    shared = [*HERE.glob("_*.py"), HERE.parent / "statistics.py"]
    return sorted(str(f) for f in [HERE / f"{name}.py", *shared])


def write(name: str, frame: pd.DataFrame, folder: Path | str) -> None:
    """Draw table `name` from the measurements and write NAME.csv, NAME.html and NAME.md into `folder`."""
    module = load(name)
    save(module.draw(frame), name, module.TITLE, module.CAPTION, folder)


def save(drawn: pd.DataFrame, name: str, title: str, caption: str, folder: Path | str) -> None:
    """Write a drawn table as NAME.csv, NAME.html and NAME.md into `folder`."""
    from bench.tables import _page

    with atomic_path(Path(folder) / f"{name}.csv") as tmp:
        drawn.to_csv(tmp, index=False, lineterminator="\n")
    write_text(Path(folder) / f"{name}.html", _page.to_html(drawn, title, caption))
    write_text(Path(folder) / f"{name}.md", _page.to_markdown(drawn, title, caption))
