import pytest

from autotune import errors
from autotune.errors import AutotuneError, TableError, UnfitError, UsageError, unknown


def test_message_is_one_line_of_cause_and_remedy():
    error = AutotuneError("the table is torn", "export it again")
    assert (str(error), error.cause, error.remedy) == (
        "the table is torn: export it again",
        "the table is torn",
        "export it again",
    )
    assert str(AutotuneError("just so")) == "just so"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AutotuneError, errors.FAILED),
        (TableError, errors.USAGE),
        (UsageError, errors.USAGE),
        (UnfitError, errors.UNFIT),
    ],
)
def test_each_error_has_the_exit_code_of_its_kind(error, code):
    assert error("x").exit_code == code
    assert issubclass(error, AutotuneError)


def test_every_exit_code_is_explained_once():
    codes = [value for name, value in vars(errors).items() if name.isupper() and isinstance(value, int)]
    assert sorted(codes) == sorted(errors.EXIT_CODES)
    assert len(set(codes)) == len(codes)


class TestUnknown:
    def test_names_the_nearest(self):
        error = unknown("kernel", "split-k", ["pad", "split_k", "stock"])
        assert isinstance(error, UsageError)
        assert str(error) == "unknown kernel 'split-k': did you mean split_k?"

    def test_is_deaf_to_case(self):
        assert unknown("op", "MATMUL", ["matmul"]).remedy == "did you mean matmul?"

    def test_lists_all_where_none_is_near(self):
        assert unknown("kernel", "zzz", {"stock": 1, "pad": 2}).remedy == "known: pad, stock"
