"""Files appear whole or not at all."""

import os

import pytest

from toylab.commands.parts.files import writable_folder, write_atomically
from toylab.commands.parts.refusal import BadInput


def test_a_file_is_replaced(tmp_path):
    write_atomically(tmp_path / "a", b"old")
    write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_crash_while_writing_leaves_the_old_file_alone(tmp_path, monkeypatch):
    write_atomically(tmp_path / "a", b"old")

    def crash(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_is_made(tmp_path):
    assert writable_folder(tmp_path / "a" / "b").is_dir()


def test_folders_made_on_the_way_are_removed_again(tmp_path, monkeypatch):
    def refuse(**options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(BadInput, match="Permission denied"):
        writable_folder(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())
