"""The one exception a user is meant to read, and pydantic's errors in its words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class BenchError(Exception):
    """Bad input or a broken surrounding, told in one sentence.

    The message names the file or key, what was found, what was needed and, where there is one, the
    next step. The command line prints it without a traceback and exits with status 2.
    """


class DeviceLost(BenchError):
    """A GPU or its driver failed while it was used: the same may succeed another time."""

    def __init__(self, what: str):
        super().__init__(f"{LOST}: {what}; run again")


LOST = "the GPU failed or was lost"  # how such a sentence begins


# Of pydantic's types of error, those whose own message speaks of Python.
WORDS = {
    "model_type": "a map of keys was needed",
    "model_attributes_type": "a map of keys was needed",
    "dict_type": "a map of keys was needed",
    "list_type": "a list was needed",
    "tuple_type": "a list was needed",
    "path_type": "a path was needed",
}


def fault(error: Any, where: str, keys: Iterable[str]) -> str:
    """One of a pydantic ValidationError's errors as a sentence.

    where: the place that it is of, dotted. keys: those that its last part might have been.
    """
    if error["type"] == "union_tag_not_found":
        error, where = error | {"type": "missing"}, f"{where}.kind".lstrip(".")
    parent, _, key = where.rpartition(".")
    if error["type"] == "extra_forbidden":
        return f"unknown key `{where}`{meant(key, keys) or '; docs/configuration.md lists the keys'}"
    if error["type"] == "missing":
        return f"`{parent}` needs the key `{key}`" if parent else f"needs the key `{key}`"
    message = WORDS.get(error["type"]) or error["msg"].removeprefix("Value error, ")
    if error["type"] == "union_tag_invalid":
        message = f"there is no kind {error['ctx']['tag']!r}; there are {error['ctx']['expected_tags']}"
    return f"`{where}`: {message}" if where else message


def meant(name: str, names: Iterable[str]) -> str:
    """`; did you mean …?` with the likeliest of `names`; nothing if none is like `name`."""
    close = difflib.get_close_matches(name, list(names), 1)
    return f"; did you mean {close[0]!r}?" if close else ""
