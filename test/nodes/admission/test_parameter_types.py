"""A value of another type than its parameter's is taken where it says the same, and refused by name where it does not."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="parameters need the ros extra or a ROS 2 installation")

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.parameter import Parameter, parameter_value_to_python

from qgf_ros.errors import ParameterError
from qgf_ros.nodes.admission.parameter_types import check_range, fitted, is_same

Type = Parameter.Type


@pytest.mark.parametrize(
    ("value", "wanted", "expected"),
    [
        (1, Type.DOUBLE, 1.0),
        (-3, Type.DOUBLE, -3.0),
        ("inf", Type.DOUBLE, math.inf),
        (".inf", Type.DOUBLE, math.inf),
        ("-.inf", Type.DOUBLE, -math.inf),
        ("nan", Type.DOUBLE, math.nan),
        ("1e-05", Type.DOUBLE, 1e-5),
        (2.0, Type.INTEGER, 2),
        (-2.0, Type.INTEGER, -2),
        ("7", Type.INTEGER, 7),
        ("true", Type.BOOL, True),
        ("False", Type.BOOL, False),
        (2, Type.STRING, "2"),
        (0.5, Type.STRING, "0.5"),
        (["a", 1, 0.5], Type.STRING_ARRAY, ["a", "1", "0.5"]),
        ([1, 2.5], Type.DOUBLE_ARRAY, [1.0, 2.5]),
        ([], Type.STRING_ARRAY, []),
        (None, Type.STRING_ARRAY, []),
    ],
)
def test_what_says_the_same_is_taken(value: Any, wanted: Type, expected: Any) -> None:
    assert is_same(fitted("x", value, wanted, None), expected)


@pytest.mark.parametrize(
    ("value", "wanted", "sentence"),
    [
        ("strong", Type.DOUBLE, "x 'strong' was given; it must be a number"),
        (True, Type.DOUBLE, "x True was given; it must be a number"),
        ([1.0], Type.DOUBLE, r"x \[1.0\] was given; it must be a number"),
        (1.5, Type.INTEGER, "x 1.5 was given; it must be an integer"),
        (math.inf, Type.INTEGER, "it must be an integer"),
        (1e300, Type.INTEGER, "it must be an integer"),
        (True, Type.INTEGER, "it must be an integer"),
        ("1.0", Type.INTEGER, "it must be an integer"),
        (1, Type.BOOL, "x 1 was given; it must be true or false"),
        ("yes", Type.BOOL, "it must be true or false"),
        (True, Type.STRING, "x True was given; it must be a text"),
        (["a"], Type.STRING, r"x \['a'\] was given; it must be a text"),
        (None, Type.STRING, r"x \[\] was given; it must be a text"),
        ("cuda", Type.STRING_ARRAY, r"it must be a list of texts, such as \[a, b\]"),
        ([True], Type.STRING_ARRAY, "it must be a list of texts"),
    ],
)
def test_what_would_have_to_be_guessed_is_refused_by_name(value: Any, wanted: Type, sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        fitted("x", value, wanted, None)


def test_a_parameter_of_any_type_takes_any_value() -> None:
    assert fitted("x", 3, None, "recommended") == 3
    assert fitted("x", None, None, "") == []


SCALARS = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(st.characters(codec="ascii"), max_size=12)
)


@given(SCALARS | st.lists(st.text("ab1.", max_size=4), max_size=3))
def test_a_value_that_was_dumped_and_loaded_is_the_value_in_force(value: Any) -> None:
    from rclpy.parameter import get_parameter_value

    try:
        dumped = yaml.safe_load(yaml.dump({"x": value}, default_flow_style=False))["x"]
        sent = parameter_value_to_python(get_parameter_value(str(dumped)))
    except (yaml.YAMLError, AssertionError, ValueError, TypeError):
        return  # which `ros2 param load` itself cannot send
    wanted = Type.STRING_ARRAY if isinstance(value, list) else Type.from_parameter_value(value)
    taken = fitted("x", sent, wanted, value)
    if isinstance(value, str) and isinstance(sent, str):
        assert taken == sent  # blanks around a text are lost on the way
    else:
        assert is_same(taken, value)


@given(st.integers(-(2**53), 2**53))
def test_integers_and_whole_doubles_are_each_other(number: int) -> None:
    as_double = fitted("x", number, Type.DOUBLE, 0.5)
    assert isinstance(as_double, float)
    assert fitted("x", as_double, Type.INTEGER, 0) == number


@given(SCALARS, st.sampled_from([Type.BOOL, Type.INTEGER, Type.DOUBLE, Type.STRING, Type.STRING_ARRAY]))
def test_whatever_is_given_becomes_a_value_of_the_type_or_a_sentence(value: Any, wanted: Type) -> None:
    try:
        taken = fitted("x", value, wanted, None)
    except ParameterError:
        with pytest.raises(ParameterError, match=r"(?s)^x .* was given; it must be (a|an|true) "):
            fitted("x", value, wanted, None)
    else:
        assert wanted.check(taken)


def test_a_value_out_of_range_is_refused_with_the_range() -> None:
    whole = ParameterDescriptor(integer_range=[IntegerRange(from_value=1, to_value=2**63 - 1, step=0)])
    with pytest.raises(ParameterError, match="x 0 was given; it must be 1 to 9223372036854775807"):
        check_range("x", 0, whole)
    number = ParameterDescriptor(floating_point_range=[FloatingPointRange(from_value=0.5, to_value=1000.0, step=0.0)])
    for value in (0.25, 1000.5, math.nan, math.inf):
        with pytest.raises(ParameterError, match=f"x {value} was given; it must be 0.5 to 1000"):
            check_range("x", value, number)
    for value in (0.5, 1000.0):
        check_range("x", value, number)
