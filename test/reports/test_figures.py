"""Labels that do not overlap, methods that can be told apart, files that are the same for the same numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("matplotlib", reason="figures need the analysis extra")

from qgf_ros.errors import QgfError
from qgf_ros.guidance.names import METHODS
from qgf_ros.reports.figures import LOOKS, new_figure, spread, style, write_figure


@given(heights=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8).map(sorted))
def test_labels_lie_apart_and_in_order(heights: list[float]) -> None:
    placed = spread(heights, 0.1)
    assert len(placed) == len(heights)
    assert all(after - before >= 0.1 - 1e-9 for before, after in zip(placed, placed[1:]))


def test_labels_with_room_stay_and_crowded_ones_share_the_shift() -> None:
    assert spread([0.1, 0.5, 0.9], 0.1) == [0.1, 0.5, 0.9]
    assert spread([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])
    assert spread([0.2, 0.5, 0.52, 0.9], 0.1) == pytest.approx([0.2, 0.46, 0.56, 0.9])


def test_every_method_has_a_look_of_its_own() -> None:
    assert {"bc", "bfn", *METHODS} <= LOOKS.keys()
    assert len({look.colour for look in LOOKS.values()}) == len(LOOKS)
    assert len({look.marker for name, look in LOOKS.items() if name != "bc"}) == len(LOOKS) - 1


def draw(out: Path) -> list[bytes]:
    with style():
        figure = new_figure(2.0, 1.5)
        figure.subplots().plot([0, 1], [1, 0])
    return [path.read_bytes() for path in write_figure(figure, out, "line")]


def test_the_same_figure_gives_the_same_files(tmp_path: Path) -> None:
    png, svg = draw(tmp_path / "a")
    assert [png, svg] == draw(tmp_path / "b")
    assert png.startswith(b"\x89PNG")
    assert b"<svg" in svg
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["line.png", "line.svg"]


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(QgfError, match="line.png cannot be written .* choose another --out"):
        draw(tmp_path / "file")
