"""The options of a command in groups: what it guides with, how it executes, what it writes, and what it runs on."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple, get_type_hints

import docstring_parser
import tyro

from qgf_ros.commands.show.algorithm_arguments import defaults_by_option
from qgf_ros.control.run_options import ROWS

#: Which options stand together; any other is the command's own, and so are those of a run where it makes no run, and those
#: of an algorithm where it trains none.
GROUPS: dict[str, tuple[str, ...]] = {
    "algorithm": tuple(defaults_by_option()),
    "guidance": (
        "guidance_weight",
        "guidance_weights",
        "use_recommended_weight",
        "critic",
        "estimator",
        "num_samples",
        "weight_schedule",
        "ascent_steps",
        "ascent_sign",
        "max_gradient_norm",
        "disagreement_scale",
        "unguided_actions",
        "max_guidance_deviation",
        "guidance_weight_slew",
    ),
    "execution": ("execution", "execution_horizon", "seam", "blend_steps", "delay", "batch_size"),
    "output": ("out", "json", "trials", "sheet", "dry_run", "force", "save_every", "description", "licence"),
    "machine": ("workers", "threads", "device", "compile", "precision", "ray", "port"),
}

_OF_A_RUN = ("guidance", "execution")
#: A list of values to try stands beside the single value.
_MEMBERS = {
    group: (*names, *(ROWS[name].plural for name in names if name in ROWS and ROWS[name].plural))
    for group, names in GROUPS.items()
}
_RUN_NAMES = {*ROWS, *(row.plural for row in ROWS.values() if row.plural)}


class _Option(NamedTuple):
    """An option on the command line, and the parameter of the command that it is given to, or a part of."""

    name: str
    kind: Any
    default: Any
    parameter: str


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command whose options show in groups; it is called with the same values, and its options keep their names.

    Args:
        command: Described by its docstring; a parameter that a function makes of several options has each of them.
    """
    hints = get_type_hints(command, include_extras=True)
    described = {
        found.arg_name: found.description or "" for found in docstring_parser.parse(command.__doc__ or "").params
    }
    makers = {name: maker for name, hint in hints.items() if (maker := _maker(hint)) is not None}
    made = {name for maker in makers.values() for name in inspect.signature(maker).parameters}
    absent = {*(() if made & _RUN_NAMES else _OF_A_RUN), *(() if made & set(GROUPS["algorithm"]) else ("algorithm",))}
    group_of = {name: group for group, names in _MEMBERS.items() if group not in absent for name in names}
    options: list[_Option] = []
    signature: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in makers:
            options += [
                _Option(option.name, option.annotation, option.default, name)
                for option in inspect.signature(makers[name]).parameters.values()
            ]
        elif parameter.kind is parameter.POSITIONAL_ONLY or name not in group_of:
            signature.append(parameter.replace(annotation=hints[name]))
        else:
            kind = operator.getitem(Annotated, (hints[name], tyro.conf.arg(help=described.get(name, ""))))
            options.append(_Option(name, kind, parameter.default, name))
    signature += [_as_parameter(option) for option in options if option.name not in group_of]
    groups = {group: [option for option in options if group_of.get(option.name) == group] for group in GROUPS}
    signature += [_group_parameter(group, members) for group, members in groups.items() if members]

    def run(*positional: Any, **given: Any) -> None:
        values = dict(_flat(given))
        parts: dict[str, dict[str, Any]] = {parameter: {} for parameter in makers}
        for option in options:
            if option.parameter in makers:
                parts[option.parameter][option.name] = values.pop(option.name)
        command(*positional, **values, **{name: make(**parts[name]) for name, make in makers.items()})

    order = sorted(signature, key=lambda one: (one.kind, one.default is not one.empty))
    run.__signature__ = inspect.Signature(order)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in order}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def _maker(hint: Any) -> Callable[..., Any] | None:
    """Return the function that makes a parameter of options, if there is one."""
    for setting in getattr(hint, "__metadata__", ()):
        factory = getattr(setting, "constructor_factory", None)
        if factory is not None:
            found: Callable[..., Any] = factory()
            return found
    return None


def _as_parameter(option: _Option) -> inspect.Parameter:
    return inspect.Parameter(
        option.name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=option.kind
    )


def _group_parameter(group: str, members: list[_Option]) -> inspect.Parameter:
    """Return the parameter that makes a mapping of the options of a group."""

    def collect(**values: Any) -> dict[str, Any]:
        return values

    collect.__signature__ = inspect.Signature([_as_parameter(option) for option in members])  # type: ignore[attr-defined]
    collect.__annotations__ = {option.name: option.kind for option in members}
    kind = Annotated[dict[str, Any], tyro.conf.arg(name=group, constructor=collect)]
    return inspect.Parameter(_parameter_name(group), inspect.Parameter.KEYWORD_ONLY, annotation=kind)


def _parameter_name(group: str) -> str:
    """Return a name that no option has: one of execution is called like its group."""
    return f"{group}_options"


def _flat(given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    groups = {_parameter_name(group) for group in GROUPS}
    for name, value in given.items():
        if name in groups:
            yield from value.items()
        else:
            yield name, value
