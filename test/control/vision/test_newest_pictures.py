"""The newest picture of each camera: its age, its sameness, and one decoding however often it is looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("cv2", reason="pictures need the camera extra")

from qgf_ros.bundle.cameras import CameraField
from qgf_ros.control.vision import newest_pictures
from qgf_ros.control.vision.newest_pictures import NewestPictures
from qgf_ros.control.vision.pictures import ImageReading
from qgf_ros.errors import ObservationError

SECOND = 1_000_000_000
CAMERAS = {
    name: CameraField(topic=f"{name}/image_raw", width=8, height=6, size=(6, 8), max_age=0.2)
    for name in ("wrist", "front")
}


def picture(level: int, **changes: Any) -> ImageReading:
    return ImageReading.of(np.full((6, 8, 3), level, dtype=np.uint8), **changes)


def filled(cameras: dict[str, CameraField] = CAMERAS, stamp: int = SECOND) -> NewestPictures:
    pictures = NewestPictures(cameras)
    for level, name in enumerate(cameras, start=1):
        pictures.keep(cameras[name].topic, stamp, picture(level))
    return pictures


def test_every_camera_is_seen_by_its_name() -> None:
    sight = filled().sight(SECOND + SECOND // 10)
    assert {name: int(pixels[0, 0, 0]) for name, pixels in sight.images().items()} == {"wrist": 1, "front": 2}
    assert sight.ages == {"wrist": pytest.approx(0.1), "front": pytest.approx(0.1)}
    assert sight.oldest == pytest.approx(0.1)
    assert sight.decode_seconds > 0.0


def test_only_the_newest_is_kept_and_one_that_was_overtaken_is_no_news() -> None:
    pictures = filled()
    for stamp, level in ((SECOND + 50, 7), (SECOND + 20, 9)):
        pictures.keep("wrist/image_raw", stamp, picture(level))
    assert pictures.newest("wrist/image_raw") == SECOND + 50
    assert pictures.sight(SECOND).images()["wrist"][0, 0, 0] == 7


def test_a_camera_that_is_silent_stale_or_ahead_is_named() -> None:
    pictures = NewestPictures(CAMERAS)
    pictures.keep("wrist/image_raw", SECOND, picture(1))
    with pytest.raises(ObservationError, match="camera front: nothing received yet on topic front/image_raw"):
        pictures.sight(SECOND)
    pictures = filled()
    pictures.keep("wrist/image_raw", SECOND + SECOND // 2, picture(3))
    with pytest.raises(
        ObservationError, match=r"camera front: topic front/image_raw is stale, 0.500 s old, at most 0.2 s"
    ):
        pictures.sight(SECOND + SECOND // 2)
    with pytest.raises(ObservationError, match=r"camera wrist: topic wrist/image_raw is stamped 0.500 s in the future"):
        pictures.sight(SECOND)
    pictures.forget("wrist/image_raw")
    assert pictures.newest("wrist/image_raw") is None


def test_what_its_message_says_is_refused_until_the_next_one() -> None:
    pictures = filled()
    pictures.keep("wrist/image_raw", SECOND, picture(1, encoding="bgr8"))
    with pytest.raises(ObservationError, match="camera wrist: topic wrist/image_raw gives bgr8, expected rgb8"):
        pictures.sight(SECOND)
    pictures.keep("wrist/image_raw", SECOND, picture(1))
    assert pictures.sight(SECOND).images()


def test_the_same_picture_under_new_stamps_is_frozen_where_the_contract_says_when() -> None:
    watched = {"wrist": CAMERAS["wrist"].model_copy(update={"frozen_after": 0.35})}
    for cameras, patient in ((watched, False), ({"wrist": CAMERAS["wrist"]}, True)):
        pictures = filled(cameras)
        for tenths in range(1, 6):
            stamp = SECOND + tenths * SECOND // 10
            pictures.keep("wrist/image_raw", stamp, picture(1))
            if tenths <= 3 or patient:
                pictures.sight(stamp)
            else:
                with pytest.raises(
                    ObservationError, match=rf"is frozen, it sends the same picture .* for 0.{tenths}00 s"
                ):
                    pictures.sight(stamp)
        pictures.keep("wrist/image_raw", 2 * SECOND, picture(2))
        pictures.sight(2 * SECOND)


def test_what_is_refused_among_the_same_pictures_thaws_no_camera() -> None:
    """A camera that freezes as it dies sends damaged pictures, too; each of them must not begin the count anew."""
    pictures = filled({"wrist": CAMERAS["wrist"].model_copy(update={"frozen_after": 0.35})})
    for tenths, encoding in enumerate(("bgr8", "rgb8", "bgr8", "rgb8"), start=1):
        pictures.keep("wrist/image_raw", SECOND + tenths * SECOND // 10, picture(1, encoding=encoding))
    with pytest.raises(ObservationError, match=r"is frozen, it sends the same picture .* for 0.400 s"):
        pictures.sight(SECOND + 4 * SECOND // 10)
    pictures.keep("wrist/image_raw", SECOND + 5 * SECOND // 10, picture(2))
    pictures.sight(SECOND + 5 * SECOND // 10)


def test_decoding_is_counted_where_it_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera that is slower than the policy is looked at again: that costs nothing, and is not said to."""
    clock, decode = iter(range(100)), newest_pictures.decode
    monkeypatch.setattr(newest_pictures.time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(newest_pictures, "decode", lambda *given: next(clock) and decode(*given))
    pictures = filled()
    first, second = pictures.sight(SECOND), pictures.sight(SECOND + 1)
    assert first.decode_seconds == 0.0
    first.images()
    second.images()
    assert (first.decode_seconds, second.decode_seconds) == (3.0, 1.0)


def test_a_picture_is_decoded_once_however_often_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    decode = newest_pictures.decode
    monkeypatch.setattr(newest_pictures, "decode", lambda *given: decoded.append(given[0]) or decode(*given))
    pictures = filled()
    assert decoded == []
    sights = [pictures.sight(SECOND), pictures.sight(SECOND + 1)]
    for sight in (*sights, *sights):
        sight.images()
    assert decoded == ["wrist", "front"]
