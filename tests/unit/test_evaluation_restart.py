"""`bench solve` from an earlier solution, from a checkpoint, and when it is interrupted."""

import json
import signal

import numpy as np
import pandas as pd
import pytest
from test_evaluation import MODELS, assert_close, ebv_of, solve, write_model

from bench import __main__ as cli
from bench.genotypes.packed import PackedGenotypes, pack_dosages, write_bed
from evaluation_case import Oracle


def summary(out):
    return json.loads((out / "evaluation.json").read_text())


@pytest.fixture(scope="module")
def whole(farm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    model = write_model(farm, folder / "model.yaml", **MODELS["two traits"])
    assert solve(model, folder / "out") == 0
    return model, folder / "out"


@pytest.mark.parametrize("variant", ["prior_pcg", "ss_h", "sssnpblup"])
def test_a_warm_start_finds_the_same_in_fewer_steps(variant, farm, tmp_path):
    single = {"polygenic": 0.1, "tolerance": 1e-11, "variant": variant}  # at 1e-12 rounding stops sssnpblup
    keys = MODELS["two traits"] | {"single_step": single}
    # 5 % of the records and 2 % of the genotyped animals are new.
    records = pd.read_csv(farm / "records.tsv", sep="\t", dtype=str, keep_default_na=False)
    records.iloc[: int(0.95 * len(records))].to_csv(tmp_path / "records.tsv", sep="\t", index=False)
    packed, kept = PackedGenotypes.open(farm / "genotypes.bed", n_samples=90, n_snps=150), 88
    write_bed(tmp_path / "g.bed", [pack_dosages(packed.dosages()[:kept])])
    (tmp_path / "g.bim").write_text((farm / "genotypes.bim").read_text())
    (tmp_path / "g.fam").write_text("".join((farm / "genotypes.fam").read_text().splitlines(True)[:kept]))
    before = {"records": str(tmp_path / "records.tsv"), "genotypes": {"plink": str(tmp_path / "g")}}
    model = write_model(farm, tmp_path / "model.yaml", **keys)
    assert solve(write_model(farm, tmp_path / "before.yaml", **keys | before), tmp_path / "before") == 0
    assert solve(model, tmp_path / "cold") == 0
    assert solve(model, tmp_path / "warm", "--start", tmp_path / "before") == 0
    assert_close(ebv_of(tmp_path / "warm"), ebv_of(tmp_path / "cold"), 1e-7)
    assert summary(tmp_path / "warm")["steps"] < summary(tmp_path / "cold")["steps"]
    assert "which knows 300 of 300 animals" in (tmp_path / "warm" / "log.txt").read_text()


@pytest.mark.parametrize("name", ["two traits", "pedigree", "fixed groups"])
def test_what_did_not_converge_is_said_and_resumed(name, farm, tmp_path):
    model, out = write_model(farm, tmp_path / "model.yaml", **MODELS[name]), tmp_path / "out"
    assert solve(model, out, "--max-steps", 3) == 1
    assert "NOT CONVERGED: after 3 steps" in (out / "log.txt").read_text()
    assert summary(out)["converged"] is False
    assert (out / "checkpoint.npz").exists()
    assert solve(model, out, "--resume") == 0
    log = (out / "log.txt").read_text()
    assert log.index("NOT CONVERGED") < log.index("going on from") < log.index("solved in")
    assert not (out / "checkpoint.npz").exists()
    assert solve(model, tmp_path / "direct") == 0
    found, wanted = (ebv_of(folder) - ebv_of(folder).mean(axis=0) for folder in (out, tmp_path / "direct"))
    assert_close(found, wanted, 1e-7)


@pytest.mark.parametrize("variant", ["prior_pcg", "sssnpblup"])
def test_genotypes_that_were_mended_before_resuming(variant, farm, tmp_path):
    # prior_pcg carries Gw⁻¹u along, which is of the genotypes that the checkpoint was made with.
    packed = PackedGenotypes.open(farm / "genotypes.bed", n_samples=90, n_snps=150)
    dosages = packed.dosages()
    for suffix in (".bim", ".fam"):
        (tmp_path / f"g{suffix}").write_text((farm / f"genotypes{suffix}").read_text())
    single = {"polygenic": 0.1, "tolerance": 1e-11, "variant": variant}
    model = write_model(farm, tmp_path / "model.yaml", genotypes={"plink": str(tmp_path / "g")}, single_step=single)
    write_bed(tmp_path / "g.bed", [pack_dosages(dosages[::-1].copy())])
    assert solve(model, tmp_path / "out", "--max-steps", 5) == 1
    write_bed(tmp_path / "g.bed", [pack_dosages(dosages)])
    assert solve(model, tmp_path / "out", "--resume") == 0
    assert_close(ebv_of(tmp_path / "out"), Oracle(model).ebv, 1e-7)


def test_a_checkpoint_of_another_model_is_refused(farm, tmp_path, capsys):
    model, out = write_model(farm, tmp_path / "model.yaml"), tmp_path / "out"
    assert solve(model, out, "--max-steps", 3) == 1
    other = write_model(farm, tmp_path / "other.yaml", variances={"genetic": 0.3, "residual": 0.6})
    assert solve(other, out, "--resume") == 2
    assert (
        "checkpoint.npz: the checkpoint is of another problem, which differs in its model file; solve without"
        in capsys.readouterr().err
    )
    assert solve(model, tmp_path / "empty", "--resume") == 2
    assert "there is no such checkpoint; solve without --resume" in capsys.readouterr().err


def test_starts_that_cannot_be(farm, whole, tmp_path, capsys):
    model = write_model(farm, tmp_path / "model.yaml")
    _, out = whole

    def said(*more, model=model):
        assert solve(model, tmp_path / "out", *more) == 2
        return capsys.readouterr().err.splitlines()[-1]

    assert "that evaluation is of milk, fat, this one of milk" in said("--start", out)
    assert "state.npz: there is not the state of a single-step evaluation" in said("--start", tmp_path)
    assert "give one" in said("--start", out, "--resume")
    assert "--max-steps: 0 was given; at least 1" in said("--max-steps", 0)
    assert "--threads: 0 was given; at least 1" in said("--threads", 0)
    alone = write_model(farm, tmp_path / "pedigree.yaml", genotypes=None)
    assert "pedigree BLUP starts from 0" in said("--start", out, model=alone)
    (out / "state.npz").rename(out / "kept")
    (out / "state.npz").write_bytes((out / "kept").read_bytes()[:1000])
    assert "state.npz: there is not the state" in said("--start", out)
    (out / "kept").rename(out / "state.npz")


def test_names_that_are_not_unique_start_at_0(farm, tmp_path):
    # All SNPs of a .bim may be called "."; with groups the animals alone are counted.
    for suffix in (".bed", ".fam"):
        (tmp_path / f"g{suffix}").write_bytes((farm / f"genotypes{suffix}").read_bytes())
    bim = pd.read_csv(farm / "genotypes.bim", sep="\t", header=None, dtype=str)
    bim.assign(**{"1": "."})[[0, "1", 2, 3, 4, 5]].to_csv(tmp_path / "g.bim", sep="\t", header=False, index=False)
    keys = MODELS["random groups"] | {"genotypes": {"plink": str(tmp_path / "g")}}
    model = write_model(farm, tmp_path / "model.yaml", **keys)
    assert solve(model, tmp_path / "cold") == 0
    assert solve(model, tmp_path / "warm", "--start", tmp_path / "cold") == 0
    assert_close(ebv_of(tmp_path / "warm"), ebv_of(tmp_path / "cold"), 1e-8)
    assert "which knows 300 of 300 animals" in (tmp_path / "warm" / "log.txt").read_text()


def interrupted_at(step, monkeypatch):
    from bench.evaluation.journal import Iterations

    told = Iterations.__call__

    def call(self, number, residual):
        told(self, number, residual)
        if number == step:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Iterations, "__call__", call)


@pytest.fixture
def heard():
    """Ctrl-C is heard, which a shell's background jobs ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("name", ["two traits", "pedigree"])
def test_ctrl_c_keeps_a_checkpoint(name, farm, tmp_path, monkeypatch, capsys, heard):
    model, out = write_model(farm, tmp_path / "model.yaml", **MODELS[name]), tmp_path / "out"
    with monkeypatch.context() as patch:
        interrupted_at(6, patch)
        assert solve(model, out) == 130
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == "bench solve: interrupted"
    assert "checkpoint.npz is kept; give the same command with --resume to go on" in said[-2]
    assert (out / "log.txt").read_text().splitlines()[-1].endswith("stopped: KeyboardInterrupt")
    assert sorted(p.name for p in out.iterdir()) == ["checkpoint.npz", "log.txt"]
    assert solve(model, out, "--resume") == 0
    assert solve(model, tmp_path / "direct") == 0
    assert_close(ebv_of(out), ebv_of(tmp_path / "direct"), 1e-7)


def test_what_fails_after_the_iterations_loses_nothing(farm, tmp_path, monkeypatch, capsys):
    from bench.errors import BenchError
    from bench.evaluation import solve as module

    keys = {"output": {"reliability": "exact"}}
    model, out = write_model(farm, tmp_path / "model.yaml", **keys), tmp_path / "out"

    def fails(*_, **__):
        raise BenchError("no")

    with monkeypatch.context() as patch:
        patch.setattr(module, "exact", fails)
        assert solve(model, out) == 2
    assert not (out / "evaluation.json").exists()
    assert solve(model, out, "--resume") == 0
    assert summary(out)["steps"] > 1
    assert np.isfinite(ebv_of(out)).all()


def test_a_new_run_that_fails_leaves_no_summary_of_the_old(farm, tmp_path, monkeypatch):
    from bench.errors import BenchError
    from bench.evaluation import results

    model, out = write_model(farm, tmp_path / "model.yaml"), tmp_path / "out"
    assert solve(model, out) == 0

    def fails(*_, **__):
        raise BenchError("no")

    monkeypatch.setattr(results, "write_convergence", fails)
    assert solve(model, out) == 2
    assert not (out / "evaluation.json").exists()
    assert cli.main(["validate", str(out), str(out)]) == 0  # the solutions themselves are whole


def test_a_tolerance_that_rounding_does_not_allow_is_said(farm, tmp_path):
    single = {"polygenic": 0.1, "tolerance": 1e-17}
    out = tmp_path / "out"
    assert solve(write_model(farm, tmp_path / "model.yaml", single_step=single), out) == 1
    assert "falls no further, which is as far as float64 goes" in (out / "log.txt").read_text()
