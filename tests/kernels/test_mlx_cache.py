"""What is put into MLX's folder of compiled kernels, where MLX would look for it."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import mlx.core as mx
import pytest

from autotune.kernels import mlx_cache

needs_posix = pytest.mark.skipif(os.name != "posix", reason="users and links are POSIX's")


@pytest.fixture
def looked_in(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("MLX_PTX_CACHE_DIR", str(tmp_path / "ptx"))
    return tmp_path / "ptx"


@pytest.fixture
def kept(tmp_path) -> Path:
    file = tmp_path / "kernel_0123.cubin"
    file.write_bytes(b"machine code")
    return file


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class TestFolder:
    def test_is_the_named_one(self, looked_in):
        assert mlx_cache.folder() == looked_in

    def test_an_empty_name_turns_mlxs_look_up_off(self, monkeypatch):
        monkeypatch.setenv("MLX_PTX_CACHE_DIR", "")
        assert mlx_cache.folder() is None

    @pytest.mark.parametrize("key", ["TMPDIR", "TMP", "TEMP", "TEMPDIR"])
    def test_else_lies_among_temporary_files(self, key, monkeypatch):
        for each in ("MLX_PTX_CACHE_DIR", "TMPDIR", "TMP", "TEMP", "TEMPDIR"):
            monkeypatch.delenv(each, raising=False)
        assert mlx_cache.folder() == Path("/tmp/mlx") / mx.__version__ / "ptx"
        monkeypatch.setenv(key, "/elsewhere")
        assert mlx_cache.folder() == Path("/elsewhere/mlx") / mx.__version__ / "ptx"


@needs_posix
class TestPlace:
    def test_code_is_found_by_the_name_of_its_file(self, looked_in, kept):
        assert mlx_cache.place(kept, "kernel", looked_in) == "kernel_0123"
        assert contents(looked_in) == {
            "kernel_0123_553e93901e462a6e.ptx": b"machine code",
            "kernel_0123_553e93901e462a6e.txt": b"kernel_0123\tkernel\n",
        }

    def test_code_is_not_copied(self, looked_in, kept):
        mlx_cache.place(kept, "kernel", looked_in)
        assert (looked_in / "kernel_0123_553e93901e462a6e.ptx").readlink() == kept.resolve()

    def test_what_is_there_stays(self, looked_in, kept):
        mlx_cache.place(kept, "kernel", looked_in)
        before = {path: path.lstat().st_ino for path in looked_in.iterdir()}
        mlx_cache.place(kept, "kernel", looked_in)
        assert {path: path.lstat().st_ino for path in looked_in.iterdir()} == before

    def test_what_is_wrong_is_put_right(self, looked_in, kept, tmp_path):
        mlx_cache.place(kept, "kernel", looked_in)
        right = contents(looked_in)
        for path in looked_in.iterdir():
            path.unlink()
            path.write_bytes(b"other")
        mlx_cache.place(kept, "kernel", looked_in)
        assert contents(looked_in) == right
        code = looked_in / "kernel_0123_553e93901e462a6e.ptx"
        code.unlink()
        code.symlink_to(tmp_path / "gone")
        mlx_cache.place(kept, "kernel", looked_in)
        assert contents(looked_in) == right

    def test_code_is_there_only_when_its_name_is(self, looked_in, kept, monkeypatch):
        """Another process may look at any time, and reads the name when it has found the code."""
        put = []
        replace = os.replace
        monkeypatch.setattr(mlx_cache.os, "replace", lambda *of: put.append(of[1].suffix) or replace(*of))
        mlx_cache.place(kept, "kernel", looked_in)
        assert put == [".txt", ".ptx"]

    def test_what_cannot_be_put_whole_is_not_there_at_all(self, looked_in, kept, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(mlx_cache.os, "replace", full)
        with pytest.raises(OSError, match="No space"):
            mlx_cache.place(kept, "kernel", looked_in)
        assert list(looked_in.iterdir()) == []

    def test_a_relative_file_is_found_from_anywhere(self, looked_in, kept, monkeypatch):
        monkeypatch.chdir(kept.parent)
        mlx_cache.place(Path(kept.name), "kernel", looked_in)
        assert (looked_in / "kernel_0123_553e93901e462a6e.ptx").read_bytes() == b"machine code"

    def test_code_that_is_gone_is_an_error(self, looked_in, kept):
        mlx_cache.place(kept, "kernel", looked_in)
        kept.unlink()
        with pytest.raises(FileNotFoundError):
            mlx_cache.place(kept, "kernel", looked_in)

    def test_a_file_in_the_way_is_an_error(self, looked_in, kept):
        looked_in.write_text("in the way")
        with pytest.raises(FileExistsError):
            mlx_cache.place(kept, "kernel", looked_in)


@pytest.mark.skipif(platform.system() != "Linux", reason="GNU's C++ library is Linux's")
def test_the_hash_is_the_c_libraries(tmp_path):
    """Asked of a C++ library here, where there is one."""
    source, program = tmp_path / "hash.cpp", tmp_path / "hash"
    source.write_text(
        "#include <cstdio>\n#include <functional>\n#include <string>\n"
        'int main() { printf("%zx", std::hash<std::string>{}("")); }\n'
    )
    try:
        subprocess.run(["g++", str(source), "-o", str(program)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no g++ here")
    assert subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout == mlx_cache.HASH
