"""What the model knows of chips."""

from dataclasses import fields

import pytest

from autotune import chips
from autotune.devices.simulated import chip
from autotune.errors import UsageError
from autotune.problem import MODES


class TestGet:
    def test_has_the_facts_of_the_catalogue(self):
        m4pro = chip.get("M4 Pro")
        assert (m4pro.id, m4pro.architecture, m4pro.cores) == ("m4pro", "applegpu_g16s", 20)
        assert m4pro.bandwidth == 273e9
        assert m4pro.cache_bytes == 24 << 20

    def test_takes_the_cores_that_are_asked_for_with_their_bandwidth(self):
        assert (chip.get("m5max", 32).bandwidth, chip.get("m5max").bandwidth) == (460e9, 614e9)

    @pytest.mark.parametrize(("name", "nax"), [("m4max", False), ("m5", True), ("m5max", True), ("m1", False)])
    def test_says_which_chips_have_accelerators(self, name, nax):
        assert chip.get(name).nax is nax

    def test_an_unknown_architecture_follows_the_pattern(self):
        assert chip.get("m5ultra").architecture == "applegpu_g17d"

    @pytest.mark.parametrize(
        ("name", "cores", "what"),
        [("h100", 0, "no model"), ("cpu", 0, "no model"), ("m9", 0, "unknown chip"), ("m5max", 38, "GPU cores")],
    )
    def test_refuses_what_it_does_not_know(self, name, cores, what):
        with pytest.raises(UsageError, match=what):
            chip.get(name, cores)

    def test_every_apple_chip_has_a_model(self):
        assert set(chip.names()) == {each.id for each in chips.catalogue().values() if each.backend == "metal"}
        for name in chip.names():
            for cores in chips.get(name).gpu_cores:
                assert chip.get(name, cores).dram > 0


class TestConstants:
    def test_each_has_a_value_a_unit_and_an_origin(self):
        origins = chip.origins()
        assert set(origins) == {field.name for field in fields(chip.Constants)}
        for value, unit, origin in origins.values():
            assert value > 0
            assert unit
            assert origin.partition(":")[0] in ("fitted", "fitted, mostly the prior", "source", "assumed")

    def test_unpacking_has_a_cost_for_every_mode(self):
        constants = chip.constants()
        for mode, (widths, _) in MODES.items():
            assert all(constants.unpack(mode, bits) > 0 for bits in widths)

    def test_a_file_with_a_constant_missing_is_refused(self, tmp_path):
        file = tmp_path / "simulated.yaml"
        file.write_text("schema: 1\nclock_ghz: {m1: 1}\nassumed_cache_mb: 16\nconstants: {lanes: {value: 128}}\n")
        with pytest.raises(UsageError, match="lacks 'matrix'"):
            chip._content(file)


def test_the_base_chip_of_a_generation_sustains_less_of_its_accelerators():
    base, most = chip.get("m5"), chip.get("m5max")
    assert base.nax_share == pytest.approx(most.nax_share * base.constants.nax_base)
    assert chip.get("m5pro").nax_share == most.nax_share == most.constants.nax_share
