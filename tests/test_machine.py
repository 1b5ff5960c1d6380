import os

import mlx.core as mx
import pytest

from autotune import machine

IOREG_M5_MAX = """
+-o AGXAcceleratorG17X  <class AGXAcceleratorG17X, id 0x1000006b3, registered, matched, active, busy 0>
    {
      "IOClass" = "AGXAcceleratorG17X"
      "CFBundleIdentifier" = "com.apple.AGXG17X"
      "IOProviderClass" = "AGXARMFirmwareKextG17PRTBuddy"
      "MetalPluginName" = "AGXMetalG17X"
      "gpu-core-count" = 40
      "GPUConfigurationVariable" = {"num_gps"=8,"gpu_gen"=17,"usc_gen"=4,"num_cores"=48,"num_mgpus"=4}
      "model" = "Apple M5 Max"
      "PerformanceStatistics" = {"In use system memory"=913408,"Device Utilization %"=3}
    }
"""


class TestGpuCores:
    def test_reads_the_count_and_not_the_cores_of_the_full_die(self):
        assert machine.parse_gpu_cores(IOREG_M5_MAX) == 40

    @pytest.mark.parametrize("spaces", ["=", " = ", "  =  "])
    def test_spaces_do_not_matter(self, spaces):
        assert machine.parse_gpu_cores(f'      "gpu-core-count"{spaces}16\n') == 16

    @pytest.mark.parametrize("text", ["", "no accelerator here", '"gpu-core-count" = <data>', '"num_cores"=48'])
    def test_is_zero_where_the_registry_has_none(self, text):
        assert machine.parse_gpu_cores(text) == 0


class TestNax:
    @pytest.mark.parametrize(
        ("architecture", "version", "expected"),
        [
            ("applegpu_g17s", "26.2", True),
            ("applegpu_g17s", "26.2.1", True),
            ("applegpu_g17g", "26.10", True),
            ("applegpu_g17d", "27.0", True),
            ("applegpu_g17s", "27", True),
            ("applegpu_g18s", "26.3", True),
            ("applegpu_g17s", "26.1", False),
            ("applegpu_g17s", "26.1.9", False),
            ("applegpu_g17s", "26", False),
            ("applegpu_g17s", "15.7.2", False),
            ("applegpu_g16s", "26.2", False),
            ("applegpu_g13d", "27.0", False),
            ("applegpu_g17p", "26.2", False),
            ("applegpu_g18p", "26.2", True),
            ("applegpu_g18p", "26.1", False),
            ("applegpu_g17s", "", False),
            ("sm_90", "26.2", False),
            ("", "26.2", False),
        ],
    )
    def test_needs_both_a_new_system_and_a_new_gpu(self, architecture, version, expected):
        assert machine.nax(architecture, version) is expected


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [("applegpu_g17s", 17), ("applegpu_g13g", 13), ("applegpu_g9p", 9), ("sm_90a", 0), ("x86_64", 0), ("", 0)],
)
def test_generation_is_the_number_in_a_metal_architecture(architecture, expected):
    assert machine.generation(architecture) == expected


class TestLocalCpu:
    def test_is_what_mlx_and_the_system_say(self):
        ours = machine.local("cpu")
        info = mx.device_info(mx.Device(mx.cpu))
        assert (ours.kind, ours.backend, ours.nax) == ("cpu", "cpu", False)
        assert ours.device_name == info["device_name"]
        assert ours.architecture == info["architecture"]
        assert ours.cores == os.cpu_count()
        assert ours.mlx == mx.__version__ == machine.mlx_version()

    def test_identity_leaves_versions_out(self):
        one = machine.Machine("gpu", "metal", "Apple M4", "applegpu_g16g", 10, False, "macOS 15.7", "0.31.0")
        other = machine.Machine("gpu", "metal", "Apple M4", "applegpu_g16g", 10, False, "macOS 26.3", "0.32.4")
        assert one != other
        assert one.identity == other.identity == ("metal", "Apple M4", "applegpu_g16g", 10, False)

    def test_the_cpu_is_always_there(self):
        assert machine.has("cpu")
        assert machine.backend("cpu") == "cpu"
        assert machine.default_kind() in ("cpu", "gpu")


@pytest.mark.parametrize(("system", "expected"), [("Darwin", "macOS 26.3"), ("Linux", "Linux 6.8.0-45-generic")])
def test_os_version_names_the_system_as_people_do(monkeypatch, system, expected):
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.release", lambda: "6.8.0-45-generic")
    monkeypatch.setattr("platform.mac_ver", lambda: ("26.3", ("", "", ""), "arm64"))
    assert machine.os_version() == expected
