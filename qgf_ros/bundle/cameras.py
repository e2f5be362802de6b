"""The cameras of a bundle: what a picture must be, what the policy sees of it, and how many numbers that becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from qgf_ros.bundle.fields import Finite, Name, ObservationField, Positive, Quality, Record, Topic

IMAGE: Literal["sensor_msgs/msg/Image"] = "sensor_msgs/msg/Image"
COMPRESSED: Literal["sensor_msgs/msg/CompressedImage"] = "sensor_msgs/msg/CompressedImage"
#: Name of the input of an encoder that takes the rest of the observation.
STATE = "state"
#: Most cameras of a bundle, and longest side of what a policy sees [pixels].
MOST_CAMERAS, MOST_SEEN = 16, 1024

_Side = Annotated[int, Field(ge=1, le=8192)]
_SeenSide = Annotated[int, Field(ge=1, le=MOST_SEEN)]
_Level = Annotated[float, Field(ge=0.0, le=255.0)]
_Features = Annotated[int, Field(ge=1, le=65_536)]


class CameraField(Record):
    """One camera, and what becomes of its pictures before the encoder sees them.

    Attributes:
        topic: Topic, relative to the node's namespace; of a compressed one the whole name, such as ``image_raw/compressed``.
        type: Full name of its message type.
        encoding: Of the pixels of the message; of a compressed one, whether it is of colour or mono8. What the policy sees
            is RGB.
        width, height: Of the message, as trained [pixels].
        crop: The part that is used: x and y of its upper left corner, width and height [pixels]; None for all.
        size: Height and width of what the policy sees [pixels].
        interpolation: By which the crop gets that size.
        decode: How JPEG files are decoded: full, or reduced by `reduction`, which takes half the time and gives other bits.
        max_age: Oldest acceptable picture [s].
        clock_offset: What the camera's clock is ahead of the host's [s]; it is taken from every stamp.
        frame_id: That of the message's header; another one is refused. None for any.
        frozen_after: How long [s] new stamps may come with the same picture; None for ever, as in a still simulation.
        brightness: Between which the mean of what the policy sees must lie [0 to 255]; None for anything, black too.
        quality: Quality of service of the subscription; of the pictures that wait, one is of use.
    """

    topic: Topic
    type: Literal["sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"] = IMAGE
    encoding: Literal["rgb8", "bgr8", "mono8"] = "rgb8"
    width: _Side
    height: _Side
    crop: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)], _Side, _Side] | None = None
    size: tuple[_SeenSide, _SeenSide]
    interpolation: Literal["area", "linear", "nearest"] = "area"
    decode: Literal["full", "reduced"] = "full"
    max_age: Positive = 0.2
    clock_offset: Annotated[Finite, Field(ge=-1e6, le=1e6)] = 0.0
    frame_id: Annotated[str, Field(max_length=255)] | None = None
    frozen_after: Positive | None = None
    brightness: tuple[_Level, _Level] | None = None
    quality: Quality = Quality(depth=1)

    @model_validator(mode="after")
    def _consistent(self) -> CameraField:
        if self.crop is not None:
            x, y, width, height = self.crop
            if x + width > self.width or y + height > self.height:
                raise ValueError(
                    f"camera on {self.topic}: crop {self.crop} (x, y, width, height) does not lie in the picture of "
                    f"{self.width} x {self.height} pixels"
                )
        if self.decode == "reduced" and (self.type == IMAGE or self.reduction == 1):
            raise ValueError(
                f"camera on {self.topic}: decode reduced is for JPEG files whose picture and crop {self.used} (x, y, width, "
                f"height) are even, and at least four times as wide and high as what is seen, {self.size}; leave it out"
            )
        if self.brightness is not None and self.brightness[0] >= self.brightness[1]:
            raise ValueError(f"camera on {self.topic}: brightness {self.brightness} must be (lowest, highest)")
        return self

    @property
    def channels(self) -> int:
        """Numbers of a pixel of the message."""
        return 1 if self.encoding == "mono8" else 3

    @property
    def most_bytes(self) -> int:
        """Most bytes that a picture may have: those of its pixels, and 64 KiB for rows that are padded, or a header."""
        return self.width * self.height * self.channels + 2**16

    @property
    def used(self) -> tuple[int, int, int, int]:
        """The part that is used: x, y, width and height [pixels]."""
        return (0, 0, self.width, self.height) if self.crop is None else self.crop

    @property
    def reduction(self) -> int:
        """By what a JPEG is reduced where it is decoded: 1, 2, 4 or 8.

        At least two pixels remain for each one that is seen, each way, so that the interpolation has its part still, and no
        pixel is cut by the crop.
        """
        if self.decode == "full":
            return 1
        height, width = self.size
        whole = (self.width, self.height, *self.used)
        return max(
            by
            for by in (1, 2, 4, 8)
            if by == 1
            or (self.used[2] >= 2 * by * width and self.used[3] >= 2 * by * height and not any(n % by for n in whole))
        )

    def host_stamp(self, stamp: int) -> int:
        """Return when the host's clock said that a picture was taken [ns], of its stamp [ns]; of 0, which is none, 0."""
        return stamp - round(self.clock_offset * 1e9) if stamp else 0


class Encoding(Record):
    """What the encoders of a bundle make of an observation.

    Attributes:
        features: Numbers Z that ``encoder.onnx`` gives, which the velocity field takes, and the critics but for those below.
        critics: Of each critic with an encoder of its own, the numbers that it gives.
    """

    features: _Features
    critics: dict[Name, _Features] = Field(default_factory=dict)


def check_cameras(
    cameras: Mapping[str, CameraField],
    encoding: Encoding | None,
    fields: Sequence[ObservationField],
    critics: Mapping[str, object],
) -> None:
    """Raise ValueError where cameras, encoders, observation fields and critics do not fit together."""
    if not fields and not cameras:
        raise ValueError("no observation field and no camera was given; a policy must see something")
    if bool(cameras) != (encoding is not None):
        raise ValueError(
            "cameras were given without an encoding; say how many features the encoder has"
            if cameras
            else "an encoding was given without cameras; leave it out"
        )
    taken = {field.topic: f"field {field.name}" for field in fields if field.constant is None}
    for name, camera in cameras.items():
        if name == STATE:
            raise ValueError(f"a camera is named {STATE}, as the rest of the observation is; choose another name")
        if camera.topic in taken:
            raise ValueError(f"camera {name} and {taken[camera.topic]} share topic {camera.topic}; each needs its own")
        taken[camera.topic] = f"camera {name}"
    unknown = sorted(encoding.critics.keys() - critics.keys()) if encoding is not None else []
    if unknown:
        raise ValueError(f"encoding: critic {unknown[0]} has an encoder, but the critics are {', '.join(critics)}")
