"""The design's rules about who may import whom, and about the files themselves."""

import ast
from pathlib import Path

import pytest

from bench import PACKAGE, kernels

FILES = sorted(PACKAGE.rglob("*.py"))
CLOCKS = {
    "time", "time_ns", "perf_counter", "perf_counter_ns", "process_time", "process_time_ns", "monotonic",
    "monotonic_ns", "thread_time", "thread_time_ns", "clock_gettime", "times", "timeit", "default_timer",
}  # fmt: skip
LONGEST = 500


def name_of(path: Path) -> str:
    parts = ("bench", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def type_checking_blocks(tree: ast.AST) -> set[ast.AST]:
    """Nodes below `if TYPE_CHECKING:`, which are never imported at run time."""
    tests = [n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)]
    return {inner for test in tests for statement in test.body for inner in ast.walk(statement)}


def imported_names(tree: ast.Module, modules: set[str]) -> set[str]:
    """The modules of the package that a file imports, wherever in the file, outside `if TYPE_CHECKING`."""
    found, skipped = set(), type_checking_blocks(tree)
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that this test reads them"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in modules else str(node.module))
    return {name for name in found if name == "bench" or name.startswith("bench.")}


TREES = {name_of(path): ast.parse(path.read_text(), str(path)) for path in FILES}
IMPORTS = {name: imported_names(tree, set(TREES)) for name, tree in TREES.items()}


def reached(start: str, *, through: str = "bench") -> set[str]:
    """Everything that importing `start` imports, directly or not."""
    seen, waiting = set(), [start]
    while waiting:
        name = waiting.pop()
        if name in seen or not name.startswith(through):
            continue
        seen.add(name)
        waiting += IMPORTS.get(name, ())
    return seen - {start}


def below(names, *packages):
    return sorted(n for n in names if any(n == p or n.startswith(f"{p}.") for p in packages))


def modules(*packages):
    return below(TREES, *packages)


def test_the_walk_sees_the_package():
    assert len(TREES) > 40
    assert "bench.kernels" in IMPORTS["bench.experiments.products"]
    assert "bench.measure" in reached("bench.experiments.scaling")


@pytest.mark.parametrize("name", modules("bench.figures", "bench.tables", "bench.statistics"))
def test_figures_and_tables_are_functions_of_the_table_alone(name):
    assert not below(reached(name), "bench.kernels", "bench.measure", "bench.experiments", "bench.genotypes")


@pytest.mark.parametrize("name", modules("bench.tables"))
def test_tables_do_not_import_figures(name):
    assert not below(IMPORTS[name], "bench.figures")


@pytest.mark.parametrize("name", modules("bench.solvers", "bench.models", "bench.relationships", "bench.bridges"))
def test_solvers_and_models_see_operators_and_no_kernels(name):
    assert not below(reached(name), "bench.kernels", "bench.experiments", "bench.measure", "bench.build")


@pytest.mark.parametrize("name", modules("bench.kernels"))
def test_kernels_do_not_import_the_clock_or_the_experiments(name):
    assert not below(reached(name), "bench.measure", "bench.experiments", "bench.config", "bench.plan")


@pytest.mark.parametrize("name", modules("bench.genotypes", "bench.record", "bench.collect"))
def test_data_and_documents_know_nothing_of_what_uses_them(name):
    users = ("bench.kernels", "bench.experiments", "bench.solvers", "bench.models", "bench.figures", "bench.tables")
    assert not below(reached(name), *users, "bench.measure")


def clocks_read(tree: ast.Module) -> set[str]:
    """Names of clocks that a file takes from `time`, `timeit` or `os`."""
    nodes = list(ast.walk(tree))
    froms = [n for n in nodes if isinstance(n, ast.ImportFrom) and n.module in {"time", "timeit"}]
    found = {alias.name for node in froms for alias in node.names}
    attributes = [n for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)]
    found |= {
        n.attr for n in attributes if n.value.id in {"time", "timeit"} or (n.value.id, n.attr) == ("os", "times")
    }
    return found & CLOCKS


def test_the_clock_of_the_suite_is_found():
    assert {"perf_counter", "process_time", "monotonic"} <= clocks_read(TREES["bench.measure"])


@pytest.mark.parametrize("name", [name for name in TREES if name != "bench.measure"])
def test_only_measure_reads_a_clock(name):
    assert not clocks_read(TREES[name])


@pytest.mark.parametrize("name", kernels.names())
def test_a_kernel_is_named_like_its_file(name):
    assert kernels.load(name).name == name


@pytest.mark.parametrize("name", kernels.names())
def test_declaring_a_native_kernel_imports_no_numbers(name):
    # Snakemake reads every declaration each time it starts.
    if kernels.load(name).native:
        native = {f"bench.kernels.{other}" for other in kernels.names() if kernels.load(other).native}
        native.add("bench.kernels._panels")  # what some of them share
        assert reached(f"bench.kernels.{name}") <= {"bench", "bench.kernels", "bench.errors", *native}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_module_says_what_it_is(path):
    if path.read_text().strip():
        assert ast.get_docstring(TREES[name_of(path)])


@pytest.mark.parametrize("path", [*FILES, *sorted(PACKAGE.rglob("*.cc")), *sorted(PACKAGE.rglob("*.h"))], ids=str)
def test_a_file_is_one_idea(path):
    assert len(path.read_text().splitlines()) <= LONGEST


def test_the_snakefile_stays_short():
    lines = (PACKAGE.parents[1] / "Snakefile").read_text().splitlines()
    assert len(lines) <= 80
