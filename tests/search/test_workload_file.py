"""Problems added to files: what is new comes in, and what people wrote stays."""

import fcntl
import subprocess
import sys

import pytest

from autotune.errors import AutotuneError, UsageError
from autotune.problem import Problem
from autotune.search import workload_file, workloads

QUANTIZED = "quantized_matmul M={} N=128 K=64 bf16 affine-b4-g64 nt"
OTHERS = (
    "matmul M=2 N=8 K=16 B=6 f32 nt",
    "addmm M=1 N=64 K=64 f16 nt row",
    "addmm M=3 N=64 K=64 f16 nt full",
    "quantized_matmul M=4 N=64 K=96 f16 mxfp4-b4-g32 nn",
)


def problems(*texts):
    return [Problem.parse(text) for text in texts]


def calls(*texts):
    return {problem: number for number, problem in enumerate(problems(*texts), 1)}


def added(path, *texts):
    return workload_file.add(path, calls(*texts), "What it is.")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "mine.yaml"


class TestNew:
    def test_every_kind_of_problem_is_read_back(self, file):
        texts = [QUANTIZED.format(m) for m in (1, 8)] + list(OTHERS)
        assert added(file, *texts) == len(texts)
        found = workloads.load(str(file))
        assert set(found.problems) == set(problems(*texts))
        assert (found.name, found.description) == ("mine", "What it is.")

    def test_shapes_with_the_same_m_are_one_group_in_order(self, file):
        added(
            file,
            QUANTIZED.format(8),
            QUANTIZED.format(1),
            *(f"matmul M={m} N={n} K=64 f32 nt" for n in (32, 16) for m in (2, 1)),
        )
        assert file.read_text() == (
            'name: "mine"\ndescription: "What it is."\ngroups:\n'
            "  - op: matmul\n    dtype: f32\n    layout: nt\n    m: [1, 2]\n    shapes:\n"
            "      - {n: 16, k: 64}  # calls: 6 at M=1, 5 at M=2\n"
            "      - {n: 32, k: 64}  # calls: 4 at M=1, 3 at M=2\n"
            "  - op: quantized_matmul\n    dtype: bf16\n    quantization: affine-b4-g64\n    layout: nt\n"
            "    m: [1, 8]\n    shapes:\n"
            "      - {n: 128, k: 64}  # calls: 2 at M=1, 1 at M=8\n"
        )

    def test_no_problems_make_no_file(self, file):
        assert added(file) == 0
        assert not file.exists()

    @pytest.mark.parametrize(
        "name", ['a: "b" # c\n', "a\\b\t\x7f\x85\u2028\ufffe", "größe 😀", "\udcff \U0001f600 \U0010ffff"]
    )
    def test_a_program_of_any_name(self, name, file):
        workload_file.add(file, calls(*OTHERS), name)
        assert workloads.load(str(file)).description == name
        assert "😀" not in name or "😀" in file.read_text("utf-8")


WRITTEN = """\
# My own file.
name: mine
{groups}
# what follows feeds one another
chains:
  - label: a pair  # of products
    products: ["matmul M=8 N=8 K=16 bf16 nn", "matmul M=8 N=16 K=8 bf16 nn"]
"""
GROUP = "op: matmul, dtype: f32, layout: nn, m: [1, 2], shapes: [{label: head, n: 16, k: 64}]"
AS_LIST = f"groups:\n  - {{{GROUP}}}  # by hand\n"


class TestThere:
    def write(self, file, groups):
        file.write_text(WRITTEN.format(groups=groups))
        return workloads.load(str(file))

    @pytest.mark.parametrize("groups", [AS_LIST, AS_LIST.replace("\n  -", "\n-")], ids=["indented", "flush"])
    def test_text_stays_and_groups_follow_the_last(self, file, groups):
        before = self.write(file, groups)
        text = file.read_text()
        assert added(file, *OTHERS, "matmul M=3 N=16 K=64 f32 nt") == 5
        after = file.read_text()
        assert [line for line in after.splitlines() if line in text.splitlines()] == text.splitlines()
        assert after.rstrip().endswith(text[text.index("# what follows") :].rstrip()), "what is said of the chains is"
        found = workloads.load(str(file))
        assert set(found.problems) == {*before.problems, *problems(*OTHERS, "matmul M=3 N=16 K=64 f32 nt")}
        assert (found.chains, found.labels[16, 64]) == (before.chains, "")

    @pytest.mark.parametrize(
        "last",
        [
            "      - n: 16\n        k: 64\n",
            "      - {n: 16,\n         k: 64}\n",
            "      - k: 64\n        n: 16  # of it\n",
        ],
    )
    @pytest.mark.parametrize("after", ["", "\n\n", "      # - {n: 8, k: 8}\n", "      # of it\n\n# of what follows\n"])
    def test_however_the_last_group_ends(self, last, after, file):
        text = f"groups:\n  - op: matmul\n    dtype: f32\n    m: [1]\n    shapes:\n{last}"
        file.write_text(f"{text}{after}name: mine\n")
        added(file, OTHERS[0])
        own, _, rest = after.partition("\n") if "# " in after else ("", "", after)
        new = file.read_text()
        assert new.startswith(text + own)
        assert new.endswith(rest + "name: mine\n")
        assert len(workloads.load(str(file)).problems) == 2

    def test_groups_at_the_end_without_a_newline(self, file):
        file.write_text("name: a\n" + AS_LIST.rstrip())
        added(file, *OTHERS)
        assert file.read_text().startswith("name: a\n" + AS_LIST)
        assert len(workloads.load(str(file)).problems) == 2 + len(OTHERS)

    @pytest.mark.parametrize("groups", ["groups: []", "groups:", f"groups: [{{{GROUP}}}]"])
    def test_groups_that_are_not_written_as_a_list_are_written_anew(self, file, groups):
        before = self.write(file, groups)
        added(file, *OTHERS)
        found = workloads.load(str(file))
        assert set(found.problems) == {*before.problems, *problems(*OTHERS)}
        assert (found.name, found.chains) == (before.name, before.chains)
        assert before.labels.items() <= found.labels.items()

    def test_what_is_there_is_not_added_and_nothing_is_written(self, file):
        """Nor is what stands there in the layout that a recorder cannot know."""
        self.write(file, AS_LIST)
        stat = file.stat()
        assert added(file, "matmul M=2 N=16 K=64 f32 nt", "matmul M=8 N=8 K=16 bf16 nn") == 0
        assert (file.stat().st_mtime_ns, file.stat().st_ino) == (stat.st_mtime_ns, stat.st_ino)

    def test_one_m_more_is_a_group_of_its_own(self, file):
        added(file, QUANTIZED.format(1), QUANTIZED.format(2))
        assert added(file, QUANTIZED.format(2), QUANTIZED.format(3)) == 1
        assert list(workloads.load(str(file)).problems) == problems(*(QUANTIZED.format(m) for m in (1, 2, 3)))
        assert "calls: 1 at M=1, 2 at M=2\n" in file.read_text()

    def test_a_link_stays_one(self, file, tmp_path):
        added(file, OTHERS[0])
        link = tmp_path / "link.yaml"
        link.symlink_to(file)
        added(link, OTHERS[1])
        assert link.is_symlink()
        assert len(workloads.load(str(file)).problems) == 2

    def test_what_cannot_be_written_leaves_the_file(self, file, monkeypatch):
        added(file, OTHERS[0])
        text = file.read_text()

        def full(old, new):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.replace", full)
        with pytest.raises(AutotuneError, match="No space left"):
            added(file, OTHERS[1])
        assert file.read_text() == text
        assert list(file.parent.iterdir()) == [file]

    def test_line_endings_and_mode_stay(self, file):
        before = f"# My own.\nname: mine\n{AS_LIST}# the end".replace("\n", "\r\n")
        file.write_bytes(before.encode())
        file.chmod(0o664)
        added(file, OTHERS[0])
        after = file.read_bytes().decode()
        assert after.startswith(before.removesuffix("# the end"))
        assert after.endswith("\r\n# the end")
        assert after.count("\n") == after.count("\r\n") > before.count("\n")
        assert file.stat().st_mode & 0o777 == 0o664

    def test_line_endings_stay_in_what_is_written_anew(self, file):
        file.write_bytes(f"name: mine\r\ngroups: [{{{GROUP}}}]\r\n".encode())
        added(file, OTHERS[0])
        after = file.read_bytes().decode()
        assert after.count("\n") == after.count("\r\n") > 2

    @pytest.mark.parametrize(
        "last",
        [
            "      *s  # of the last\n",
            " *s\n",
            "\n    - *one  # again\n    - {n: 8, k: 8}\n",
            "\n    - {n: 8, k: 8}\n    - *one  # again\n",
        ],
    )
    def test_a_last_group_that_ends_in_an_alias(self, last, file):
        text = (
            "name: mine\ngroups:\n"
            "  - op: matmul\n    dtype: f32\n    m: [1]\n    shapes: &s\n    - &one {n: 16, k: 64}  # the one\n"
            f"  - op: matmul\n    dtype: f16\n    m: [2]\n    shapes:{last}"
        )
        file.write_text(f"{text}\n# of what follows\ndescription: last\n")
        before = set(workloads.load(str(file)).problems)
        added(file, OTHERS[0])
        new = file.read_text()
        assert new.startswith(text + "  - op: matmul\n")
        assert new.endswith("\n\n# of what follows\ndescription: last\n")
        assert set(workloads.load(str(file)).problems) == {*before, *problems(OTHERS[0])}


IN_STEPS = """
import sys, types
from pathlib import Path
from autotune.problem import Problem
from autotune.search import workload_file
def step(said):
    print(said, flush=True)
    sys.stdin.readline()
put = workload_file._put
workload_file._put = lambda path, text: (step("has read"), put(path, text))
workload_file.time = types.SimpleNamespace(sleep=lambda seconds: step("waits"), monotonic=lambda: 0)
workload_file.add(Path(sys.argv[1]), {Problem.parse(sys.argv[2]): 1}, "")
"""


class TestTwoAtOnce:
    def adding(self, file, text):
        """A process that adds the problem, and goes on by one step for each line that it is given."""
        words = [sys.executable, "-c", IN_STEPS, str(file), text]
        return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @pytest.mark.parametrize("there", [True, False])
    def test_nothing_is_lost(self, there, file):
        if there:
            added(file, OTHERS[2])
        with self.adding(file, OTHERS[0]) as one, self.adding(file, OTHERS[1]) as other:
            said = {each.stdout.readline().strip(): each for each in (one, other)}
            said.get("has read", one).communicate("\n", timeout=60)
            said.get("waits", other).communicate("\n\n", timeout=60)
        assert set(said) == {"has read", "waits"}
        assert set(workloads.load(str(file)).problems) == set(problems(*OTHERS[: 2 + there]))
        assert list(file.parent.iterdir()) == [file]

    def test_who_never_ends_is_not_waited_for_without_end(self, file, monkeypatch):
        monkeypatch.setattr(workload_file, "_PATIENCE", 0)
        with workload_file._locked(file), pytest.raises(AutotuneError, match="another process keeps"):
            added(file, OTHERS[0])
        assert added(file, OTHERS[0]) == 1

    def test_a_lock_that_has_gone_with_its_holder_is_none(self, file, monkeypatch):
        """Who has opened it before it went would share the file with who opens it anew."""
        lock, locking, gone = file.with_name(".mine.yaml.lock"), fcntl.flock, []

        def late(opened, how):
            if not gone:
                gone.append(lock.unlink())
            locking(opened, how)

        monkeypatch.setattr("fcntl.flock", late)
        monkeypatch.setattr(workload_file.time, "sleep", lambda seconds: None)
        with workload_file._locked(file):
            assert lock.exists()

    def test_a_file_system_without_locks_does_without(self, file, monkeypatch):
        def none(opened, how):
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr("fcntl.flock", none)
        assert added(file, OTHERS[0]) == 1
        assert list(file.parent.iterdir()) == [file]

    def test_what_a_killed_process_left_is_no_lock(self, file):
        file.with_name(".mine.yaml.lock").write_text("")
        assert added(file, OTHERS[0]) == 1
        assert list(file.parent.iterdir()) == [file]


class TestDemand:
    def test_what_can_be_added_to(self, file, tmp_path):
        workload_file.demand(file)
        workload_file.demand(tmp_path / "mine.yml")
        added(file, *OTHERS)
        workload_file.demand(file)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "must hold a mapping"),
            ("just text", "must hold a mapping"),
            ("name: [", "no valid YAML"),
            ("name: a\n", "lacks 'groups'"),
            ("name: a\ngroups: []\nmore: 1\n", "more"),
        ],
    )
    def test_what_is_no_workload(self, text, said, file):
        file.write_text(text)
        with pytest.raises(UsageError, match=said) as raised:
            workload_file.demand(file)
        assert "\n" not in str(raised.value)
        assert "name a new file" in raised.value.remedy

    def test_other_names_and_places(self, tmp_path):
        for name in ("mine.json", "mine", "nowhere/mine.yaml"):
            with pytest.raises(UsageError):
                workload_file.demand(tmp_path / name)
