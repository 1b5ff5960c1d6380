import itertools

import pytest
import yaml

from autotune import kernels, paths
from autotune.errors import UsageError
from autotune.kernels import STOCK, Route
from autotune.problem import Problem
from autotune.search import space

BACKENDS = ("metal", "cuda", "cpu")
PROBLEMS = [
    Problem.parse(text)
    for text in (
        "quantized_matmul M=1 N=1024 K=5120 f16 affine-b4-g64 nt",
        "quantized_matmul M=5 N=13824 K=5120 f16 affine-b4-g64 nt",
        "quantized_matmul M=33 N=512 K=2560 bf16 affine-b3-g32 nt",
        "quantized_matmul M=512 N=1024 K=1024 f32 affine-b8-g128 nn",
        "quantized_matmul M=6 N=256 K=256 bf16 mxfp4-b4-g32 nt",
        "matmul M=7 N=512 K=512 f32 nt",
        "matmul M=128 N=128 K=4096 bf16 nn",
        "matmul M=3 N=64 K=64 B=4 f16 nt",
        "addmm M=100 N=96 K=640 f16 nt full",
        "addmm M=1 N=1 K=1 f32 nn row",
    )
]


@pytest.fixture
def declare(monkeypatch, tmp_path):
    """Writes a file of spaces that stands for the project's; a dict is dumped as YAML."""
    files = sorted((paths.configs() / "spaces").glob("*.yaml"))
    shipped = {name: each for file in files for name, each in yaml.safe_load(file.read_text("utf-8")).items()}
    folder = tmp_path / "configs" / "spaces"
    folder.mkdir(parents=True)
    monkeypatch.setattr("autotune.paths.configs", lambda: folder.parent)

    def write(changes=None, without=(), name="some.yaml"):
        content = {key: value for key, value in {**shipped, **(changes or {})}.items() if key not in without}
        (folder / name).write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
        space.spaces.cache_clear()

    space.spaces.cache_clear()
    yield write
    space.spaces.cache_clear()


def multiples(routes):
    return [route.config["multiple"] for route in routes if route.kernel == "pad" and route.config["fill"] == "zeros"]


class TestLegalSet:
    @pytest.mark.parametrize("backend", BACKENDS)
    @pytest.mark.parametrize("problem", PROBLEMS, ids=str)
    def test_every_route_is_legal_and_stands_once(self, problem, backend):
        routes = space.legal_routes(problem, backend)
        assert routes[0] == STOCK
        assert len(set(routes)) == len(routes)
        assert all(kernels.accepts(route, problem) for route in routes)
        work = [(route.kernel, kernels.kernel(route.kernel).same(problem, route.config)) for route in routes]
        assert len(set(work)) == len(work)

    @pytest.mark.parametrize("backend", BACKENDS)
    @pytest.mark.parametrize("problem", PROBLEMS, ids=str)
    def test_no_work_is_left_out(self, problem, backend):
        work = {
            (route.kernel, kernels.kernel(route.kernel).same(problem, route.config))
            for route in space.legal_routes(problem, backend)
        }
        for kernel in kernels.KERNELS.values():
            for values in itertools.product(*space.candidates(kernel, backend)):
                if not kernel.runs_on(backend, nax=False) or backend not in kernel.offered:
                    break
                config = dict(zip(kernel.parameters, values))
                if kernel.accepts(problem, config):
                    assert (kernel.name, kernel.same(problem, config)) in work

    def test_constraints_of_a_kernel_never_reject_what_is_legal(self):
        for problem, kernel in itertools.product(PROBLEMS, kernels.KERNELS.values()):
            constraints = list(kernel.constraints(problem))
            for route in space.legal_set(kernel, problem, "metal") if constraints else ():
                assert all(check(*(route.config[name] for name in names)) for names, check in constraints)

    def test_constraints_of_a_kernel_thin_out_before_it_is_asked(self, monkeypatch):
        kernel, problem = kernels.kernel("qmv"), PROBLEMS[1]
        before, asked = space.legal_set(kernel, problem, "metal"), []
        constraint = (("simdgroups", "split"), lambda simdgroups, split: simdgroups % split == 0)
        monkeypatch.setattr(type(kernel), "constraints", lambda self, problem: [constraint])
        legal = type(kernel).legal
        monkeypatch.setattr(type(kernel), "legal", lambda *args: asked.append(args[2]) or legal(*args))
        space._legal.cache_clear()
        assert space.legal_set(kernel, problem, "metal") == before
        assert 0 < len(asked) < space.raw_size(kernel, "metal")
        assert all(config["simdgroups"] % config["split"] == 0 for config in asked)
        space._legal.cache_clear()

    def test_is_the_same_every_time(self):
        for problem in PROBLEMS:
            assert space.legal_routes(problem, "metal") == space.legal_routes(problem, "metal")

    def test_routes_survive_being_written(self):
        for problem in PROBLEMS:
            for route in space.legal_routes(problem, "metal"):
                assert Route.parse(str(route)) == route

    def test_of_equal_work_the_largest_multiple_stays(self):
        # Five rows become eight with a multiple of 4 and of 8 alike.
        assert multiples(space.legal_routes(PROBLEMS[1], "cpu")) == [8, 16, 32]

    def test_has_more_than_stock_for_a_problem_that_matters(self):
        names = {route.kernel for route in space.legal_routes(PROBLEMS[1], "cuda")}
        assert names == {"stock", "pad", "chunk", "dequantize", "fold_k", "upcast", "qmv", "qmv_mma"}

    @pytest.mark.parametrize(("name", "backends"), [("qmv", ("metal", "cuda")), ("qmm", ("metal",))])
    def test_our_kernels_are_offered_where_they_may_win(self, name, backends):
        for backend in BACKENDS:
            names = {route.kernel for route in space.legal_routes(PROBLEMS[1], backend)}
            assert (name in names) == (backend in backends)

    def test_what_is_not_offered_can_be_asked_for(self):
        names = {route.kernel for route in space.legal_routes(PROBLEMS[1], "cuda", ["qmm"])}
        assert names == {"stock", "qmm"}

    def test_kernels_for_the_neural_accelerators_need_them(self):
        for problem in PROBLEMS:
            plain, nax = (space.legal_routes(problem, "metal", nax=nax) for nax in (False, True))
            assert not any(kernels.kernel(route.kernel).nax for route in plain)
            assert set(plain) == {route for route in nax if not kernels.kernel(route.kernel).nax}

    def test_what_is_dealt_out_is_small(self):
        for problem in PROBLEMS:
            assert len(space.legal_routes(problem, "metal", space.dealt_out())) < 60


class TestOnly:
    def test_keeps_the_kernel_and_stock(self):
        routes = space.legal_routes(PROBLEMS[1], "cpu", only=["pad"])
        assert routes[0] == STOCK
        assert {route.kernel for route in routes[1:]} == {"pad"}

    def test_changes_nothing_about_the_routes_that_stay(self):
        every = space.legal_routes(PROBLEMS[1], "metal")
        kept = space.legal_routes(PROBLEMS[1], "metal", only=("chunk", "upcast"))
        assert kept == [route for route in every if route.kernel in ("stock", "chunk", "upcast")]

    def test_stock_alone(self):
        assert space.legal_routes(PROBLEMS[1], "cpu", only=["stock"]) == [STOCK]

    def test_a_kernel_of_another_op(self):
        assert space.legal_routes(Problem.parse("matmul M=4 N=64 K=64 f16 nt"), "cpu", only=["dequantize"]) == [STOCK]


class TestBackends:
    def test_metal_adds_values_in_order(self):
        plain = space.candidates(kernels.kernel("pad"), "cuda")[0]
        metal = space.candidates(kernels.kernel("pad"), "metal")[0]
        assert plain == [4, 8, 16, 32, 64, 128]
        assert set(metal) > set(plain)
        assert metal == sorted(set(metal))

    def test_they_reach_the_routes(self):
        problem = PROBLEMS[1]
        assert 33 in multiples(space.legal_routes(problem, "metal"))
        assert 33 not in multiples(space.legal_routes(problem, "cpu"))

    def test_any_backend_may_add(self, declare):
        declare({"split_k": {"parts": {"values": [2], "cuda": [3], "cpu": [2, 5]}}})
        kernel = kernels.kernel("split_k")
        assert [space.candidates(kernel, backend) for backend in BACKENDS] == [[[2]], [[2, 3]], [[2, 5]]]

    def test_words_are_sorted_beside_numbers(self):
        assert space.candidates(kernels.kernel("fold_k"), "cpu")[1] == ["float32", "native"]


class TestFingerprint:
    def test_changes_with_the_values_of_that_kernel_alone(self, declare):
        declare()
        before = {name: space.fingerprint(kernel) for name, kernel in kernels.KERNELS.items()}
        declare({"split_k": {"parts": {"values": [2, 4]}}})
        after = {name: space.fingerprint(kernel) for name, kernel in kernels.KERNELS.items()}
        assert [name for name in before if before[name] != after[name]] == ["split_k"]

    def test_changes_with_a_backend_of_its_own(self, declare):
        declare({"split_k": {"parts": {"values": [2, 4]}}})
        before = space.fingerprint(kernels.kernel("split_k"))
        declare({"split_k": {"parts": {"values": [2], "metal": [4]}}})
        assert space.fingerprint(kernels.kernel("split_k")) != before

    def test_is_twelve_hexadecimal_digits(self):
        for kernel in kernels.KERNELS.values():
            assert len(space.fingerprint(kernel)) == 12
            int(space.fingerprint(kernel), 16)


class TestBadFiles:
    @pytest.mark.parametrize(
        ("changes", "cause", "remedy"),
        [
            ({"padd": {}}, "unknown kernel in some.yaml 'padd'", "did you mean pad?"),
            (
                {"split_k": {"part": {"values": [2]}}},
                "some.yaml: split_k must list parts in this order",
                "",
            ),
            (
                {"pad": {"fill": {"values": ["zeros"]}, "multiple": {"values": [8]}}},
                "some.yaml: pad must list multiple, fill in this order",
                "",
            ),
            ({"upcast": {"to": {"values": [1]}}}, "some.yaml: upcast must list nothing in this order", ""),
            ({"split_k": [2, 4]}, "some.yaml: split_k must list parts in this order", ""),
            (
                {"split_k": {"parts": {"values": [2], "cdua": [4]}}},
                "unknown key in some.yaml: split_k.parts 'cdua'",
                "did you mean cuda?",
            ),
            (
                {"split_k": {"parts": {"values": [2, 65]}}},
                "some.yaml: split_k.parts cannot be 65",
                "see the kernel's space",
            ),
            (
                {"pad": {"multiple": {"values": [8]}, "fill": {"values": ["zeroes"]}}},
                "some.yaml: pad.fill cannot be 'zeroes'",
                "see the kernel's space",
            ),
            (
                {"split_k": {"parts": {"values": [2], "metal": [True]}}},
                "some.yaml: split_k.parts cannot be True",
                "see the kernel's space",
            ),
        ],
    )
    def test_the_slip_is_named(self, declare, changes, cause, remedy):
        declare(changes)
        with pytest.raises(UsageError) as raised:
            space.spaces()
        assert (raised.value.cause, raised.value.remedy) == (cause, remedy)

    @pytest.mark.parametrize(
        "parts",
        [[2, 4], 4, None, {"values": 4}, {"values": None}, {"metal": [4]}, {"values": [2], "metal": 4}],
        ids=["a list", "a number", "nothing", "one value", "no value", "a backend alone", "a backend's one value"],
    )
    def test_values_in_another_shape(self, declare, parts):
        declare({"split_k": {"parts": parts}})
        with pytest.raises(UsageError, match=r"some\.yaml.*split_k\.parts"):
            space.legal_routes(PROBLEMS[6], "metal")

    def test_a_kernel_without_a_space(self, declare):
        declare(without=("chunk", "upcast"))
        with pytest.raises(UsageError, match="no space is declared for chunk, upcast"):
            space.spaces()

    def test_invalid_yaml_has_its_line(self, declare, tmp_path):
        declare()
        (tmp_path / "configs" / "spaces" / "zoo.yaml").write_text("stock: {}\npad: [\n", "utf-8")
        with pytest.raises(UsageError, match=r"zoo\.yaml, line 3: no valid YAML"):
            space.spaces()

    def test_several_files_add_up(self, declare, tmp_path):
        declare(without=("chunk",))
        (tmp_path / "configs" / "spaces" / "more.yaml").write_text("chunk: {rows: {values: [3]}}\n", "utf-8")
        space.spaces.cache_clear()
        assert set(space.spaces()) == set(kernels.KERNELS)
        assert space.candidates(kernels.kernel("chunk"), "cpu") == [[3]]
