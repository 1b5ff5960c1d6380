import re
import subprocess

import pytest
import yaml

from autotune import chips, machine, paths
from autotune.chips import CPU, UNKNOWN_CACHE, Chip, catalogue
from autotune.errors import UNFIT, USAGE, UnfitError, UsageError
from autotune.machine import Machine

EVERY = list(catalogue().values())


@pytest.fixture
def gpu(monkeypatch):
    """Puts a GPU of that backend and name into this machine."""

    def put(backend, name, cores=40):
        found = Machine("gpu", backend, name, "some", cores, False, "FakeOS 1", "0.32.4")
        cpu = machine.local("cpu")
        monkeypatch.setattr(machine, "local", lambda kind: found if kind == "gpu" else cpu)

    return put


class TestCatalogue:
    @pytest.mark.parametrize("chip", EVERY, ids=lambda chip: chip.id)
    def test_every_entry_is_sane(self, chip):
        assert re.fullmatch(r"[a-z0-9]+", chip.id)
        assert chip.name.strip() == chip.name
        assert chip.name
        assert chip.backend in ("metal", "cuda", "cpu")
        assert chip.sources
        assert all(source.startswith("https://") for source in chip.sources)
        for number in (chip.generation, chip.last_level_cache_mb, chip.threadgroup_memory_kb):
            assert number is None or number > 0
        assert chip.max_threads_per_threadgroup in (None, 1024)
        assert chip.nax_from_os is None or re.fullmatch(r"\d+\.\d+", chip.nax_from_os)
        assert list(chip.gpu_cores) == sorted(set(chip.gpu_cores))
        for cores, bandwidth in chip.memory_bandwidth_gbs.items():
            assert cores in chip.gpu_cores
            assert 50 <= bandwidth <= 20_000

    @pytest.mark.parametrize("chip", [chip for chip in EVERY if chip.backend == "metal"], ids=lambda chip: chip.id)
    def test_apples_are_named_by_their_devices(self, chip):
        assert chip.name.startswith("Apple M")
        assert all(name.startswith("Apple M") for name in chip.device_names)
        if chip.architecture:
            assert machine.generation(chip.architecture) == chip.generation
        if chip.nax_from_os:
            assert chip.generation >= 17

    @pytest.mark.parametrize("chip", [chip for chip in EVERY if chip.backend == "cuda"], ids=lambda chip: chip.id)
    def test_nvidias_have_their_compute_capability(self, chip):
        assert chip.name.startswith("NVIDIA")
        assert chip.architecture == f"sm_{chip.generation}"
        assert chip.device_names

    def test_a_device_belongs_to_one_chip(self):
        names = [(chip.backend, name) for chip in EVERY for name in chip.device_names]
        assert len(set(names)) == len(names)

    def test_has_the_chips_that_matter(self):
        assert {"m4", "m4pro", "m4max", "m5", "m5pro", "m5max", "h100", "h200", CPU} <= set(catalogue())
        assert catalogue()["m5max"].nax_from_os == "26.2"
        assert 40 in catalogue()["m5max"].gpu_cores
        assert catalogue()["m4pro"].nax_from_os is None

    @pytest.mark.parametrize("chip", EVERY, ids=lambda chip: chip.id)
    def test_answers_to_its_id_in_any_case(self, chip):
        assert chips.get(chip.id) is chip
        assert chips.get(chip.id.upper()) is chip


class TestGet:
    @pytest.mark.parametrize("name", ["m5max", "M5 Max", "m5-max", "M5_MAX", "Apple M5 Max", "  m5 max "])
    def test_is_deaf_to_spelling(self, name):
        assert chips.get(name).id == "m5max"

    def test_nvidia(self):
        assert chips.get("NVIDIA H100").id == "h100"

    @pytest.mark.parametrize(("name", "near"), [("m5mx", "m5max"), ("M5 Maxx", "m5max"), ("h10", "h100")])
    def test_names_the_nearest(self, name, near):
        with pytest.raises(UsageError) as raised:
            chips.get(name)
        assert raised.value.exit_code == USAGE
        assert raised.value.cause == f"unknown chip {name!r}"
        assert raised.value.remedy.startswith("did you mean ")
        assert near in raised.value.remedy

    @pytest.mark.parametrize("name", ["quantum", ""])
    def test_lists_all_where_none_is_near(self, name):
        with pytest.raises(UsageError, match="known: a10, a100, "):
            chips.get(name)


class TestHere:
    def test_a_cpu_is_a_cpu(self):
        assert chips.of_machine("cpu") is catalogue()[CPU]
        assert chips.here("cpu") == "cpu"

    def test_a_known_gpu(self, gpu):
        gpu("metal", "Apple M5 Max")
        assert chips.of_machine("gpu").id == chips.here("gpu") == "m5max"

    def test_an_unknown_gpu_goes_by_its_name(self, gpu):
        gpu("cuda", "NVIDIA Whatever 9000-X")
        assert chips.of_machine("gpu") is None
        assert chips.here("gpu") == "nvidiawhatever9000x"

    def test_the_name_has_to_come_from_the_backend_too(self, gpu):
        gpu("cuda", "Apple M5 Max")
        assert chips.of_machine("gpu") is None


class TestRequire:
    def test_this_machines_own(self, gpu):
        assert chips.require("cpu", "cpu") == "cpu"
        assert chips.require("CPU", "cpu") == "cpu"
        gpu("metal", "Apple M5 Max")
        assert chips.require("M5 Max", "gpu") == "m5max"

    def test_another_chip_is_unfit(self):
        with pytest.raises(UnfitError) as raised:
            chips.require("M5 Max", "cpu")
        assert raised.value.exit_code == UNFIT == 5
        assert str(raised.value) == (
            f"this machine has no m5max, its cpu is {machine.local('cpu').device_name}: "
            "measure on a machine with Apple M5 Max, or leave --chip out, or ask a model of it with --simulate"
        )

    def test_what_is_elsewhere(self, gpu):
        assert chips.elsewhere("M5 Max", "cpu").id == "m5max"
        assert chips.elsewhere("cpu", "cpu") is None
        assert chips.elsewhere("", "cpu") is None
        with pytest.raises(UsageError, match="unknown chip"):
            chips.elsewhere("m55", "cpu")
        gpu("cuda", "NVIDIA Whatever 9000-X")
        assert chips.elsewhere("nvidiawhatever9000x", "gpu") is None

    def test_a_chip_that_does_not_exist_is_wrong_use(self):
        with pytest.raises(UsageError, match="unknown chip"):
            chips.require("m55", "cpu")

    def test_an_unknown_gpu_may_be_named_as_it_is_filed(self, gpu):
        gpu("cuda", "NVIDIA Whatever 9000-X")
        assert chips.require("nvidiawhatever9000x", "gpu") == "nvidiawhatever9000x"


class TestCache:
    def test_the_catalogues_figure(self, gpu):
        gpu("metal", "Apple M1 Max")
        assert chips.cache_bytes("gpu") == 48 << 20

    def test_a_guess_for_what_is_unknown(self, gpu):
        gpu("cuda", "NVIDIA Whatever 9000-X")
        assert chips.cache_bytes("gpu") == UNKNOWN_CACHE

    def test_a_cpus_own(self):
        assert 64 << 10 <= chips.cache_bytes("cpu") <= 4 << 30

    def test_a_cpus_own_is_what_counts(self, monkeypatch):
        monkeypatch.setattr(chips, "_cpu_cache", lambda: 12345)
        assert chips.cache_bytes("cpu") == 12345

    @pytest.mark.parametrize(
        ("sizes", "expected"),
        [(["48K", "2M", "32M"], 32 << 20), (["512K", "1024K"], 1 << 20), (["4096"], 4096), (["what"], 0), ([], 0)],
    )
    def test_as_linux_tells_it(self, monkeypatch, tmp_path, sizes, expected):
        for number, size in enumerate(sizes):
            (tmp_path / f"index{number}").mkdir()
            (tmp_path / f"index{number}" / "size").write_text(f"{size}\n")
        monkeypatch.setattr("sys.platform", "linux")
        monkeypatch.setattr(chips, "Path", lambda path: tmp_path)
        assert chips._cpu_cache() == expected

    @pytest.mark.parametrize(
        ("sizes", "expected"), [({"hw.l2cachesize": 4 << 20, "hw.perflevel0.l2cachesize": 16 << 20}, 16 << 20), ({}, 0)]
    )
    def test_as_macos_tells_it(self, monkeypatch, sizes, expected):
        def run(command, **_):
            return subprocess.CompletedProcess(command, 0, f"{sizes.get(command[-1], '')}\n")

        monkeypatch.setattr("sys.platform", "darwin")
        monkeypatch.setattr(subprocess, "run", run)
        assert chips._cpu_cache() == expected

    def test_a_cpu_that_does_not_say(self, monkeypatch):
        monkeypatch.setattr(chips, "_cpu_cache", lambda: 0)
        assert chips.cache_bytes("cpu") == UNKNOWN_CACHE


class TestRead:
    @pytest.fixture
    def write(self, tmp_path):
        shipped = yaml.safe_load((paths.configs() / "chips.yaml").read_text("utf-8"))
        cpu = shipped["chips"]["cpu"]

        def write(**changes):
            content = {"schema": 1, "chips": {"cpu": {key: v for key, v in {**cpu, **changes}.items() if v != "gone"}}}
            path = tmp_path / "chips.yaml"
            path.write_text(yaml.safe_dump(content), "utf-8")
            return path

        return write

    def test_a_file(self, write):
        (chip,) = chips.read(write(gpu_cores=[8, 10])).values()
        assert isinstance(chip, Chip)
        assert chip.gpu_cores == (8, 10)

    def test_an_unknown_key(self, write):
        with pytest.raises(UsageError, match=r"unknown key in chips\.yaml, cpu: 'gpu_core': did you mean gpu_cores"):
            chips.read(write(gpu_core=[8]))

    @pytest.mark.parametrize("key", [name for name in Chip.__dataclass_fields__ if name != "id"])
    def test_every_key_is_needed(self, write, key):
        with pytest.raises(UsageError, match=rf"chips\.yaml, cpu lacks '{key}'"):
            chips.read(write(**{key: "gone"}))

    def test_a_file_without_the_cpu(self, tmp_path):
        (tmp_path / "chips.yaml").write_text("schema: 1\nchips: {}\n", "utf-8")
        with pytest.raises(UsageError, match=r"chips\.yaml has no chip 'cpu'"):
            chips.read(tmp_path / "chips.yaml")

    @pytest.mark.parametrize("text", ["chips: {}\n", "schema: 1\n", "schema: 1\nchips: {}\nchip: 1\n"])
    def test_the_top_is_strict_too(self, tmp_path, text):
        (tmp_path / "chips.yaml").write_text(text, "utf-8")
        with pytest.raises(UsageError, match=r"chips\.yaml(: 'chip'| lacks)"):
            chips.read(tmp_path / "chips.yaml")
