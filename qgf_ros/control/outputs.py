"""What the controllers of a robot are sent for a command: the outputs of a robot contract.

A command is float64 [A] in the units of the action contract and inside every limit of the safety envelope. An output
takes its own components of it, adds displacements up to positions where it is told to, switches between two positions
where it is told to, and ends in the controller's unit with ``sent = value * scale + offset``. The scale of the manifest
comes first, before the limits; this one last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.fields import ActionField
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control.command import Command
from qgf_ros.control.output_source import ANGLES, OutputSource, SwitchSource, check_output, switched_positions
from qgf_ros.errors import ContractError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sent:
    """What one message says.

    Attributes:
        values: One row for each time, in the controller's units, float64 [K, F]; K is 1 but for a trajectory.
        stamp: Of the observation answered [ns]; 0 for a trajectory that begins on arrival.
        velocities: How fast a trajectory is to pass each row, in those units per second, float64 [K, F]; None for others.
    """

    values: Array
    stamp: int
    velocities: Array | None = None


def wrapped(angles: Array) -> Array:
    """Return angles [rad] in (-pi, pi]; those inside keep every bit."""
    turned = np.pi - np.mod(np.pi - angles, 2.0 * np.pi)
    turned = np.where(turned > -np.pi, turned, np.pi)  # where rounding made the remainder a whole turn
    return np.where((angles > -np.pi) & (angles <= np.pi), angles, turned)


def quaternion_xyzw(roll: float, pitch: float, yaw: float) -> Array:
    """Return the rotation by roll about x, then pitch about y, then yaw about z of the fixed frame, float64 [4]."""
    (cr, cp, cy), (sr, sp, sy) = (turn(np.array([roll, pitch, yaw]) / 2.0).tolist() for turn in (np.cos, np.sin))
    return np.array(
        [
            sr * cp * cy - cr * sp * sy,
            cr * sp * cy + sr * cp * sy,
            cr * cp * sy - sr * sp * cy,
            cr * cp * cy + sr * sp * sy,
        ]
    )


class Switch:
    """Two positions for each field, of which the command chooses with hysteresis, and not too often.

    It begins where the command says; between the thresholds, where the robot is measured or, unknown, at the nearer one.
    From then on one switch of a field is at least `SwitchSource.dwell` after the one before, by the stamps of commands.

    Args:
        source: Thresholds and dwell.
        fields: F of them, which have two positions each.
    """

    def __init__(self, source: SwitchSource, fields: Sequence[ActionField]) -> None:
        self._above, self._below, self._dwell = source.above, source.below, round(source.dwell * 1e9)
        positions = [switched_positions(source, field) or (0.0, 0.0) for field in fields]
        self._lower, self._upper = np.array(positions, dtype=np.float64).T
        self._high: NDArray[np.bool_] | None = None
        self._since = np.zeros(len(fields), dtype=np.int64)

    @property
    def positions(self) -> Array | None:
        """What was chosen last, float64 [F]; None before the first command."""
        return None if self._high is None else np.where(self._high, self._upper, self._lower)

    def choose(self, values: Array, stamp: int, measured: Array, *, begins: bool) -> Array:
        """Return the positions for a command, float64 [F].

        Args:
            values: The command, float64 [F].
            stamp: Its stamp [ns].
            measured: Where the robot is, float64 [F]; NaN if unknown.
            begins: Whether it is the first one, or the first after a hold, when the robot may have been moved.
        """
        middle = (self._above + self._below) / 2.0
        high = values > middle if self._high is None else self._high
        if begins or self._high is None:
            high = np.where(np.isfinite(measured), measured > middle, high)
        high = np.where(values > self._above, True, np.where(values < self._below, False, high))
        if self._high is None:
            self._since[:] = stamp
        else:
            self._since = np.minimum(self._since, stamp)  # a clock that fell back counts anew
            due = (high != self._high) & (stamp - self._since >= self._dwell)
            high = np.where(due, high, self._high)
            self._since[due] = stamp
        self._high = high
        positions: Array = np.where(high, self._upper, self._lower)
        return positions


class Output:
    """One output at work.

    Args:
        source: What the contract says.
        manifest: The bundle, whose limits are those of the robot.

    Attributes:
        fields: Its components of the action, in the controller's order.
        names: The controller's names for them.
        period: Control period [s].
        previews: Whether it sends what follows a command, too.

    Raises:
        ContractError: The output does not fit the bundle; the message names output and field.
    """

    def __init__(self, source: OutputSource, manifest: Manifest) -> None:
        known = {action.name: i for i, action in enumerate(manifest.action)}
        renamed = {name: name for name in known} if source.fields is None else source.fields
        unknown = [name for name in renamed if name not in known]
        if unknown:
            raise ContractError(
                f"{source} takes {unknown[0]}, but the actions of bundle {manifest.name} are {', '.join(known)}"
            )
        self.source = source
        self.topic = source.address
        self.fields = tuple(manifest.action[known[name]] for name in renamed)
        self.names = tuple(renamed.values())
        self.period = 1.0 / manifest.control_rate
        self._index = np.array([known[name] for name in renamed], dtype=np.intp)
        self._velocity = source.type == "twist_stamped"
        self.previews = source.type == "joint_trajectory"
        self._integrated = source.integrate != "none"
        self._positions_sent = self._integrated or any(field.hold is None for field in self.fields)
        check_output(source, self.fields, self.names)
        self._scale = np.broadcast_to(source.scale, len(self.fields))
        self._offset = np.broadcast_to(source.offset, len(self.fields))
        self._plain = bool((self._scale == 1.0).all() and not self._offset.any())  # and passes to the bit
        self._angles = [i for i, name in enumerate(self.names) if source.type == "pose_stamped" and name in ANGLES]
        self._switch = Switch(source.hysteresis, self.fields) if source.hysteresis is not None else None
        boxes = np.array([field.workspace or (-np.inf, np.inf) for field in self.fields]).T
        self._lower, self._upper = boxes
        self._plan = np.empty((0, len(self.fields)))  # what was sent last, in the units of the action
        self._stamp = 0

    @property
    def converts(self) -> bool:
        """Whether it sends other values than the command's."""
        own_form = self._integrated or self._velocity or self._switch is not None or bool(self._angles)
        return own_form or not self._plain

    def describe(self) -> tuple[str, ...]:
        """Return name and unit under which each field is sent, such as ``linear.x [m/s]``, ``knee [rad * 57.3 - 90]``."""
        unit = [f"{field.unit}/s" if self._velocity else field.unit for field in self.fields]
        scale = [f" * {value:g}" if value != 1.0 else "" for value in self._scale]
        offset = [f" {'-' if value < 0.0 else '+'} {abs(value):g}" if value else "" for value in self._offset]
        return tuple(f"{name} [{u}{s}{o}]" for name, u, s, o in zip(self.names, unit, scale, offset))

    def command(self, command: Command) -> Sent:
        """Return what a command says here."""
        rows = command.values[None]
        if self.previews:
            rows = np.concatenate([rows, command.upcoming.reshape(-1, len(command.values))])
        rows = rows[:, self._index]
        if self._integrated:
            rows = self._positions(self._start(command), rows)
        self._plan, self._stamp = rows, command.stamp
        if self._switch is not None:
            measured = command.measured[self._index]
            rows = self._switch.choose(rows[0], command.stamp, measured, begins=command.begins)[None]
        return self._sent(rows, command.stamp)

    def hold(self, values: Array, stamp: int, now: int, *, moved: bool = False) -> Sent | None:
        """Return what keeps the robot still here: no velocity, no displacement, and the position sent last.

        A trajectory goes on to its next point, where it would be in at most a period, and ends there, for good: a point
        that was passed already would call the robot back.

        Args:
            values: The hold of the safety envelope, float64 [A].
            stamp: Stamp of the last command [ns].
            now: Time by the clock of that stamp, whatever was set since [ns].
            moved: Whether the robot may have been moved since the last command was carried out: no position is sent then.

        Returns:
            None if no position was sent yet, and so none is to be kept, or none that is known to be where the robot is.
        """
        if moved and self._positions_sent and now > self._stamp + len(self._plan) * self._step:
            return None
        row = values[self._index]
        if self._switch is not None:
            positions = self._switch.positions
            return None if positions is None else self._sent(positions[None], stamp)
        if self._integrated or self.previews:
            if not len(self._plan):
                return None
            row = self._due(-((self._stamp - now) // self._step))
            self._plan = row[None]
        return self._sent(row[None], 0 if self.previews else stamp)

    def lead_back(self, command: Command, now: int) -> Sent | None:
        """Return what leads a robot that stands back to where it is, by a command on its way there, or as `hold`.

        A trajectory gives up its points for that command, a period from now. A gripper that switches stays as it is: led
        back, it would let go of what it has gripped.
        """
        if self._switch is not None or (self.previews and self._integrated):
            return self.hold(command.values, command.stamp, now)
        if not self.previews:
            return self.command(command)
        self._plan = command.values[self._index][None]
        return self._sent(self._plan, 0)

    @property
    def _step(self) -> int:
        return round(self.period * 1e9)

    def _due(self, periods: int) -> Array:
        """Return the row that is due a number of control periods after the last stamp."""
        row: Array = self._plan[min(max(periods - 1, 0), len(self._plan) - 1)]
        return row

    def _start(self, command: Command) -> Array:
        """Return the position that displacements are added to."""
        if self.source.integrate == "measured" or command.begins or not len(self._plan):
            return command.measured[self._index]
        return self._due(round((command.stamp - self._stamp) / self._step))

    def _positions(self, place: Array, steps: Array) -> Array:
        """Add displacements up from a place, inside the workspace; from outside, only the way back is open."""
        positions = np.empty_like(steps)
        for k, step in enumerate(steps):
            lower, upper = np.minimum(self._lower, place), np.maximum(self._upper, place)
            positions[k] = place = np.clip(place + step, lower, upper)
        return positions

    def _sent(self, rows: Array, stamp: int) -> Sent:
        values = self._convert(rows)
        return Sent(values, stamp, self._velocities(values) if self.previews else None)

    def _velocities(self, rows: Array) -> Array:
        """Return the differences to the following rows per second, and rest at the last one.

        Nothing is known of what follows the last row, and a trajectory that moves there is refused by
        joint_trajectory_controller.
        """
        velocities = np.zeros_like(rows)
        velocities[:-1] = (rows[1:] - rows[:-1]) / self.period
        return velocities

    def _convert(self, rows: Array) -> Array:
        if self._velocity:
            rows = rows / self.period
        rows = rows if self._plain else rows * self._scale + self._offset
        if self._angles:
            rows = rows.copy()
            rows[:, self._angles] = wrapped(rows[:, self._angles])
        return rows
