"""The target `regression`: asked for by name, with the base of the configuration, and it keeps its report."""

from __future__ import annotations

import json

from checkout import would_run

SMALL = {"kernels": ["dense_blas"], "k": [1], "gates": ["counters"]}


def test_the_default_run_compares_no_revisions(checkout):
    config = checkout.configure("default")
    assert "regression" not in would_run(checkout.succeed("--configfile", config, "-n"))


def test_the_working_tree_is_compared_with_the_base_of_the_configuration(checkout):
    config = checkout.configure("compared", regression=SMALL | {"base": "HEAD"})
    checkout.succeed("regression", "--configfile", config, "--cores", "1")
    said = json.loads((checkout.results("compared") / "regression" / "regression.json").read_text())
    assert (said["verdict"], said["base"]["name"], said["head"]["name"]) == ("same", "HEAD", ".")
    assert {finding["kernel"] for finding in said["findings"]} == {"dense_blas"}


def test_a_base_that_is_not_there_fails_the_run_and_leaves_the_report(checkout):
    config = checkout.configure("absent", regression=SMALL | {"base": "no-such-branch"})
    status, output = checkout.run("regression", "--configfile", config, "--cores", "1")
    assert status != 0
    assert "no-such-branch is no commit of this repository" in output
    assert (checkout.results("absent") / "regression" / "regression.md").exists()


def test_a_misspelt_key_is_a_sentence(checkout):
    status, output = checkout.run(
        "regression", "--configfile", checkout.configure("bad", regression={"bass": "main"})
    )
    assert status != 0
    assert "unknown key `regression.bass`; did you mean 'base'?" in output
