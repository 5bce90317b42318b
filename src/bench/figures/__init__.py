"""Figures of the report. The folder is the registry: one module per figure.

A module `bench.figures.<name>` defines TITLE, CAPTION and `draw(frame)`, a pure function from the long table
of measurements to a matplotlib Figure. `style` is shared, not a figure.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.record import atomic_path

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
# Of the tables, what figures draw from.
READ = (
    "_bounds.py",
    "_cells.py",
    "_dblup.py",
    "_single_step.py",
    "dblup_annotations.py",
    "dblup_learned.py",
    "dblup_prediction.py",
    "dblup_steps.py",
    "gram.py",
    "lanczos_reml.py",
    "single_step_accuracy.py",
    "single_step_crossover.py",
    "solves.py",
)
NO_DATE = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}


def names() -> list[str]:
    """Every figure in the folder."""
    found = (i.name for i in pkgutil.iter_modules([str(HERE)]))
    return sorted(name for name in found if name != "style" and not name.startswith("_"))


def load(name: str) -> ModuleType:
    """The module of figure `name`."""
    if name not in names():
        raise BenchError(f"there is no figure {name!r}; there are {', '.join(names())}")
    return importlib.import_module(f"bench.figures.{name}")


def sources(name: str) -> list[str]:
    """The files a change to which must redraw figure `name`: its own, the style, and the tables it draws from."""
    tables = HERE.parent / "tables"
    read = [tables / name for name in READ]
    shared = [HERE / "style.py", HERE / "_dblup.py", HERE / "_single_step.py", *read, HERE.parent / "statistics.py"]
    return sorted(str(f) for f in [HERE / f"{name}.py", *shared])


def write(name: str, frame: pd.DataFrame, folder: Path | str) -> None:
    """Draw figure `name` from the measurements and write NAME.svg, NAME.pdf and NAME.png into `folder`.

    The same measurements give the same bytes.
    """
    save(load(name).draw(frame), name, folder)


def save(figure: Figure, name: str, folder: Path | str) -> None:
    """Write a figure as NAME.svg, NAME.pdf and NAME.png into `folder`."""
    from bench.figures import style

    with style.paper():
        for kind, metadata in NO_DATE.items():
            with atomic_path(Path(folder) / f"{name}.{kind}") as tmp:
                figure.savefig(tmp, format=kind, dpi=200, metadata=metadata)
