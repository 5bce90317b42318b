"""Files that are whole or absent, and the result document."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.record import Document, atomic_path, read_json, sha256_of, write_json, write_text


def test_a_file_takes_its_name_once_it_is_whole(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    with atomic_path(path) as tmp:
        tmp.write_text("whole")
        assert tmp.parent == path.parent
        assert tmp.suffix == path.suffix
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_has_the_permissions_of_any_other(tmp_path):
    path, other = tmp_path / "a", tmp_path / "b"
    write_text(path, "a")
    other.write_text("b")
    assert path.stat().st_mode == other.stat().st_mode


def test_an_error_while_writing_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("earlier")

    def fail():
        with atomic_path(path) as tmp:
            tmp.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_kill_9_while_writing_leaves_nothing_of_that_name(tmp_path):
    code = (
        "import os, signal, sys; from bench.record import atomic_path\n"
        "with atomic_path(sys.argv[1]) as tmp:\n"
        "    tmp.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = tmp_path / "a.json"
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -9
    assert not path.exists()
    assert all(left.name.startswith(".") for left in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "choose a writable results folder"),
        (errno.EACCES, "make the folder writable"),
        (errno.EPERM, "make the folder writable"),
    ],
)
def test_an_error_of_the_disk_is_a_sentence_with_what_to_do(tmp_path, number, advice):
    path = tmp_path / "a.txt"
    with pytest.raises(BenchError) as caught, atomic_path(path):
        raise OSError(number, os.strerror(number))
    assert str(path) in str(caught.value)
    assert os.strerror(number) in str(caught.value)
    assert advice in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_error_that_is_not_of_the_disk_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
        (tmp_path / "absent").read_bytes()
    with pytest.raises(ConnectionRefusedError), atomic_path(tmp_path / "a.txt"):
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")


def test_a_parent_that_is_a_file_is_said(tmp_path):
    (tmp_path / "results").write_text("a file")
    with pytest.raises(BenchError, match="whose parents are folders"):
        write_text(tmp_path / "results" / "raw" / "a.json", "x")
    with pytest.raises(BenchError, match="whose parents are folders"):
        write_text(tmp_path / "results" / "a.json", "x")


@pytest.mark.parametrize("deeper", ["a.txt", "raw/products/a.txt"])
def test_a_read_only_folder_is_said_with_what_to_do(read_only_folder, deeper):
    with pytest.raises(BenchError, match=r"a\.txt: cannot write .*choose a writable results folder"):
        write_text(read_only_folder / deeper, "x")


def test_a_full_disk_is_said_with_what_to_do(full_folder):
    before = sorted(full_folder.iterdir())
    with pytest.raises(BenchError, match=r"a\.txt: cannot write .*free some space"):
        write_text(full_folder / "a.txt", "x" * 10_000)
    assert sorted(full_folder.iterdir()) == before


def test_json_is_sorted_and_reads_back(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1.5, None], "a": "é"})
    assert read_json(tmp_path / "a.json") == {"a": "é", "b": [1.5, None]}
    assert list(json.loads((tmp_path / "a.json").read_text())) == ["a", "b"]


def test_json_with_nan_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b'{"a": 1', b"", b"\xff\xfe\x00"])
def test_a_damaged_json_file_is_said_with_what_to_do(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(BenchError, match=r"a\.json: not a JSON document .*delete it and run again"):
        read_json(path)


def test_an_absent_json_file_is_said(tmp_path):
    with pytest.raises(BenchError, match="no such file"):
        read_json(tmp_path / "a.json")


def test_the_hash_depends_on_contents_and_not_on_the_order_given(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("1")
    b.write_text("2")
    first = sha256_of([a, b])
    assert sha256_of([b, a]) == first
    b.write_text("3")
    assert sha256_of([a, b]) != first


def written(doc: Document, folder: Path) -> dict:
    doc.write(folder / "doc.json")
    return read_json(folder / "doc.json")


def test_a_document_keeps_every_observation_with_its_place(tmp_path):
    doc = Document(identity={"kernel": "x"}, provenance={"host": "here"})
    doc.add("product_time", 0.25, "s", k=10, direction="matmul", repeat=0)
    doc.add("product_time", 0.5, "s", k=10, direction="matmul", repeat=1)
    read = written(doc, tmp_path)
    assert read["status"] == "ok"
    assert read["reason"] is None
    assert [row["value"] for row in read["rows"]] == [0.25, 0.5]
    assert read["rows"][1] == {
        "metric": "product_time", "value": 0.5, "unit": "s", "k": 10, "direction": "matmul", "repeat": 1,
    }  # fmt: skip


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_is_written_as_null(tmp_path, value):
    doc = Document(identity={})
    doc.add("rel_error", value, "1")
    doc.add("rel_error", 0.5, "1")
    assert [row["value"] for row in written(doc, tmp_path)["rows"]] == [None, 0.5]


@pytest.mark.parametrize("status", ["refused", "wrong", "oom", "timeout"])
def test_a_document_ends_with_a_status_and_a_reason(tmp_path, status):
    read = written(Document(identity={}).end(status, "because"), tmp_path)
    assert (read["status"], read["reason"]) == (status, "because")


def test_refuse_and_wrong_name_their_status():
    assert Document(identity={}).refuse("no GPU").status == "refused"
    assert Document(identity={}).wrong("3 differ").status == "wrong"


def test_an_unknown_unit_or_status_is_a_mistake_of_the_program():
    with pytest.raises(ValueError, match="unit 'ms'"):
        Document(identity={}).add("product_time", 1.0, "ms")
    with pytest.raises(ValueError, match="status 'failed'"):
        Document(identity={}).end("failed", "")
