import pytest

from autotune.errors import USAGE, UsageError
from autotune.yamlfile import check_keys, load


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "mine.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def refused(path):
    with pytest.raises(UsageError) as raised:
        load(path)
    assert raised.value.exit_code == USAGE
    assert "\n" not in str(raised.value)
    return str(raised.value)


class TestLoad:
    def test_gives_the_mapping(self, write):
        assert load(write("a: 1\nb: [x, 2.5, null]\nä: {c: yes}\n")) == {
            "a": 1,
            "b": ["x", 2.5, None],
            "ä": {"c": True},
        }

    def test_a_missing_file(self, tmp_path):
        path = tmp_path / "none.yaml"
        assert refused(path) == f"{path} cannot be read (No such file or directory): check the path"

    def test_a_folder(self, tmp_path):
        assert refused(tmp_path) == f"{tmp_path} cannot be read (Is a directory): check the path"

    def test_no_text(self, write):
        path = write(b"\xff\xfe\xff\xfe")
        assert refused(path) == f"{path} is no text: give a YAML file"

    @pytest.mark.parametrize(
        ("text", "line", "problem"),
        [
            ("a: 1\n b: 2\n", 2, "mapping values are not allowed here"),
            ("a: [1\n", 2, "expected ',' or ']', but got '<stream end>'"),
            ("a: 1\nb: {c: 2\nd: 3\n", 3, "expected ',' or '}'"),
            ("a: *nobody\n", 1, "found undefined alias 'nobody'"),
            ("a:\n\tb: 1\n", 2, "found character '\\t' that cannot start any token"),
            ("{[1]: 2}\n", 1, "found unhashable key"),
            ("a: !!python/object:os.system x\n", 1, "could not determine a constructor"),
            ("a: 1\n---\nb: 2\n", 2, "but found another document"),
        ],
    )
    def test_invalid_yaml_has_its_line(self, write, text, line, problem):
        path = write(text)
        said = refused(path)
        assert said.startswith(f"{path}, line {line}: no valid YAML (")
        assert problem in said
        assert said.endswith(": mend the file")

    def test_a_character_that_yaml_does_not_allow(self, write):
        path = write("a: 1\nb: \x07\n")
        assert refused(path).startswith(f"{path}")

    @pytest.mark.parametrize("text", ["a: 2024-13-45\n", "a: !!int x\n"], ids=["a date", "an int"])
    def test_a_value_that_yaml_cannot_make(self, write, text):
        path = write(text)
        assert refused(path).startswith(f"{path}")

    @pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n", "text\n", "5\n"])
    def test_anything_but_a_mapping(self, write, text):
        path = write(text)
        assert refused(path).startswith(f"{path}: the file must hold a mapping")


class TestCheckKeys:
    def refused(self, content, known=("name", "groups", "chains"), needed=()):
        with pytest.raises(UsageError) as raised:
            check_keys("mine.yaml, group 2", content, known, needed)
        return str(raised.value)

    def test_known_and_needed_keys_are_fine(self):
        check_keys("here", {"name": 1, "groups": None}, ("name", "groups", "chains"), ("name", "groups"))
        check_keys("here", {}, ("name",))

    def test_the_nearest_key_is_named(self):
        assert self.refused({"group": 1}) == "unknown key in mine.yaml, group 2: 'group': did you mean groups?"

    def test_all_where_none_is_near(self):
        assert self.refused({"zzz": 1}).endswith("'zzz': known: chains, groups, name")

    def test_a_key_that_is_no_text(self):
        assert self.refused({3: 1}).startswith("unknown key in mine.yaml, group 2: '3'")

    def test_a_missing_key(self):
        assert self.refused({"name": 1}, needed=("name", "groups")) == (
            "mine.yaml, group 2 lacks 'groups': keys: name, groups, chains"
        )

    @pytest.mark.parametrize("content", [None, [], "name", 4])
    def test_no_mapping(self, content):
        assert self.refused(content) == "mine.yaml, group 2 must be a mapping: with keys name, groups, chains"
