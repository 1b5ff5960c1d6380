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
