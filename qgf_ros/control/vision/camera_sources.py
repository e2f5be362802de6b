"""Where a robot's cameras are: what its contract says of a bundle's cameras, and what it may not say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qgf_ros.bundle.cameras import COMPRESSED, CameraField, check_cameras
from qgf_ros.bundle.fields import Finite, ObservationField, Positive, Quality
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.text import first_complaint, one_line
from qgf_ros.errors import ContractError

#: What image_transport adds to a topic for its compressed pictures.
_COMPRESSED_TOPIC = "/compressed"


class CameraSource(BaseModel):
    """Where the pictures of one camera come from on this robot; what is not given stays as the bundle has it.

    Size, crop and what the policy sees are the bundle's: pictures of another size are no pictures that it was trained on.

    Attributes:
        topic, type, encoding, max_age, clock_offset, frame_id, frozen_after, brightness, quality: As in `CameraField`. A
            type without a topic takes that of the bundle, of a CompressedImage with ``/compressed``, as image_transport does,
            and of an Image without.
        allow_publishers: How many may publish the topic [1].
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    topic: Annotated[str, Field(min_length=1)] | None = None
    type: Literal["sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"] | None = None
    encoding: Literal["rgb8", "bgr8", "mono8"] | None = None
    max_age: Positive | None = None
    clock_offset: Finite | None = None
    frame_id: str | None = None
    frozen_after: Positive | None = None
    brightness: tuple[Finite, Finite] | None = None
    quality: Quality | None = None
    allow_publishers: Annotated[int, Field(ge=1, le=16)] = 1


def served_cameras(
    manifest: Manifest, sources: Mapping[str, CameraSource], fields: Sequence[ObservationField]
) -> dict[str, CameraField]:
    """Return the cameras of a bundle as a robot serves them.

    Args:
        manifest: Of the bundle.
        sources: The robot's, by name.
        fields: The observation fields as the robot serves them.

    Raises:
        ContractError: A camera is not the bundle's, its source does not fit it, or it shares a topic.
    """
    cameras = manifest.cameras
    unknown = [name for name in sources if name not in cameras]
    if unknown:
        known = f"has {', '.join(cameras)}" if cameras else "has no cameras"
        raise ContractError(f"camera {one_line(unknown[0])} is in the contract, but bundle {manifest.name} {known}")
    served = {name: _served(name, camera, sources.get(name)) for name, camera in cameras.items()}
    try:
        check_cameras(served, manifest.encoding, fields, manifest.critics)
    except ValueError as error:
        raise ContractError(f"the contract does not hold together: {error}") from error
    return served


def _served(name: str, camera: CameraField, source: CameraSource | None) -> CameraField:
    if source is None:
        return camera
    given = source.model_dump(exclude={"allow_publishers"}, exclude_unset=True)
    if source.encoding is not None and (source.encoding == "mono8") != (camera.encoding == "mono8"):
        raise ContractError(
            f"camera {name}: encoding {source.encoding} was given, the bundle was trained on {camera.encoding}; a policy that "
            "knows colours needs them, and one that knows none must not get any"
        )
    if source.topic is None and source.type not in (None, camera.type):
        plain = camera.topic.removesuffix(_COMPRESSED_TOPIC)
        given["topic"] = plain + _COMPRESSED_TOPIC if source.type == COMPRESSED else plain
    try:
        return CameraField.model_validate({**camera.model_dump(), **given})
    except ValidationError as error:
        raise ContractError(
            f"camera {name} of the contract does not fit the bundle: {first_complaint(error)}"
        ) from error


def camera_template(cameras: Mapping[str, CameraField]) -> list[str]:
    """Return the lines of a robot contract that say of cameras what the bundle says; none without any."""
    lines = ["cameras:"] if cameras else []
    for name, camera in cameras.items():
        lines += [
            f"  {name}:  # {camera.type.rpartition('/')[2]}, {camera.encoding}, {camera.width} x {camera.height} pixels",
            f"    topic: {camera.topic}",
            f"    max_age: {camera.max_age:g}  # [s]",
        ]
    return lines
