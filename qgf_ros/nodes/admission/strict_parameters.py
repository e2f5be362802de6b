"""A node that lets in no parameter it does not know, and none of another type or range.

rclpy ignores a value that was given for a name nobody declares. Here that is refused at the start, by its name, with
the nearest known one. A value of another type is taken or refused by the rule of `parameter_types`, at the start as
later; and a value that changes nothing is never refused, so that a node takes its own dump.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from qgf_ros.errors import ParameterError, did_you_mean
from qgf_ros.nodes.admission.parameter_types import WORDS, check_range, fitted, is_same

#: What rclpy itself knows, in this release or another.
OF_RCLPY = ("use_sim_time", "start_type_description_service")
_QUALITIES = "qos_overrides."


class StrictParameters:
    """What a node class gets by naming this before `rclpy.node.Node` among its bases."""

    # Of the node.
    _parameter_overrides: dict[str, Parameter]
    _parameters: dict[str, Parameter]
    get_name: Callable[[], str]
    has_parameter: Callable[[str], bool]
    get_parameter: Callable[[str], Parameter]
    describe_parameter: Callable[[str], ParameterDescriptor]

    def declare_parameter(
        self,
        name: str,
        value: Any = None,
        descriptor: ParameterDescriptor | None = None,
        ignore_override: bool = False,
    ) -> Parameter:
        """Declare a parameter; what was given for it at the start becomes its value, in its type.

        Raises:
            ParameterError: What was given is of another type, or out of range.
        """
        descriptor = ParameterDescriptor() if descriptor is None else descriptor
        given = self._parameter_overrides.get(name)
        if given is None or ignore_override:
            return super().declare_parameter(name, value, descriptor, ignore_override)  # type: ignore[misc]
        wanted = None if descriptor.dynamic_typing else Parameter.Type.from_parameter_value(value)
        admitted = self._parameter_overrides[name] = _admitted(name, given.value, wanted, value, descriptor)
        # An empty list has no type of its own: rclpy would take it for one of bytes.
        super().declare_parameter(name, value, descriptor, admitted.value == [])  # type: ignore[misc]
        self._parameters[name] = admitted
        return admitted

    def take_map(self, name: str, write: Callable[[Mapping[str, Any]], str]) -> None:
        """Turn what was given for a text as a map, before it is declared, into that text.

        Args:
            name: Of the parameter.
            write: Makes the text of the values by dotted name.

        Raises:
            ParameterError: It was given as a text and as a map.
        """
        prefix = f"{name}."
        dotted = [one for one in self._parameter_overrides if one.startswith(prefix)]
        if not dotted:
            return
        text = self._parameter_overrides.get(name)
        if text is not None and text.value:
            raise ParameterError(f"{name} was given as a text, {text.value!r}, and as a map; give one of them")
        values = {one.removeprefix(prefix): self._parameter_overrides.pop(one).value for one in dotted}
        self._parameter_overrides[name] = Parameter(name, value=write(values))

    def refuse_unknown(self, others: Collection[str] = ()) -> None:
        """Refuse what was given for a name that is not declared; call it when everything is.

        Args:
            others: Names that are let pass: those of a node that is given the same parameter file.

        Raises:
            ParameterError: There is such a name.
        """
        for name in self._parameter_overrides:
            known = self.has_parameter(name) or name in OF_RCLPY or name.startswith(_QUALITIES)
            if not known and name.partition(".")[0] not in others:
                raise ParameterError(self._complaint(name, others))

    def set_parameters_atomically(self, parameter_list: Sequence[Parameter]) -> SetParametersResult:
        """Set parameters, as the services do; the result says what was refused and why."""
        try:
            wanted = [self._admit(parameter) for parameter in parameter_list]
        except ParameterError as error:
            return SetParametersResult(successful=False, reason=str(error))
        changes = [parameter for parameter in wanted if not self.describe_parameter(parameter.name).read_only]
        if wanted and not changes:
            return SetParametersResult(successful=True)
        return super().set_parameters_atomically(changes)  # type: ignore[misc]

    def _admit(self, parameter: Parameter) -> Parameter:
        name = parameter.name
        if not self.has_parameter(name):
            raise ParameterError(self._complaint(name))
        if parameter.type_ is Parameter.Type.NOT_SET:
            raise ParameterError(f"parameter {name} cannot be deleted; set it to another value")
        descriptor = self.describe_parameter(name)
        wanted = None if descriptor.dynamic_typing else Parameter.Type(descriptor.type)
        present = self.get_parameter(name).value
        admitted = _admitted(name, parameter.value, wanted, present, descriptor)
        if descriptor.read_only and not is_same(admitted.value, present):
            raise ParameterError(f"{name} is read-only; give it when the process starts")
        return admitted

    def _complaint(self, name: str, others: Iterable[str] = ()) -> str:
        first, dot, _ = name.partition(".")
        if dot and self.has_parameter(first):
            kind = WORDS[self.get_parameter(first).type_]
            return f"parameter {first} was given as a map ({name}); it must be {kind}"
        return (
            f"{self.get_name()} has no parameter {name}{did_you_mean(name, [*self._parameters, *others]) or _ELSEWHERE}"
        )


_ELSEWHERE = "; ros2 param list names those it has, and what a file says to other nodes goes under their names, not /**"


def _admitted(
    name: str, given: Any, wanted: Parameter.Type | None, present: Any, descriptor: ParameterDescriptor
) -> Parameter:
    value = fitted(name, given, wanted, present)
    check_range(name, value, descriptor)
    return Parameter(name, value=value) if wanted is None else Parameter(name, wanted, value)


class StrictNode(StrictParameters, Node):  # type: ignore[misc]
    """A plain node that is strict about its parameters."""
