"""The public data sets, against the reference solutions' files and with every way of not having them."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pooch
import pytest
import requests
import yaml

from bench.errors import BenchError
from bench.genotypes.dataset import Dataset
from bench.genotypes.stages import make_dataset

ENTRIES = yaml.safe_load((Path(__file__).parents[2] / "config/datasets.yaml").read_text())["datasets"]
DATA = Path(os.environ.get("BENCH_DATA", "absent"))
needs_wheat = pytest.mark.skipif(not (DATA / "wheat/wheat.RData").is_file(), reason="BENCH_DATA has no wheat")
needs_mice = pytest.mark.skipif(not (DATA / "mice/mice.RData").is_file(), reason="BENCH_DATA has no mice")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty download cache."""
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    return tmp_path / "cache" / "blupbench"


@needs_wheat
def test_wheat_has_the_lines_of_the_reference_in_their_order(tmp_path):
    dataset = make_dataset(ENTRIES["wheat"], name="wheat", folder=tmp_path)
    assert dataset.status == "ok"
    assert dataset.packed().shape == (599, 1279)
    assert dataset.traits == ("env1", "env2", "env4", "env5")
    reference = DATA.parent / "reference/wheat_rrblup_ebv.csv"
    if not reference.is_file():
        pytest.skip("BENCH_DATA has no reference folder beside it")
    assert dataset.sample_ids() == pd.read_csv(reference, dtype={"id": str})["id"].tolist()


@needs_wheat
def test_wheat_genotypes_are_homozygous_and_records_standardised(tmp_path):
    make_dataset(ENTRIES["wheat"], name="wheat", folder=tmp_path)
    dataset = Dataset.read(tmp_path / "dataset.json")
    assert set(np.unique(dataset.packed().dosages())) == {0, 2}
    assert dataset.missing_rate == 0
    records = dataset.phenotypes()
    np.testing.assert_allclose(records.mean(), 0, atol=1e-12)
    np.testing.assert_allclose(records.std(ddof=1), 1, rtol=1e-12)
    folds = dataset.folds()
    assert folds is not None
    assert folds.index.tolist() == dataset.sample_ids()
    assert sorted(folds.unique()) == list(range(1, 11))


@needs_mice
def test_mice_have_complete_dosages_and_measured_traits(tmp_path, recwarn):
    dataset = make_dataset(ENTRIES["mice"], name="mice", folder=tmp_path)
    assert dataset.packed().shape == (1814, 10346)
    assert set(np.unique(dataset.packed().dosages())) == {0, 1, 2}
    records = dataset.phenotypes()
    assert records["Obesity.BMI"].notna().all()
    assert not [t for t in dataset.traits if "Date" in t or t in ("Litter", "CageDensity")]
    snps = dataset.snps()
    assert (snps["allele1"] != snps["allele2"]).all()
    assert snps["chromosome"].nunique() == 20
    assert not [w for w in recwarn if "encoding" in str(w.message)]


def test_without_a_network_the_data_set_is_refused_with_what_to_do(tmp_path, cache, monkeypatch):
    def no_network(*args, **kwargs):
        raise requests.exceptions.ConnectionError("no route to host")

    monkeypatch.delenv("BENCH_DATA", raising=False)
    monkeypatch.setattr(requests, "get", no_network)
    make_dataset(ENTRIES["wheat"], name="wheat", folder=tmp_path / "out")
    dataset = Dataset.read(tmp_path / "out" / "dataset.json")
    assert dataset.status == "refused"
    assert dataset.reason is not None
    assert "set BENCH_DATA to a folder that holds wheat/wheat.RData" in dataset.reason
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["dataset.json"]


def test_a_download_with_another_hash_is_never_used(tmp_path, cache, monkeypatch):
    class Answer:
        headers: dict[str, str] = {}

        def raise_for_status(self):
            pass

        def iter_content(self, chunk_size):
            yield b"not wheat"

    monkeypatch.delenv("BENCH_DATA", raising=False)
    monkeypatch.setattr(requests, "get", lambda *args, **kwargs: Answer())
    with pytest.raises(BenchError, match="has not the sha256"):
        make_dataset(ENTRIES["wheat"], name="wheat", folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not [f for f in cache.rglob("*") if f.is_file()]


def test_an_own_file_with_another_hash_is_never_used(tmp_path, monkeypatch):
    (tmp_path / "wheat").mkdir()
    (tmp_path / "wheat/wheat.RData").write_bytes(b"not wheat")
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    with pytest.raises(BenchError, match=hashlib.sha256(b"not wheat").hexdigest()):
        make_dataset(ENTRIES["wheat"], name="wheat", folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@needs_wheat
def test_a_file_in_the_cache_needs_no_network(tmp_path, cache, monkeypatch):
    entry = ENTRIES["wheat"]
    cache.mkdir(parents=True)
    (cache / f"{entry['sha256'][:12]}-wheat.RData").write_bytes((DATA / entry["file"]).read_bytes())
    monkeypatch.delenv("BENCH_DATA")
    monkeypatch.setattr(requests, "get", lambda *args, **kwargs: pytest.fail("asked the network"))
    assert make_dataset(entry, name="wheat", folder=tmp_path / "out").n_samples == 599


def test_addresses_are_pinned_to_a_commit():
    for name in ("wheat", "mice"):
        commit = ENTRIES[name]["url"].split("/")[5]
        assert len(commit) == 40
        assert set(commit) <= set("0123456789abcdef")
