import os
from pathlib import Path

import pytest

from autotune import paths


@pytest.fixture
def at_home(monkeypatch, tmp_path):
    monkeypatch.delenv("AUTOTUNE_DATA")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


class TestUserData:
    def test_the_variable_wins(self, monkeypatch, tmp_path):
        monkeypatch.setenv("AUTOTUNE_DATA", str(tmp_path / "mine"))
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
        assert paths.user_data() == tmp_path / "mine"
        assert paths.user_tables() == tmp_path / "mine" / "tables"

    def test_the_variable_may_start_at_home(self, monkeypatch, at_home):
        monkeypatch.setenv("AUTOTUNE_DATA", "~/mine")
        assert paths.user_data() == at_home / "mine"

    def test_on_a_mac(self, monkeypatch, at_home):
        monkeypatch.setattr("sys.platform", "darwin")
        assert paths.user_data() == at_home / "Library" / "Application Support" / "autotune"

    def test_elsewhere(self, monkeypatch, at_home):
        monkeypatch.setattr("sys.platform", "linux")
        assert paths.user_data() == at_home / ".local" / "share" / "autotune"
        monkeypatch.setenv("XDG_DATA_HOME", str(at_home / "xdg"))
        assert paths.user_data() == at_home / "xdg" / "autotune"

    def test_asking_makes_no_folder(self, isolated):
        assert paths.user_tables() == isolated / "tables"
        assert not isolated.exists()


class TestShipped:
    def test_data_lies_beside_the_package_in_a_checkout(self, monkeypatch, tmp_path):
        monkeypatch.setattr(paths, "_PACKAGE", tmp_path / "autotune")
        assert paths.configs() == tmp_path / "configs"
        assert paths.tuned_tables() == tmp_path / "tuned_tables"

    def test_data_lies_inside_the_package_in_a_wheel(self, monkeypatch, tmp_path):
        inside = tmp_path / "autotune" / "_data"
        (inside / "configs").mkdir(parents=True)
        (inside / "tuned_tables").mkdir()
        (tmp_path / "configs").mkdir()
        monkeypatch.setattr(paths, "_PACKAGE", tmp_path / "autotune")
        assert (paths.configs(), paths.tuned_tables()) == (inside / "configs", inside / "tuned_tables")

    def test_the_configs_are_there(self):
        assert isinstance(paths.configs(), Path)
        assert list((paths.configs() / "spaces").glob("*.yaml"))
        assert list((paths.configs() / "workloads").glob("*.yaml"))


class TestPutWhole:
    def test_what_is_made_replaces_what_was_there(self, tmp_path):
        (tmp_path / "file").write_text("old")
        paths.put_whole(tmp_path / "file", lambda fresh: fresh.write_text("new"))
        assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("file", "new")]

    def test_what_was_not_made_leaves_it_as_it_was(self, tmp_path):
        (tmp_path / "file").write_text("old")

        def fails(fresh):
            fresh.write_text("half")
            raise OSError("full")

        with pytest.raises(OSError, match="full"):
            paths.put_whole(tmp_path / "file", fails)
        assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("file", "old")]

    def test_what_a_killed_process_left_does_not_stand_in_the_way(self, tmp_path):
        left = tmp_path / f".{os.getpid()}.0"
        left.mkdir()
        (left / "file").symlink_to("elsewhere")
        paths.put_whole(tmp_path / "file", lambda fresh: fresh.write_text("new"))
        assert (tmp_path / "file").read_text() == "new"
        assert not (tmp_path / "elsewhere").exists()

    def test_nobody_else_can_write_where_it_is_made(self, tmp_path):
        modes = []
        paths.put_whole(
            tmp_path / "file", lambda fresh: modes.append(fresh.parent.stat().st_mode & 0o777) or fresh.write_text("")
        )
        assert modes == [0o700]
