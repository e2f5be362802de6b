"""Messages of cameras: decoded to the pixels that were sent, or refused by name in one sentence."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="pictures need the camera extra")

from exploration import examples  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from qgf_ros.bundle.cameras import COMPRESSED, CameraField  # noqa: E402
from qgf_ros.control.vision.decoding import decode  # noqa: E402
from qgf_ros.control.vision.pictures import CompressedReading, ImageReading, refusal  # noqa: E402
from qgf_ros.control.vision.pixels import seen  # noqa: E402
from qgf_ros.errors import ObservationError  # noqa: E402

WIDTH, HEIGHT = 20, 12
RAW = CameraField(topic="image_raw", width=WIDTH, height=HEIGHT, size=(HEIGHT, WIDTH))
GREY = RAW.model_copy(update={"encoding": "mono8"})
FILE = RAW.model_copy(update={"type": COMPRESSED, "topic": "image_raw/compressed"})


def scene(height: int = HEIGHT, width: int = WIDTH) -> Any:
    """Return a smooth picture whose left is red and whose right is blue, uint8 [height, width, 3], RGB."""
    ramp = np.linspace(0, 255, width, dtype=np.uint8)[None].repeat(height, axis=0)
    return np.dstack([255 - ramp, np.full_like(ramp, 40), ramp])


def packed(pixels: Any, kind: str = ".jpg", format: str = "rgb8; jpeg compressed bgr8") -> CompressedReading:
    """Return RGB pixels as a file."""
    stored = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95] if kind == ".jpg" else []
    return CompressedReading(format, cv2.imencode(kind, np.ascontiguousarray(stored), quality)[1].reshape(-1))


def spoilt(reading: CompressedReading, data: bytes) -> CompressedReading:
    return replace(reading, data=np.frombuffer(data, dtype=np.uint8))


@examples(30, deadline=None)
@given(padding=st.integers(0, 9), encoding=st.sampled_from(["rgb8", "bgr8", "mono8"]), seed=st.integers(0, 99))
def test_pixels_come_out_as_they_were_sent_however_rows_are_padded(padding: int, encoding: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    channels = 1 if encoding == "mono8" else 3
    pixels = random.integers(0, 256, (HEIGHT, WIDTH, channels), dtype=np.uint8)
    rows = np.pad(pixels.reshape(HEIGHT, -1), ((0, 0), (0, padding)), constant_values=99)
    camera = RAW.model_copy(update={"encoding": encoding})
    reading = ImageReading(encoding, WIDTH, HEIGHT, rows.shape[1], rows.reshape(-1))
    assert refusal("wrist", camera, reading) is None
    expected = {"rgb8": pixels, "bgr8": pixels[..., ::-1], "mono8": pixels.repeat(3, axis=2)}.get(encoding)
    np.testing.assert_array_equal(decode("wrist", camera, reading), expected)


def test_a_reading_of_pixels_is_what_a_camera_would_send() -> None:
    reading = ImageReading.of(scene())
    assert (reading.width, reading.height, reading.step, len(reading.data)) == (20, 12, 60, 720)
    np.testing.assert_array_equal(decode("wrist", RAW, reading), scene())
    assert ImageReading.of(scene()[..., 0], "mono8").step == 20


@pytest.mark.parametrize(
    ("kind", "format", "tolerance"),
    [
        (".png", "rgb8; png compressed ", 0),
        (".png", "png", 0),
        (".jpg", "rgb8; jpeg compressed bgr8", 12),
        (".jpg", "bgr8; jpeg compressed bgr8", 12),
        (".jpg", "jpeg", 12),
    ],
)
def test_a_file_is_seen_in_its_colours_whatever_its_format_is_called(kind: str, format: str, tolerance: int) -> None:
    reading = packed(scene(), kind, format)
    for camera in (FILE, FILE.model_copy(update={"encoding": "bgr8"})):  # which is that of the message before
        assert refusal("wrist", camera, reading) is None
        np.testing.assert_allclose(decode("wrist", camera, reading).astype(int), scene(), atol=tolerance)


@pytest.mark.parametrize("kind", [".png", ".jpg"])
def test_a_grey_file_is_seen_grey(kind: str) -> None:
    grey = FILE.model_copy(update={"encoding": "mono8"})
    reading = packed(scene()[..., 2], kind, "mono8; jpeg compressed ")
    assert refusal("wrist", grey, reading) is None
    expected = scene()[..., 2:].repeat(3, axis=2)
    np.testing.assert_allclose(decode("wrist", grey, reading).astype(int), expected, atol=6)


def test_a_file_that_its_driver_padded_with_zeros_is_whole() -> None:
    reading = packed(scene())
    padded = spoilt(reading, reading.data.tobytes() + bytes(20))
    assert refusal("wrist", FILE, padded) is None
    np.testing.assert_array_equal(decode("wrist", FILE, padded), decode("wrist", FILE, reading))


def test_a_picture_that_says_which_way_is_up_is_seen_as_it_came() -> None:
    """The bundle was trained on what the camera sends, and an EXIF orientation is none of it."""
    jpeg = packed(scene()).data.tobytes()
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    turned = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
    reading = spoilt(packed(scene()), turned)
    assert refusal("wrist", FILE, reading) is None
    np.testing.assert_array_equal(decode("wrist", FILE, reading), decode("wrist", FILE, packed(scene())))


def behind(marker: int) -> bytes:
    """Return a JPEG of 16000 x 16000 pixels, to its decoder, with the right size where a segment of 65472 bytes would end."""
    sof = b"\xff\xc0\x00\x11\x08%b\x03" + b"\x01\x11\0\x02\x11\1\x03\x11\1"
    huge = b"\xff\xd8\xff" + bytes([marker]) + sof % b"\x3e\x80\x3e\x80"
    return huge.ljust(4 + 0xFFC0, b"\0") + sof % b"\0\x0c\0\x14" + bytes(20) + b"\xff\xd9"


PNG = packed(scene(), ".png", "png").data.tobytes()
JPEG = packed(scene()).data.tobytes()
IMAGES: dict[str, tuple[CameraField, Any, str]] = {
    "another size": (RAW, ImageReading.of(scene(24, 40)), "gives 40 x 24 pixels, the bundle was trained on 20 x 12"),
    "blue first": (RAW, ImageReading.of(scene(), "bgr8"), "gives bgr8, expected rgb8"),
    "Bayer": (
        RAW,
        ImageReading("bayer_rggb8", 20, 12, 20, np.zeros(240, np.uint8)),
        "gives bayer_rggb8, the raw pattern",
    ),
    "depth": (RAW, ImageReading("16UC1", 20, 12, 40, np.zeros(480, np.uint8)), "gives 16UC1, which is depth"),
    "depth in metres": (RAW, ImageReading("32FC1", 20, 12, 80, np.zeros(960, np.uint8)), "gives 32FC1, which is depth"),
    "16 bits": (GREY, ImageReading("mono16", 20, 12, 40, np.zeros(480, np.uint8)), "gives mono16, which is depth or"),
    "no encoding": (RAW, ImageReading("", 20, 12, 60, np.zeros(720, np.uint8)), "gives no encoding, expected rgb8"),
    "a hostile encoding": (RAW, ImageReading("\x1b[2J" * 50, 20, 12, 60, np.zeros(720, np.uint8)), r"gives \?\[2J"),
    "rows too short": (RAW, ImageReading("rgb8", 20, 12, 40, np.zeros(480, np.uint8)), "gives rows of 40 bytes"),
    "bytes too few": (
        RAW,
        ImageReading("rgb8", 20, 12, 60, np.zeros(719, np.uint8)),
        "and 719 bytes in all, expected 12",
    ),
    "bytes too many": (RAW, ImageReading("rgb8", 20, 12, 60, np.zeros(721, np.uint8)), "and 721 bytes in all"),
    "step 0": (RAW, ImageReading("rgb8", 20, 12, 0, np.zeros(0, np.uint8)), "gives rows of 0 bytes"),
    "10 MB": (
        RAW,
        ImageReading("rgb8", 20, 12, 60, np.zeros(10**7, np.uint8)),
        "gives 10000000 bytes at once, at most 66256",
    ),
    "a file": (RAW, packed(scene()), "gave a CompressedImage, expected an Image"),
    "another frame": (
        RAW.model_copy(update={"frame_id": "wrist_optical"}),
        ImageReading.of(scene(), frame_id="front_optical"),
        "comes from frame front_optical, expected wrist_optical; see whether cameras were swapped",
    ),
    "no frame": (RAW.model_copy(update={"frame_id": "wrist"}), ImageReading.of(scene()), "comes from frame nowhere"),
    "no file": (FILE, ImageReading.of(scene()), "gave an Image, expected a CompressedImage"),
    "another size of JPEG": (FILE, packed(scene(24, 40)), "gives 40 x 24 pixels, the bundle was trained on 20 x 12"),
    "another size of PNG": (FILE, packed(scene(24, 40), ".png", "png"), "gives 40 x 24 pixels"),
    "half a JPEG": (FILE, spoilt(packed(scene()), JPEG[: len(JPEG) // 2]), "gives a picture that is cut short"),
    "half a PNG": (FILE, spoilt(packed(scene()), PNG[: len(PNG) // 2]), "gives a picture that is cut short"),
    "nothing": (FILE, spoilt(packed(scene()), b""), "gives no JPEG and no PNG"),
    "text": (
        FILE,
        spoilt(packed(scene()), b"<html>404</html>"),
        "gives no JPEG and no PNG, its format says 'rgb8; jpeg",
    ),
    "the first bytes alone": (FILE, spoilt(packed(scene()), JPEG[:30]), "gives no JPEG and no PNG"),
    "a JPEG that claims to be huge": (
        FILE,
        spoilt(packed(scene()), JPEG.replace(b"\x08\x00\x0c\x00\x14", b"\x08\xff\xff\xff\xff")),
        "gives 65535 x 65535 pixels",
    ),
    "a file of 10 MB": (FILE, spoilt(packed(scene()), JPEG[:-2] + bytes(10**7) + JPEG[-2:]), "bytes at once, at most"),
    "a grey JPEG": (
        FILE,
        packed(scene()[..., 0], ".jpg", "jpeg"),
        "gives 1 channels of 8 bits, expected 3 of 8 for rgb8",
    ),
    "a grey JPEG, as it says": (
        FILE,
        packed(scene()[..., 0], ".jpg", "mono8; jpeg compressed "),
        "gives mono8, expected rgb8",
    ),
    "16 bits of PNG": (
        FILE.model_copy(update={"encoding": "mono8"}),
        packed(scene()[..., 0].astype(np.uint16), ".png", "png"),
        "gives 1 channels of 16 bits",
    ),
    "transparency": (
        FILE,
        spoilt(packed(scene()), cv2.imencode(".png", np.zeros((12, 20, 4), np.uint8))[1].tobytes()),
        "gives 4 channels of 8 bits",
    ),
    "compressed depth": (FILE, packed(scene(), ".png", "16UC1; compressedDepth png"), "gives 16UC1, which is depth"),
    **{
        f"a size behind what {what} ends": (FILE, spoilt(packed(scene()), behind(marker)), "gives no JPEG and no PNG")
        for what, marker in {"a marker without length": 0x01, "a restart": 0xD0, "a stuffed byte": 0x00}.items()
    },
    "a PNG of which a part is longer than the file": (
        FILE,
        spoilt(packed(scene()), PNG[:33] + b"\xe1" + PNG[34:]),
        f"gives a picture that is cut short, of {len(PNG)} bytes",
    ),
    "a PNG of parts without end": (
        FILE,
        spoilt(packed(scene()), PNG[:33] + 2000 * b"\0\0\0\0tEXt\0\0\0\0" + PNG[33:]),
        "gives a picture that is cut short",
    ),
    "red first in a file": (
        FILE,
        packed(scene(), ".jpg", "rgb8; jpeg compressed rgb8"),
        "gives a file that is jpeg compressed rgb8, in which red and blue may be either way",
    ),
    "a hostile frame": (
        RAW.model_copy(update={"frame_id": "wrist"}),
        ImageReading.of(scene(), frame_id="\x1b[2J" * 10**5),
        r"comes from frame (\?\[2J){10}, expected wrist",
    ),
    "Bayer in a file": (
        FILE,
        packed(scene()[..., 0], ".jpg", "bayer_rggb8; jpeg compressed "),
        "gives bayer_rggb8, the raw",
    ),
}


@pytest.mark.parametrize("name", IMAGES)
def test_a_picture_that_is_not_the_contracts_is_refused_by_name(name: str) -> None:
    camera, reading, sentence = IMAGES[name]
    said = refusal("wrist", camera, reading)
    assert said is not None
    assert said.startswith(f"camera wrist: topic {camera.topic} ")
    with pytest.raises(ObservationError, match=sentence):
        raise ObservationError(said)
    assert said.isprintable()


@given(st.data())
def test_a_damaged_file_is_refused_or_decoded_and_nothing_else(data: st.DataObject) -> None:
    whole = bytearray(data.draw(st.sampled_from([PNG, JPEG])))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    reading = spoilt(packed(scene()), bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    if refusal("wrist", FILE, reading) is None:
        with suppress(ObservationError):
            assert decode("wrist", FILE, reading).shape == (HEIGHT, WIDTH, 3)


def test_what_is_whole_by_its_ends_and_damaged_between_is_no_picture() -> None:
    reading = spoilt(packed(scene()), JPEG[:-40].replace(b"\xff\xda", b"\xff\xd9") + JPEG[-40:])
    assert refusal("wrist", FILE, reading) is None
    with pytest.raises(
        ObservationError, match="camera wrist: topic image_raw/compressed gives a picture that cannot be"
    ):
        decode("wrist", FILE, reading)


def test_darkness_and_glare_are_noticed_where_the_contract_says_what_is_usual() -> None:
    watched = RAW.model_copy(update={"brightness": (20.0, 200.0)})
    assert decode("wrist", watched, ImageReading.of(scene())).any()
    for level, word in ((0, "black, its mean is 0.0"), (255, "overexposed, its mean is 255.0")):
        reading = ImageReading.of(np.full((HEIGHT, WIDTH, 3), level, dtype=np.uint8))
        assert decode("wrist", RAW, reading).mean() == level  # nobody said what is usual
        with pytest.raises(
            ObservationError, match=f"camera wrist: topic image_raw is {word} of 255, expected 20 to 200"
        ):
            decode("wrist", watched, reading)


@pytest.mark.parametrize("interpolation", ["area", "linear", "nearest"])
def test_what_is_seen_is_cropped_then_resized(interpolation: str) -> None:
    camera = RAW.model_copy(update={"crop": (10, 2, 8, 8), "size": (4, 4), "interpolation": interpolation})
    found = seen(scene(), camera)
    assert found.shape == (4, 4, 3)
    assert found.flags.owndata
    part = scene()[2:10, 10:18].astype(float)
    means = part.reshape(4, 2, 4, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(found, means, atol=1 if interpolation == "area" else 16)


def plainly(pixels: Any, camera: CameraField, blue_first: bool) -> Any:
    """Return what is seen as OpenCV gives it from bytes, one step after the other."""
    x, y, width, height = camera.used
    pixels = pixels[y : y + height, x : x + width]
    if pixels.shape[:2] != camera.size:
        how = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR, "nearest": cv2.INTER_NEAREST}[camera.interpolation]
        pixels = cv2.resize(pixels, camera.size[::-1], interpolation=how)
    pixels = pixels.reshape(*camera.size, -1)
    return pixels.repeat(3, axis=2) if pixels.shape[2] == 1 else pixels[..., ::-1] if blue_first else pixels


sides = st.integers(1, 40)


@examples(100)
@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    size=st.tuples(sides, sides),
    share=st.tuples(*[st.floats(0.0, 1.0)] * 4),
    interpolation=st.sampled_from(["area", "area", "linear", "nearest"]),
    encoding=st.sampled_from(["rgb8", "bgr8", "mono8"]),
    seed=st.integers(0, 99),
)
def test_what_is_seen_is_to_the_bit_what_one_step_after_the_other_gives(
    width: int, height: int, size: Any, share: Any, interpolation: str, encoding: str, seed: int
) -> None:
    x, y = int(share[0] * (width - 1)), int(share[1] * (height - 1))
    crop = (x, y, 1 + int(share[2] * (width - x - 1)), 1 + int(share[3] * (height - y - 1)))
    values = {"topic": "c", "width": width, "height": height, "size": size, "crop": crop, "encoding": encoding}
    camera = CameraField(**values, interpolation=interpolation)
    random = np.random.default_rng(seed)
    levels = [256, 2, 7][seed % 3]  # few of them have many averages between two numbers
    pixels = random.integers(0, levels, (height, width, camera.channels), dtype=np.uint8) * (255 // (levels - 1))
    for blue_first in (False, True):
        found = seen(pixels, camera, blue_first=blue_first)
        np.testing.assert_array_equal(found, plainly(pixels, camera, blue_first))
        assert found.flags.c_contiguous
        assert not np.shares_memory(found, pixels)


@pytest.mark.parametrize("kind", [".jpg", ".png"])
def test_the_pictures_of_a_usual_camera_are_seen_to_the_bit_as_ever(kind: str) -> None:
    camera = FILE.model_copy(update={"width": 640, "height": 480, "size": (64, 64)})
    reading = packed(cv2.resize(scene(16, 24), (640, 480)) ^ np.uint8(9), kind)
    pixels = cv2.imdecode(reading.data, cv2.IMREAD_COLOR)
    for size in ((64, 64), (48, 64), (84, 84), (224, 224)):
        now = camera.model_copy(update={"size": size})
        np.testing.assert_array_equal(decode("wrist", now, reading), plainly(pixels, now, blue_first=True))


def test_nothing_is_resized_that_need_not_be() -> None:
    pixels = scene()
    found = seen(pixels, RAW)
    np.testing.assert_array_equal(found, pixels)
    found[:] = 0
    assert pixels.any()  # what is seen is the policy's own
    grey = seen(pixels[..., 0], GREY)
    np.testing.assert_array_equal(grey, pixels[..., :1].repeat(3, axis=2))


LARGE = FILE.model_copy(update={"width": 96, "height": 64, "size": (8, 12), "crop": (16, 0, 64, 64)})
REDUCED = LARGE.model_copy(update={"decode": "reduced"})


@pytest.mark.parametrize("crop", [None, (16, 0, 64, 64)])
@pytest.mark.parametrize(
    ("kind", "format"), [(".jpg", "rgb8; jpeg compressed bgr8"), (".png", "rgb8; png compressed ")]
)
@pytest.mark.parametrize("encoding", ["rgb8", "mono8"])
def test_a_file_that_is_reduced_where_it_is_decoded_shows_the_same_place_in_the_same_colours(
    crop: Any, kind: str, format: str, encoding: str
) -> None:
    update = {"crop": crop, "encoding": encoding}
    whole, reduced = (camera.model_copy(update=update) for camera in (LARGE, REDUCED))
    pixels = scene(64, 96)
    pixels[20:40, 30:60] = 250
    reading = packed(pixels if encoding == "rgb8" else pixels[..., 0], kind, format.replace("rgb8", encoding))
    assert refusal("wrist", reduced, reading) is None
    shown, expected = (decode("wrist", camera, reading).astype(int) for camera in (reduced, whole))
    assert shown.shape == (8, 12, 3)
    assert np.abs(shown - expected).mean() < 1.5


def test_another_size_is_refused_of_a_file_that_is_reduced_too() -> None:
    reading = packed(scene(32, 48))
    assert "gives 48 x 32 pixels, the bundle was trained on 96 x 64" in str(refusal("wrist", REDUCED, reading))
    with pytest.raises(ObservationError, match="cannot be decoded"):
        decode("wrist", REDUCED, reading)
