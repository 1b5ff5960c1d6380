from fakes import MACHINE
from report.builders import PAD, REPEAT, STOCK, WIDE, timed

from autotune.kernels import Route
from autotune.problem import Problem
from autotune.routing import table
from autotune.search import tuned
from autotune.search.export import derive
from autotune.search.results import Origin
from autotune.search.tuned import NEAR, Tuned

PROBLEM = Problem.parse(f"{WIDE.split(' ', 1)[0]} M=3 {WIDE.split(' ', 1)[1]}")
NARROW = WIDE.replace("N=13824 K=5120", "N=4096 K=4096")
DENSE = "matmul N=4096 K=4096 bf16 nt"


def of(*routes, family=WIDE):
    """A table with a route, so many times as fast as stock, at each M: ``(M, route)``."""
    rows = []
    for m, route in routes:
        rows += [timed(family, m, STOCK, 100, 100), timed(family, m, route, 50, 100)]
    return derive(rows)


def both(*tables):
    """The families of all of them in one."""
    first = tables[0]
    return table.Table(first.header, {text: rows for each in tables for text, rows in each.families.items()})


def texts(routes):
    return [str(route) for route in routes]


class TestHeld:
    def test_is_what_this_chips_table_has(self):
        assert str(Tuned(of((3, PAD))).held(PROBLEM)) == PAD

    def test_none_without_a_table_or_at_another_m(self):
        assert Tuned().held(PROBLEM) is None
        assert Tuned(of((4, PAD))).held(PROBLEM) is None

    def test_another_chips_table_holds_nothing(self):
        assert Tuned(None, (of((3, PAD)),)).held(PROBLEM) is None

    def test_a_table_that_cannot_be_read_holds_nothing(self):
        broken = of((3, PAD))
        broken.families[WIDE][0]["route"] = "pad multiple=-1 fill=zeros"
        assert Tuned(broken).held(PROBLEM) is None
        assert Tuned(broken).seeds(PROBLEM) == []


class TestSeeds:
    def test_are_of_the_nearest_m_first(self):
        found = Tuned(of((3, PAD), (4, REPEAT), (32, "dequantize compute=native")))
        assert texts(found.seeds(PROBLEM)) == [REPEAT, "dequantize compute=native"]

    def test_are_of_the_own_shape_before_others_and_of_no_other_class(self):
        own = both(of((7, PAD), family=NARROW), of((1, REPEAT)), of((3, "upcast"), family=DENSE))
        assert texts(Tuned(own).seeds(PROBLEM)) == [REPEAT, PAD]

    def test_other_chips_come_after_the_own_one_in_turns(self):
        other, third = of((3, "pad multiple=16 fill=zeros"), (4, PAD)), of((3, "pad multiple=32 fill=zeros"))
        found = Tuned(of((3, PAD), (4, REPEAT)), (other, third)).seeds(PROBLEM)
        assert texts(found) == [REPEAT, "pad multiple=16 fill=zeros", "pad multiple=32 fill=zeros"]

    def test_are_few(self):
        many = of(*[(m, f"pad multiple={8 * m} fill=zeros") for m in (2, 4, 8)])
        assert len(Tuned(many).seeds(PROBLEM)) == NEAR
        assert (
            len(Tuned(many, (of(*[(m, f"pad multiple={4 * m} fill=repeat") for m in (3, 5, 7)]),)).seeds(PROBLEM))
            == 2 * NEAR
        )

    def test_never_stock(self):
        assert Tuned(of((3, PAD)), (of((3, STOCK)),)).seeds(PROBLEM) == []


class TestLoad:
    KEY = of((3, PAD)).header.chip

    def test_tells_this_chip_from_others(self, tmp_path):
        own = of((3, PAD))
        table.save(own, tmp_path / "mine.json")
        found = tuned.load(self.KEY, "measured", [tmp_path])
        assert found.held(PROBLEM) == Route.parse(PAD)
        elsewhere = tuned.load(Origin.of("fake", MACHINE, "0", "chained").key, "measured", [tmp_path])
        assert elsewhere.own is None
        assert texts(elsewhere.seeds(PROBLEM)) == [PAD]

    def test_passes_over_what_it_cannot_read_and_folders_that_are_not_there(self, tmp_path):
        (tmp_path / "torn.json").write_text("{")
        assert tuned.load(self.KEY, "measured", [tmp_path / "none", tmp_path]) == Tuned()

    def test_a_simulated_sweep_holds_no_measured_table(self, tmp_path):
        table.save(of((3, PAD)), tmp_path / "mine.json")
        assert tuned.load(self.KEY, "simulated", [tmp_path]).own is None

    def test_the_first_folder_counts(self, tmp_path):
        for name, route in (("a", PAD), ("b", REPEAT)):
            (tmp_path / name).mkdir()
            table.save(of((3, route)), tmp_path / name / "chip.json")
        assert str(tuned.load(self.KEY, "measured", [tmp_path / "b", tmp_path / "a"]).held(PROBLEM)) == REPEAT
