"""JSON that readers understand differently, or that a terminal obeys, is refused; messages stay on one line."""

from __future__ import annotations

import pytest

from qgf_ros.bundle.text import check_text, one_line


@pytest.mark.parametrize(
    "text", ['{"a": 1, "b": {"a": 2}}', '["tab\\t, line\\n", -1e18, 9223372036854775807, null, "ü"]']
)
def test_plain_text_passes(text: str) -> None:
    check_text(text.encode())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "b": 2, "a": 1}', "the key 'a' is there twice"),
        ('[{"a": {"b": 1, "b": 2}}]', "the key 'b' is there twice"),
        ("[NaN]", "number NaN"),
        ("[-Infinity]", "number -Infinity"),
        ("[1e309]", "number 1e309"),
        ("[9223372036854780000]", "number 9223372036854780000"),
        ('["\\u001b[2J"]', "control character"),
        ('{"\\u009b": 1}', "control character"),
        ('{"a": {"b": "\\u001b"}}', "control character"),
        ('"\\u0000"', "control character"),
    ],
)
def test_what_is_not_plain_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_text(text.encode())


def test_a_message_stays_on_one_line_and_short() -> None:
    assert one_line("the key 'a\n\x1b' is there twice") == "the key 'a??' is there twice"
    assert len(one_line("x" * 10_000)) < 600
