"""Slowdowns put into the inner loops of kernels, in a copy of the checkout: what the gate is there to catch."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
KERNELS = Path("src/bench/kernels")
NOPS = 'asm volatile("nop\\n\\tnop");\n'
A_NOP = 'asm volatile("nop");\n'
A_THIRD = 'for (size_t d = 0; d < count / 3; d++) asm volatile("" : "+r"(d));\n'

# kernel → (file, a line of the inner loop, what is put before it): of twenty to forty instructions about 5 % more.
FIVE_PERCENT = {
    # Beside the loop, a third as often: inside it a nop keeps the compiler from more than it costs.
    "decompress": [("decompress/decompress.cc", "for (size_t d = 0; d < count; d++) {\n", A_THIRD)],
    "five_codes": [("five_codes/five_codes.cc", "E sum = acc[row];\n", A_NOP + NOPS)],
    "lut5": [("lut5/lut5.h", "typename Entry<real, BYTES>::vec sums[2] =", NOPS)],
    "auto": [("lut5/lut5.h", "typename Entry<real, BYTES>::vec sums[2] =", NOPS)],
    "slices": [
        ("slices/slices.h", "if (q % 4 == 0) ahead.step();\n", NOPS),
        ("slices/slices.h", "Bytes dosages[R];\n                each<R>", NOPS),
    ],
}  # fmt: skip
# Half of the inner loop's work is done a second time, for sums that nobody reads.
LUT5_AGAIN = (
    "static thread_local E again[1 << 14];\n"
    "look_up<real, BYTES>(words, rows / 2 / WORDS * WORDS, reinterpret_cast<const E*>(tables), again);\n"
)
HALF_AGAIN = {
    "decompress": [
        (
            "decompress/decompress.cc",
            "columns.kernel[next - first](codes, count, x + first, step, sums + first * R);\n",
            "static thread_local Vec<real> again[COLUMNS * R];\n"
            "columns.kernel[next - first](codes, count / 2, x + first, step, again);\n",
        )
    ],
    "five_codes": [
        (
            "five_codes/five_codes.cc",
            "look_up(codes.words + word * codes.rows + row, rows, work.tables, work.acc);\n",
            "static thread_local E again[ROWS];\n"
            "look_up(codes.words + word * codes.rows + row, rows / 2, work.tables, again);\n",
        )
    ],
    "lut5": [("lut5/lut5.h", "look_up<real, BYTES>(words, rows, reinterpret_cast", LUT5_AGAIN)],
    "auto": [("lut5/lut5.h", "look_up<real, BYTES>(words, rows, reinterpret_cast", LUT5_AGAIN)],
    "slices": [
        (
            "slices/slices.h",
            "if constexpr (ROWS<S> == 4) add_quads<S, 0, 4>(quads, count(j), digits, sums[0][0], ahead);\n",
            "alignas(64) static thread_local int32_t again[PLANES * S * LANES];\n"
            "Ahead none{nullptr, nullptr, 0};\n"
            "if constexpr (ROWS<S> == 4) add_quads<S, 0, 4>(quads, count(j) / 2, digits, again, none);\n",
        ),
        (
            "slices/slices.h",
            "for (size_t panel = first; panel < last; panel += AT_ONCE)\n        add_lines",
            "alignas(64) static thread_local int32_t again[FOURS * 4 * LANES];\n"
            "const size_t half = std::min(AT_ONCE, last - first) / 2;\n"
            "add_lines<S, ROWS<S>>(z, first, half, snp, in.of(column, first * PANEL), false, again);\n",
        ),
    ],
}


def inject(tree: Path, changes: list[tuple[str, str, str]]) -> None:
    """Put each piece of code before its line in the sources of `tree`."""
    for name, line, code in changes:
        file = tree / KERNELS / name
        text = file.read_text()
        assert text.count(line) == 1, f"{name}: the loop to slow down is not there any more: {line!r}"
        file.write_text(text.replace(line, f"{code}{line}"))


def copy_checkout(folder: Path) -> Path:
    """The package as it stands here, in a tree of its own, without git."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src" / "bench", folder / "src" / "bench", ignore=ignored)
    return folder


def git(folder: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=name", "-c", "user.email=name@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", *settings, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit_all(folder: Path, message: str) -> str:
    """Commit everything; the commit."""
    if not (folder / ".git").exists():
        git(folder, "init", "-q", "-b", "main")
    (folder / ".gitignore").write_text("__pycache__/\nresults/\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", message)
    return git(folder, "rev-parse", "HEAD")
