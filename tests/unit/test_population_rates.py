"""`bench genedrop` prints what it measured, and says what cannot be."""

import pytest

from bench import __main__ as cli
from bench.build import installed

pytestmark = pytest.mark.usefixtures("own_lock")


@pytest.fixture(scope="module", autouse=True)
def compiled():
    if installed("genedrop").library is None or installed("limits").library is None:
        pytest.skip("nothing can be compiled here")


def test_it_prints_its_figures_and_leaves_no_file(tmp_path, capsys):
    sizes = ["--animals", "3000", "--snps", "600", "--chromosomes", "2", "--threads", "1"]
    (out := tmp_path / "out").mkdir()
    assert cli.main(["genedrop", *sizes, "--out", str(out)]) == 0
    found = {name: float(value) for name, value in map(str.split, capsys.readouterr().out.splitlines())}
    assert {"drop_s", "pack_s", "whole_s", "pack_cpu_s", "pack_rate", "copy_rate", "peak_rss"} <= set(found)
    assert found["pack_of_copy"] == pytest.approx(found["pack_rate"] / found["copy_rate"], rel=0.01)
    assert found["whole_s"] >= found["drop_s"] + found["pack_s"] - 0.01
    assert not list(out.iterdir())


def test_the_fewest_animals_are_enough(tmp_path, capsys):
    sizes = ["--animals", "40", "--snps", "1", "--chromosomes", "1", "--threads", "1"]
    assert cli.main(["genedrop", *sizes, "--out", str(tmp_path)]) == 0
    assert "whole_s" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_to_is_said(read_only_folder, capsys):
    sizes = ["--animals", "40", "--snps", "1", "--chromosomes", "1", "--threads", "1"]
    assert cli.main(["genedrop", *sizes, "--out", str(read_only_folder)]) == 2
    assert "read_only: cannot write (Read-only file system)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--animals", "39"], "at least 40 animals"),
        (["--snps", "0"], "one SNP"),
        (["--threads", "100000"], "asked for 100000 threads, this machine has"),
        (["--animals", str(10**12)], "GB are free; lower --animals"),
        (["--out", "/nowhere"], "/nowhere: no such folder"),
    ],
)
def test_what_cannot_be_is_said(flags, sentence, tmp_path, capsys):
    assert cli.main(["genedrop", "--out", str(tmp_path), *flags]) == 2
    assert sentence in capsys.readouterr().err
