"""What a configuration may say; each mistake is a sentence that names the key."""

import copy
from pathlib import Path

import pytest
import yaml

from bench import config as configuration
from bench import experiments
from bench.errors import BenchError

ROOT = Path(__file__).parents[2]
OTHERS = {"config.yaml", "datasets.yaml", "claims.yaml"}
FILES = sorted(p for p in (ROOT / "config").rglob("*.yaml") if p.name not in OTHERS)


@pytest.fixture
def default():
    merged = {}
    for name in ("datasets", "config"):
        merged |= yaml.safe_load((ROOT / f"config/{name}.yaml").read_text())
    return copy.deepcopy(merged)


def message(config) -> str:
    with pytest.raises(BenchError) as caught:
        configuration.check(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_main_job_s_configuration_is_valid():
    read = configuration.read(root=ROOT)
    assert read.results == "results/main"
    assert set(read.experiments) == {"limits", "products", "scaling", "paired", "gblup"}


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.stem)
def test_every_configuration_in_the_repository_is_valid(file):
    assert configuration.read([file], ROOT).results != "results/main"


def test_an_override_merges_maps_and_replaces_lists(tmp_path):
    override = tmp_path / "o.yaml"
    override.write_text("timing: {least: 4}\nkernels: [decompress]\nexperiments: {scaling: null}\n")
    read = configuration.read([override], ROOT)
    assert (read.timing.least, read.timing.most) == (4, configuration.read(root=ROOT).timing.most)
    assert read.kernels == ["decompress"]
    assert "scaling" not in read.experiments


def test_later_overrides_win(tmp_path):
    for name, least in (("a", 4), ("b", 6)):
        (tmp_path / name).write_text(f"timing: {{least: {least}}}")
    assert configuration.read([tmp_path / "a", tmp_path / "b"], ROOT).timing.least == 6


def test_a_configuration_that_is_not_there_is_said(tmp_path):
    with pytest.raises(BenchError, match=r"absent\.yaml: no such file"):
        configuration.read([tmp_path / "absent.yaml"], ROOT)


def test_a_folder_that_is_no_checkout_is_said(tmp_path):
    with pytest.raises(BenchError, match=r"no config/ here \(.*\): run this in the root of the checkout"):
        configuration.read(root=tmp_path)


@pytest.mark.parametrize("text", ["results: [", "- a list\n- not a map", "just a word"])
def test_a_file_that_is_not_a_configuration_is_said(tmp_path, text):
    (tmp_path / "o.yaml").write_text(text)
    with pytest.raises(BenchError, match=r"o\.yaml: cannot be read as a configuration"):
        configuration.read([tmp_path / "o.yaml"], ROOT)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (["resluts"], "resluts"),
        (["timing", "repeats"], "timing.repeats"),
        (["budget", "memory"], "budget.memory"),
        (["experiments", "products", "thread"], "thread"),
        (["experiments", "paired", "pair"], "pair"),
        (["datasets", "cattle", "n_snp"], "n_snp"),
    ],
)
def test_an_unknown_key_is_named_at_every_level(default, path, shown):
    at = default
    for key in path[:-1]:
        at = at.setdefault(key, {})
    at[path[-1]] = 1
    said = message(default)
    assert "unknown key" in said
    assert shown in said


def test_an_unknown_key_of_an_experiment_names_the_experiment(default):
    default["experiments"]["scaling"]["thread"] = 1
    assert "experiments.scaling.thread" in message(default)


@pytest.mark.parametrize(
    ("key", "wrong", "right"),
    [("kernels", "decompres", "decompress"), ("targets", "avx521", "avx512"), ("tables", "product", "products"),
     ("figures", "rooflin", "roofline")],
)  # fmt: skip
def test_a_name_that_does_not_exist_comes_with_what_was_meant(default, key, wrong, right):
    default[key] = [wrong]
    said = message(default)
    assert f"there is no {key[:-1]} {wrong!r}" in said
    assert f"did you mean {right!r}?" in said


def test_a_data_set_that_does_not_exist_comes_with_what_was_meant(default):
    default["experiments"]["products"]["datasets"] = ["catle"]
    said = message(default)
    assert "no data set (experiment products) 'catle'" in said
    assert "a new one is added to `datasets`; did you mean 'cattle'?" in said


@pytest.mark.parametrize(
    ("path", "right"),
    [(["resluts"], "results"), (["timing", "leest"], "least"), (["budget", "memory"], "memory_gb"),
     (["experiments", "products", "dataset"], "datasets"), (["datasets", "cattle", "n_snp"], "n_snps")],
)  # fmt: skip
def test_an_unknown_key_comes_with_what_was_meant(default, path, right):
    at = default
    for key in path[:-1]:
        at = at.setdefault(key, {})
    at[path[-1]] = 1
    assert f"unknown key `{'.'.join(path)}`; did you mean {right!r}?" in message(default)


def test_an_experiment_that_does_not_exist_comes_with_what_was_meant(default):
    default["experiments"]["product"] = {"datasets": ["cattle"]}
    said = message(default)
    assert "there is no experiment 'product'" in said
    assert "did you mean 'products'?" in said


def test_a_name_like_none_comes_with_what_there_is(default):
    default["kernels"] = ["zzz"]
    said = message(default)
    assert "decompress" in said
    assert "did you mean" not in said


def test_a_kernel_of_a_pair_must_exist(default):
    default["experiments"]["paired"]["pairs"] = [["decompress", "dense_bals"]]
    assert "did you mean 'dense_blas'?" in message(default)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["timing", "least"], 0),
        (["timing", "seconds"], 0),
        (["budget", "hours"], -1),
        (["experiments", "products", "k"], [0]),
        (["experiments", "products", "threads"], ["some"]),
        (["experiments", "products", "dtypes"], ["f2"]),
        (["experiments", "products", "datasets"], "cattle"),
        (["kernels"], "decompress"),
        (["datasets", "cattle", "n_samples"], 1),
        (["datasets", "cattle", "missing_rate"], 1.0),
        (["datasets", "cattle", "kind"], "cow"),
    ],
)
def test_an_impossible_value_names_its_key(default, path, value):
    at = default
    for key in path[:-1]:
        at = at.setdefault(key, {})
    at[path[-1]] = value
    assert path[-1] in message(default)


def test_more_repeats_at_the_least_than_at_the_most_are_an_error(default):
    default["timing"] = {"least": 9, "most": 5}
    assert "least" in message(default)


def test_a_missing_key_is_named(default):
    del default["kernels"]
    assert "`kernels`" in message(default)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"kind": "plink", "prefix": "x"}, "`datasets.mine` needs the key `phenotypes`"),
        ({"prefix": "x"}, "`datasets.mine` needs the key `kind`"),
        ({"kind": "cow"}, "`datasets.mine`: there is no kind 'cow'; there are 'simulated'"),
        (3, "`datasets.mine`: a map of keys was needed"),
    ],
)
def test_an_entry_of_a_data_set_that_cannot_be_used_is_named(default, entry, said):
    default["datasets"]["mine"] = entry
    assert said in message(default)


@pytest.mark.parametrize("pair", [["decompress"], [], "decompress"])
def test_a_pair_is_of_two_kernels_or_more(default, pair):
    default["experiments"]["paired"]["pairs"] = [pair]
    assert f"`experiments.paired.pairs`: a pair is [first, second], found {pair!r}" in message(default)


def test_all_mistakes_are_said_at_once(default):
    default["resluts"] = 1
    default["timing"]["least"] = 0
    said = message(default)
    assert "resluts" in said
    assert "timing.least" in said


@pytest.mark.parametrize("name", [name for name in experiments.names() if name not in experiments.WITHOUT_DATA])
def test_a_stanza_without_its_data_sets_is_an_error(default, name):
    default["experiments"] = {name: {"views": {"one": {}}} if name == "single_step" else {}}
    assert "datasets" in message(default)


@pytest.mark.parametrize("stanza", ["datasets", ["cattle"], 3])
def test_a_stanza_that_is_not_a_map_is_an_error(default, stanza):
    default["experiments"]["products"] = stanza
    assert "experiments" in message(default)
