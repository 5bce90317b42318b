"""The command line: help for every verb, one sentence and status 2 for bad input, never a traceback."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import __main__ as cli
from bench import __version__
from bench.record import read_json

ROOT = Path(__file__).parents[2]
VERBS = sorted(next(a for a in cli.parser()._actions if a.dest == "verb").choices)


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


def bench(*arguments, **more):
    command = [sys.executable, "-m", "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **more)


def sentence(capsys, *arguments) -> str:
    """What a verb says when it ends with status 2: one line on stderr, nothing on stdout."""
    assert cli.main(list(map(str, arguments))) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"bench {arguments[0]}: ")
    assert len(said.err.splitlines()) == 1
    return said.err


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([verb, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: bench {verb}")
    options = [line for line in text.splitlines() if line.startswith("  -") and "--help" not in line]
    assert all(len(line.split(None, 2)) == 3 or line.strip().endswith(("PATH", "...]")) for line in options), text


def test_the_help_names_every_verb(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert {"machine", "kernels", "plan", "run", "collect", "table", "figure"} <= set(VERBS)
    assert all(re.search(rf"^    {verb}\b", text, re.MULTILINE) for verb in VERBS)


def test_a_fault_of_the_program_is_no_verdict(monkeypatch, capsys):
    def broken(options):
        raise ZeroDivisionError("a fault")

    monkeypatch.setitem(cli.VERBS, "compare", broken)
    assert cli.main(["compare", "main"]) == 70
    assert "ZeroDivisionError: a fault" in capsys.readouterr().err


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert __version__ in capsys.readouterr().out


def test_no_verb_or_an_unknown_one_is_a_usage_error():
    for arguments in ([], ["absent"], ["build"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert ended.value.code == 2


def test_an_unknown_option_prints_the_usage_of_its_verb(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["crossvalidate", "model.yaml", "--out", "folds", "--memory", "1GB"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("usage: bench crossvalidate ")
    assert said.endswith("bench crossvalidate: error: unrecognized arguments: --memory 1GB\n")


def test_bad_input_ends_with_status_2_and_one_sentence_without_a_traceback():
    done = bench("collect", "--documents", os.devnull, "--out", "/dev/null/x.parquet")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("bench collect: /dev/null/x.parquet: cannot write")
    assert len(done.stderr.splitlines()) == 1


def test_a_pipe_that_is_closed_early_is_quiet():
    done = subprocess.run(
        f"{sys.executable} -m bench plan --json | head -1", shell=True, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert json.loads(done.stdout)["id"]


SPEC = json.dumps({"kind": "simulated", "n_samples": 30, "n_snps": 9, "founders": 10, "generations": 1, "extra": 1})

CASE = json.dumps({"experiment": "products", "dataset": "x", "kernel": "dense_blas", "threads": 1, "k": [1]})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["build", "absent", "--target", "scalar", "--out", "o"], "there is no kernel 'absent'"),
        (["build", "decompress", "--target", "sse", "--out", "o"], "has no target 'sse'"),
        (["build", "dense_blas", "--target", "openblas", "--out", "o"], "not native"),
        (["config", "resluts"], "there is no key 'resluts'"),
        (["config", "results", "--configfile", "absent.yaml"], "absent.yaml: no such file"),
        (["plan", "--configfile", "Makefile"], "Makefile: cannot be read as a configuration"),
        (["oracle", "--dataset", "absent.json", "--out", "o"], "absent.json: no such file"),
        (["dataset", "--name", "x", "--spec", SPEC, "--out", "o"], "--spec: data set 'x': unknown key `extra`"),
        (["dataset", "--name", "../x", "--spec", SPEC, "--out", "o"], "cannot name a data set"),
        (["dataset", "--name", "x", "--spec", '{"kind": "cow"}', "--out", "o"], "data set 'x'"),
        (["table", "products", "--measurements", "absent.parquet", "--out", "o"], "absent.parquet: no such file"),
        (["figure", "rates", "--measurements", "absent.parquet", "--out", "o"], "absent.parquet: no such file"),
        (["summary", "--measurements", "absent.parquet"], "absent.parquet: no such file"),
        (["collect", "--documents", "absent.txt", "--out", "o"], "absent.txt"),
        (["machine", "--limits", "absent", "--out", "/dev/null/x.json", "--json"], "/dev/null/x.json: cannot write"),
        (["run", "--case", "{}", "--dataset", "d", "--out", "o"], "--case: has no experiment, dataset, threads"),
        (["run", "--case", "[]", "--dataset", "d", "--out", "o"], "not a JSON object"),
        (["run", "--case", CASE, "--dataset", "absent.json", "--out", "o"], "absent.json: no such file"),
        (["run", "--case", "not json", "--dataset", "d", "--out", "o"], "not JSON"),
        (["dataset", "--name", "x", "--spec", "{", "--out", "o"], "not JSON"),
        (
            ["run", "--case", CASE.replace("products", "absent"), "--dataset", "d", "--out", "o"],
            "no experiment 'absent'",
        ),
    ],
    ids=lambda v: " ".join(v[:3]) if isinstance(v, list) else "",
)
def test_each_mistake_is_one_sentence(arguments, words, capsys, tmp_path, monkeypatch):
    arguments = [str(tmp_path / "o") if a == "o" else a for a in arguments]
    assert words in sentence(capsys, *arguments)
    assert not (tmp_path / "o").is_file()


def test_a_table_or_figure_that_does_not_exist_is_said(capsys, tmp_path):
    from bench.collect import collect, write

    write(collect([]), tmp_path / "m.parquet")
    for verb in ("table", "figure"):
        said = sentence(capsys, verb, "absent", "--measurements", tmp_path / "m.parquet", "--out", tmp_path)
        assert f"there is no {verb} 'absent'" in said


def test_kernels_lists_every_target_and_whether_it_runs(capsys):
    assert cli.main(["kernels"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("decompress: ") for line in lines)
    assert any("runs here" in line for line in lines)


def test_config_prints_a_value(capsys):
    assert cli.main(["config", "results", "--configfile", "config/smoke.yaml"]) == 0
    assert capsys.readouterr().out == "results/smoke\n"


def test_plan_prints_the_paper_s_cases_with_their_refusals(capsys):
    assert cli.main(["plan", "--json", "--configfile", "config/papers/freudenberg2023.yaml"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    cases = [line for line in lines if line["experiment"] == "products"]
    assert {case["case"]["dataset"] for case in cases} == {
        "freudenberg_102k", "freudenberg_751k", "freudenberg_3m",
    }  # fmt: skip
    refused = [case["refused"] for case in cases if case["case"]["dataset"] == "freudenberg_3m"]
    assert refused
    assert all(len(reason.split()) > 4 for reason in refused)


def test_plan_sums_up_the_cases_and_groups_the_refusals(capsys):
    config = ["--configfile", "config/papers/freudenberg2023.yaml"]
    assert cli.main(["plan", *config]) == 0
    text = capsys.readouterr().out
    assert cli.main(["plan", "--json", *config]) == 0
    cases = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for name in {case["experiment"] for case in cases}:
        refused = [case["refused"] for case in cases if case["experiment"] == name]
        may, not_ = refused.count(None), len(refused) - refused.count(None)
        cases_ = "1 case" if len(refused) == 1 else f"{len(refused)} cases"
        assert f"{name}: {cases_}, {may} may run here, {not_} refused\n" in text
        for reason in {reason for reason in refused if reason}:
            assert f"{refused.count(reason):>4} × {reason}\n" in text


def test_dataset_says_what_a_user_s_files_hold_and_warns_of_minus_nine(capsys, tmp_path):
    from bench.genotypes.packed import pack_dosages, write_bed

    write_bed(tmp_path / "own.bed", [pack_dosages(np.array([[0, 1], [2, -1], [1, 1], [0, 2]], np.int8))])
    (tmp_path / "own.bim").write_text("1 s1 0 1 A C\n1 s2 0 2 A C\n")
    (tmp_path / "own.fam").write_text("".join(f"f {name} 0 0 1 -9\n" for name in "abcd"))
    (tmp_path / "own.csv").write_text("id,milk,fat\na,1,-9\nb,2.5,3\nc,NA,-9\n")
    spec = json.dumps({"kind": "plink", "prefix": str(tmp_path / "own"), "phenotypes": str(tmp_path / "own.csv")})
    assert cli.main(["dataset", "--name", "own", "--spec", spec, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "own: 4 individuals, 2 SNPs, 12.50% of the calls missing",
        "    milk: 2 records, mean 1.75, 1 to 2.5",
        "    fat: 3 records, mean -5, -9 to 3",
    ]
    few, missing = said.err.splitlines()
    assert few == "bench dataset: warning: milk has 2 records; GBLUP needs at least 3"
    assert missing.startswith("bench dataset: warning: fat is -9 in 2 of 3 records")


def test_refuse_writes_a_document_without_observations(tmp_path):
    case = {"experiment": "products", "dataset": "tiny", "kernel": "gpu_2bit", "threads": 1, "k": [1]}
    out = tmp_path / "raw" / "x.json"
    assert cli.main(["refuse", "--case", json.dumps(case), "--reason", "no GPU", "--out", str(out)]) == 0
    document = read_json(out)
    assert (document["status"], document["reason"], document["rows"]) == ("refused", "no GPU", [])
    assert document["identity"]["kernel"] == "gpu_2bit"


def test_threads_are_fixed_before_numpy_is_loaded():
    code = (
        "import sys; from bench.provenance import set_threads; assert 'numpy' not in sys.modules; set_threads(1)\n"
        "import numpy; from threadpoolctl import threadpool_info\n"
        "assert {p['num_threads'] for p in threadpool_info()} == {1}, threadpool_info()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_run_does_not_load_numpy_before_its_threads_are_fixed():
    code = (
        "import sys\nfrom bench import __main__, provenance\n"
        "def stop(threads):\n    print('numpy' in sys.modules); raise SystemExit\n"
        "provenance.set_threads = stop\n"
        f"__main__.main(['run', '--case', {CASE!r}, '--dataset', 'd', '--out', 'o'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr
