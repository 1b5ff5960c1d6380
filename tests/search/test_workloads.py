import re

import pytest

from autotune import paths
from autotune.errors import UsageError
from autotune.problem import Problem
from autotune.search import workloads

GROUP = {
    "op": "quantized_matmul",
    "dtype": "f16",
    "quantization": "affine-b4-g64",
    "m": "[1, 2]",
    "shapes": "[{label: small, n: 128, k: 64}]",
}


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text, "utf-8")
        return str(path)

    return write


def group(**changes):
    """A file with one group; a value of None leaves its key out."""
    lines = [f"    {key}: {value}" for key, value in {**GROUP, **changes}.items() if value is not None]
    return "name: mine\ngroups:\n  -\n" + "\n".join(lines) + "\n"


def refused(name):
    with pytest.raises(UsageError) as raised:
        workloads.load(name)
    assert "\n" not in str(raised.value)
    return str(raised.value)


class TestShipped:
    @pytest.mark.parametrize("name", workloads.names())
    def test_loads(self, name):
        workload = workloads.load(name)
        assert workload.name == name
        assert workload.description.strip()
        assert len(set(workload.problems)) == len(workload.problems)
        for problem in workload.problems:
            assert Problem.parse(str(problem)) == problem
        for n, k in workload.labels:
            assert workload.labels[n, k]
            assert any((problem.n, problem.k) == (n, k) for problem in workload.problems)

    def test_names_are_those_of_the_files(self):
        assert workloads.names() == ["gemma-3", "llama-3", "quantizations", "quick", "qwen-3", "small-batch", "split-k"]

    def test_small_batch_has_both_sides_of_every_reported_step(self):
        workload = workloads.load("small-batch")
        shapes = [(5120, 5120), (1024, 5120), (13824, 5120), (5120, 13824)]
        steps = [24, 25, 31, 32, 33, 34, 48, 63, 64, 65, 66, 96, 128, 129, 160, 256, 512]
        assert list(workload.labels) == shapes
        assert [(problem.n, problem.k, problem.m) for problem in workload.problems] == [
            (n, k, m) for n, k in shapes for m in [*range(1, 17), *steps]
        ]
        assert {str(problem.family).split(" ", 3)[3] for problem in workload.problems} == {"f16 affine-b4-g64 nt"}

    def test_quick(self):
        assert [str(problem) for problem in workloads.load("quick").problems] == [
            "quantized_matmul M=1 N=512 K=512 f16 affine-b4-g64 nt",
            "quantized_matmul M=3 N=512 K=512 f16 affine-b4-g64 nt",
            "quantized_matmul M=6 N=512 K=512 f16 affine-b4-g64 nt",
            "quantized_matmul M=1 N=1024 K=512 bf16 affine-b4-g64 nt",
            "quantized_matmul M=4 N=1024 K=512 bf16 affine-b4-g64 nt",
            "matmul M=3 N=1024 K=1024 f16 nt",
        ]

    def test_split_k_has_chains_that_feed(self):
        workload = workloads.load("split-k")
        assert len(workload.chains) == 32
        for chain in workload.chains:
            first, second = chain.products
            rows, columns = (int(size) for size in chain.label.split("x"))
            # (MxK @ KxM) @ MxK
            assert (first.m, first.n, first.k) == (rows, rows, columns)
            assert (second.m, second.n, second.k) == (rows, columns, rows)
            assert {first, second} <= set(workload.problems)

    @pytest.mark.parametrize(("name", "shapes"), [("llama-3", 15), ("gemma-3", 18), ("qwen-3", 16)])
    def test_models_have_each_layer_from_decoding_to_prefill(self, name, shapes):
        problems = workloads.load(name).problems
        sizes = [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 32, 64, 128, 512]
        families = dict.fromkeys(problem.family for problem in problems)
        assert len(families) == shapes
        for family in families:
            assert [problem.m for problem in problems if problem.family == family] == sizes


class TestUsersFile:
    def test_groups_and_chains(self, write):
        workload = workloads.load(
            write("""
name: mine
description: Layers of mine.
sources: [https://example.com]
groups:
  - {op: matmul, dtype: f32, layout: nn, m: [2, 1], shapes: [{label: head, n: 8, k: 4}, {n: 16, k: 4}]}
  - {op: addmm, dtype: f16, m: [1], shapes: [{n: 8, k: 4}]}
  - {op: addmm, dtype: f16, m: [1], epilogue: full, shapes: [{n: 8, k: 4}]}
  - {op: matmul, dtype: f32, m: [1], batch: 3, shapes: [{n: 8, k: 4}]}
chains:
  - {label: there and back, products: [matmul M=2 N=8 K=4 f32 nn, matmul M=2 N=4 K=8 f32 nn]}
""")
        )
        assert [str(problem) for problem in workload.problems] == [
            "matmul M=2 N=8 K=4 f32 nn",
            "matmul M=1 N=8 K=4 f32 nn",
            "matmul M=2 N=16 K=4 f32 nn",
            "matmul M=1 N=16 K=4 f32 nn",
            "addmm M=1 N=8 K=4 f16 nt row",
            "addmm M=1 N=8 K=4 f16 nt full",
            "matmul M=1 N=8 K=4 B=3 f32 nt",
            "matmul M=2 N=4 K=8 f32 nn",
        ]
        assert (workload.name, workload.description) == ("mine", "Layers of mine.")
        assert [(chain.label, len(chain.products)) for chain in workload.chains] == [("there and back", 2)]
        assert workload.labels[16, 4] == ""

    def test_yml_is_a_file_too(self, write, tmp_path):
        path = tmp_path / "other.yml"
        path.write_text(group(), "utf-8")
        assert len(workloads.load(str(path)).problems) == 2

    def test_may_start_at_home(self, write, monkeypatch, tmp_path):
        write(group())
        monkeypatch.setenv("HOME", str(tmp_path))
        assert workloads.load("~/mine.yaml").name == "mine"

    def test_repeats_count_once(self, write):
        assert len(workloads.load(write(group(m="[1, 1, 2]"))).problems) == 2


class TestSlips:
    def test_a_name_that_is_not_there(self):
        assert refused("small-batches") == "unknown workload 'small-batches': did you mean small-batch?"

    def test_a_missing_file(self, tmp_path):
        path = tmp_path / "none.yaml"
        assert refused(str(path)) == f"{path} cannot be read (No such file or directory): check the path"

    def test_invalid_yaml_has_its_line(self, write):
        assert re.search(
            r"mine\.yaml, line 3: no valid YAML", refused(write("name: mine\ngroups:\n  - {op: matmul: f16}\n"))
        )

    def test_no_mapping(self, write):
        assert "the file must hold a mapping" in refused(write("- a\n- b\n"))

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("name: mine\ngroup: []\n", "unknown key in mine.yaml: 'group': did you mean groups?"),
            (group(dtypes="f16"), "unknown key in mine.yaml, group 1: 'dtypes': did you mean dtype?"),
            (
                group(shapes="[{n: 128, k: 64, lable: x}]"),
                "unknown key in mine.yaml, group 1, shape: 'lable': did you mean label?",
            ),
            (
                "name: mine\ngroups: []\nchains: [{label: a, product: []}]\n",
                "unknown key in mine.yaml, chain 1: 'product': did you mean products?",
            ),
            ("groups: []\n", "mine.yaml lacks 'name'"),
            ("name: mine\n", "mine.yaml lacks 'groups'"),
            (group(op=None), "mine.yaml, group 1 lacks 'op'"),
            (group(m=None), "mine.yaml, group 1 lacks 'm'"),
            (group(shapes="[{n: 128}]"), "mine.yaml, group 1, shape lacks 'k'"),
            (group(shapes="[128x64]"), "mine.yaml, group 1, shape must be a mapping"),
            ("name: mine\ngroups: [matmul]\n", "mine.yaml, group 1 must be a mapping"),
            ("name: mine\ngroups: []\nchains: [{label: a}]\n", "mine.yaml, chain 1 lacks 'products'"),
            ("name: mine\ngroups: []\n", "mine.yaml has no problems: give it groups or chains"),
        ],
    )
    def test_a_key(self, write, text, said):
        assert refused(write(text)).startswith(said)

    @pytest.mark.parametrize("m", ["4", "[0]", "[1, 0]", "[-1]", "[1.5]", '["1"]', "null", "{1: 2}", "[true]"])
    def test_m(self, write, m):
        assert "mine.yaml, group 1: m must be a list of numbers from 1 up" in refused(write(group(m=m)))

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"op": "matmull"}, "mine.yaml, group 1: unknown op 'matmull': did you mean matmul"),
            ({"dtype": "f64"}, "mine.yaml, group 1: unknown dtype 'f64'"),
            ({"dtype": "16"}, "mine.yaml, group 1: unknown dtype"),
            ({"layout": "tn"}, "mine.yaml, group 1: a quantized product has no transposed A"),
            ({"quantization": "affine-b7-g64"}, "mine.yaml, group 1: affine has no b7-g64"),
            ({"quantization": "4 bits"}, "mine.yaml, group 1: quantization '4 bits' is not MODE-bBITS-gGROUP"),
            ({"quantization": None}, "mine.yaml, group 1: quantized_matmul needs a quantization"),
            ({"shapes": "[{n: 128, k: 100}]"}, "mine.yaml, group 1: K=100 is no multiple of the group size 64"),
            ({"shapes": "[{n: 0, k: 64}]"}, "mine.yaml, group 1: quantized_matmul with an empty dimension"),
            ({"shapes": '[{n: "128", k: 64}]'}, "mine.yaml, group 1: sizes must be whole numbers"),
            ({"shapes": "[{n: null, k: 64}]"}, "mine.yaml, group 1: sizes must be whole numbers"),
            ({"shapes": "[{n: 128.0, k: 64}]"}, "mine.yaml, group 1: sizes must be"),
            ({"shapes": "[{n: [128], k: 64}]"}, "mine.yaml, group 1: sizes must be"),
            ({"batch": "1.5"}, "mine.yaml, group 1"),
        ],
    )
    def test_a_value(self, write, changes, said):
        assert refused(write(group(**changes))).startswith(said)

    @pytest.mark.parametrize(
        "text",
        [
            group(shapes="null"),
            group(shapes="128"),
            "name: mine\ngroups: 3\n",
            "name: mine\ngroups: []\nchains: 3\n",
            "name: mine\ngroups: []\nchains: [{label: a, products: 3}]\n",
            "name: mine\ngroups: []\nchains: [{label: a, products: [3]}]\n",
            "name: mine\ngroups: []\nchains: [{label: a, products: []}]\n",
        ],
        ids=["shapes null", "shapes 128", "groups 3", "chains 3", "products 3", "a product 3", "no products"],
    )
    def test_something_else_than_a_list(self, write, text):
        assert "mine.yaml" in refused(write(text))

    def test_the_group_is_counted(self, write):
        second = group().replace("name: mine\ngroups:\n", "").replace("dtype", "dtipe")
        assert "unknown key in mine.yaml, group 2: 'dtipe'" in refused(write(group() + second))

    @pytest.mark.parametrize(
        "second",
        ["matmul M=2 N=4 K=9 f32 nn", "matmul M=3 N=4 K=8 f32 nn", "matmul M=2 N=4 K=8 B=2 f32 nn"],
        ids=["another K", "another M", "a batch"],
    )
    def test_a_chain_that_does_not_feed(self, write, second):
        text = f"name: mine\ngroups: []\nchains: [{{label: a, products: [matmul M=2 N=8 K=4 f32 nn, {second}]}}]\n"
        assert refused(write(text)) == (
            f"mine.yaml, chain 1: matmul M=2 N=8 K=4 f32 nn does not feed {second}: "
            "M and N of one must be M and K of the next"
        )

    def test_a_product_of_a_chain(self, write):
        said = refused(write("name: mine\ngroups: []\nchains: [{label: a, products: [matmul M=2 N=8 f32]}]\n"))
        assert said.startswith("mine.yaml, chain 1: problem 'matmul M=2 N=8 f32' lacks K")


def test_the_shipped_folder_is_read_when_asked(monkeypatch, tmp_path):
    (tmp_path / "workloads").mkdir()
    (tmp_path / "workloads" / "only.yaml").write_text(group(), "utf-8")
    monkeypatch.setattr(paths, "configs", lambda: tmp_path)
    assert workloads.names() == ["only"]
    assert workloads.load("only").name == "mine"
