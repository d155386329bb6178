"""Outputs are whole or absent."""

import hashlib
import os
import subprocess
import sys
import threading

import pytest
from full_disk import files_at_most

from genotok.atomic import atomic_directory, atomic_path, sha256_of, sole_writer
from genotok.errors import InputError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_whole(tmp_path):
    target = tmp_path / "new" / "folder" / "a.vcf.gz"
    with atomic_path(target) as path:
        path.write_text("text")
        assert not target.exists()
        assert path.parent == target.parent
        assert path.name.endswith(".vcf.gz")
        assert path.name.startswith(".")
    assert target.read_text() == "text"
    assert names(target.parent) == ["a.vcf.gz"]


def test_a_failure_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(TypeError), atomic_path(target) as path:
        path.write_bytes(b"half") + "nonsense"
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_directory_takes_the_place_of_the_old_one(tmp_path):
    target = tmp_path / "new" / "shards"
    for round_number in ("1", "2"):
        with atomic_directory(target) as folder:
            (folder / round_number).write_text(round_number)
            assert names(folder) == [round_number]
    assert names(target) == ["2"]
    assert names(target.parent) == ["shards"]


def test_a_failure_leaves_the_old_directory(tmp_path):
    target = tmp_path / "shards"
    with atomic_directory(target) as folder:
        (folder / "old").write_text("old")
    with pytest.raises(TypeError), atomic_directory(target) as folder:
        (folder / "half").write_bytes(b"half") + "nonsense"
    assert names(target) == ["old"]
    assert names(tmp_path) == ["shards"]


@pytest.mark.parametrize("atomic", [atomic_path, atomic_directory])
def test_what_a_killed_process_of_the_same_number_left_is_no_hindrance(atomic, tmp_path):
    """In a container every run has the same process number."""
    with atomic(tmp_path / "out") as path:
        temporary = path.name
        path.write_text("") if atomic is atomic_path else None
    left = tmp_path / temporary
    if atomic is atomic_path:
        left.write_text("half")
    else:
        left.mkdir()
        (left / "half").write_text("half")
    with atomic(tmp_path / "out") as path:
        (path if atomic is atomic_path else path / "whole").write_text("whole")
    assert names(tmp_path) == ["out"]
    whole = tmp_path / "out" if atomic is atomic_path else tmp_path / "out" / "whole"
    assert whole.read_text() == "whole"
    assert atomic is atomic_path or names(tmp_path / "out") == ["whole"]


@pytest.mark.parametrize("atomic", [atomic_path, atomic_directory])
@pytest.mark.parametrize("below", ["out", "deeper/out"])
def test_a_folder_that_is_a_file_is_said(atomic, below, tmp_path):
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / below
    with pytest.raises(InputError) as error, atomic(target):
        pytest.fail("the block must not run")
    assert str(error.value).startswith(f"{target}: cannot be written: ")


@pytest.mark.parametrize("atomic", [atomic_path, atomic_directory])
def test_a_full_disk_is_said(atomic, tmp_path):
    target = tmp_path / "out"
    with pytest.raises(InputError) as error, files_at_most(1 << 13), atomic(target) as path:
        (path if atomic is atomic_path else path / "part").write_bytes(bytes(1 << 14))
    assert str(error.value).startswith(f"{target}: cannot be written: ")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("atomic", "make"), [(atomic_path, "mkdir"), (atomic_directory, "touch")], ids=["file", "directory"]
)
def test_a_target_of_the_other_kind_is_said_and_stays(atomic, make, tmp_path):
    target = tmp_path / "out"
    getattr(target, make)()
    with pytest.raises(InputError, match="cannot be written"), atomic(target) as path:
        path.write_text("") if atomic is atomic_path else None
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("atomic", [atomic_path, atomic_directory])
def test_an_input_beside_the_output_is_not_blamed_on_the_output(atomic, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.fa"), atomic(tmp_path / "out"):
        (tmp_path / "absent.fa").read_text()
    assert names(tmp_path) == []


def test_relative_targets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with atomic_path("a.txt") as path:
        path.write_text("a")
    with atomic_directory("b") as folder:
        (folder / "c").write_text("c")
    assert names(tmp_path) == ["a.txt", "b"]


def test_a_symbolic_link_as_folder(tmp_path):
    (tmp_path / "real").mkdir()
    os.symlink(tmp_path / "real", tmp_path / "link")
    with atomic_path(tmp_path / "link" / "a") as path:
        path.write_text("a")
    assert names(tmp_path / "real") == ["a"]


@pytest.mark.parametrize("content", [b"", b"abc", bytes(3_000_000)])
def test_sha256(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_one_writer_at_a_time(tmp_path, capsys):
    folder, entered = tmp_path / "new" / "run", threading.Event()

    def second():
        with sole_writer(folder):
            entered.set()

    with sole_writer(folder):
        waiting = threading.Thread(target=second)
        waiting.start()
        assert not entered.wait(0.2)
    assert entered.wait(10)
    waiting.join()
    assert "another process is writing here; waiting for its end" in capsys.readouterr().err
    with sole_writer(folder), sole_writer(tmp_path / "other"):
        pass
    assert "waiting" not in capsys.readouterr().err


def test_the_hold_ends_with_a_killed_process(tmp_path):
    hold = "import sys\nfrom genotok.atomic import sole_writer\n"
    hold += "with sole_writer(sys.argv[1]):\n print('held', flush=True)\n input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    threading.Timer(0.2, holder.kill).start()
    with sole_writer(tmp_path):
        assert holder.wait(10) < 0


def test_a_folder_that_cannot_be_held_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"), sole_writer(tmp_path / "file" / "run"):
        pytest.fail("the block must not run")
