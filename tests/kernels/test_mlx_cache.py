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
        assert mlx_cache.place(kept, "kernel") == "kernel_0123"
        assert contents(looked_in) == {
            "kernel_0123_553e93901e462a6e.ptx": b"machine code",
            "kernel_0123_553e93901e462a6e.txt": b"kernel_0123\tkernel\n",
        }

    def test_code_is_not_copied(self, looked_in, kept):
        mlx_cache.place(kept, "kernel")
        assert (looked_in / "kernel_0123_553e93901e462a6e.ptx").readlink() == kept

    def test_what_is_there_stays(self, looked_in, kept):
        mlx_cache.place(kept, "kernel")
        before = {path: path.lstat().st_ino for path in looked_in.iterdir()}
        mlx_cache.place(kept, "kernel")
        assert {path: path.lstat().st_ino for path in looked_in.iterdir()} == before

    def test_what_is_wrong_is_put_right(self, looked_in, kept, tmp_path):
        mlx_cache.place(kept, "kernel")
        right = contents(looked_in)
        for path in looked_in.iterdir():
            path.unlink()
            path.write_bytes(b"other")
        mlx_cache.place(kept, "kernel")
        assert contents(looked_in) == right
        code = looked_in / "kernel_0123_553e93901e462a6e.ptx"
        code.unlink()
        code.symlink_to(tmp_path / "gone")
        mlx_cache.place(kept, "kernel")
        assert contents(looked_in) == right

    def test_another_users_folder_is_left_alone(self, looked_in, kept, monkeypatch):
        mine = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: mine + 1)
        with pytest.raises(OSError, match="another user's"):
            mlx_cache.place(kept, "kernel")
        assert list(looked_in.iterdir()) == []

    def test_a_file_in_the_way_is_an_error(self, looked_in, kept):
        looked_in.write_text("in the way")
        with pytest.raises(FileExistsError):
            mlx_cache.place(kept, "kernel")


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
