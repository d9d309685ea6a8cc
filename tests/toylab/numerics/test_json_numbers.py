"""What is not finite becomes null in a run's record and a name in a theorem's; what is finite stays bit for bit."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toylab.numerics.json_numbers import number_or_name, number_or_null

NAMES = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_finite_number_survives_json_bit_for_bit(number):
    for written in (number_or_null, number_or_name):
        assert json.loads(json.dumps(written(number), allow_nan=False)).hex() == number.hex()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_finite_is_null_or_named(name):
    with pytest.raises(ValueError, match="not JSON compliant"):  # the bare number has no form there
        json.dumps(NAMES[name], allow_nan=False)
    for number in (NAMES[name], np.float32(NAMES[name])):
        assert number_or_null(number) is None
        assert number_or_name(number) == name


def test_what_does_not_exist_stays_null():
    assert number_or_null(None) is None


def test_numbers_of_other_libraries_become_plain_ones():
    for written in (number_or_null, number_or_name):
        assert all(type(written(number)) is float for number in (3, np.float32(0.5), np.int64(2)))
