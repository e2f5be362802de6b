"""What the command line says of arguments that it cannot take: one sentence, with the nearest name that there is."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tyro

from qgf_ros.errors import QgfError, did_you_mean

#: Shows the help of a command, given as its words.
Help = Callable[[Sequence[str]], None]


class UsageError(QgfError):
    """A command, an option or the value of one is none that there is."""


@contextlib.contextmanager
def one_sentence(arguments: Sequence[str], show_help: Help) -> Iterator[None]:
    """Make a rejection by tyro a UsageError, where tyro tells of one; another version may print a box and leave.

    Args:
        arguments: Those of the process.
        show_help: Prints what a command takes, for names that are near to what was given.
    """
    events = getattr(tyro, "_errors", None)
    if events is None or not hasattr(events, "on_parse_error"):
        yield
        return

    def complain(event: Any) -> None:
        command, text = _command_of(arguments, show_help)
        sentence = _sentence(type(event).__name__, event, command, text)
        if sentence is not None:
            raise UsageError(sentence if sentence.endswith("?") else f"{sentence}; see {command} --help")

    with events.on_parse_error(complain):
        yield


def _command_of(arguments: Sequence[str], show_help: Help) -> tuple[str, str]:
    """Return the command that was called, sub-commands and all, and its help."""
    words: list[str] = []
    text = _help(words, show_help)
    for argument in arguments:
        if argument not in _commands(text):
            break
        words.append(argument)
        text = _help(words, show_help)
    return " ".join(["qgf", *words]), text


def _help(words: Sequence[str], show_help: Help) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        show_help(words)
    return out.getvalue()


def _commands(text: str) -> list[str]:
    """Return the sub-commands that a help lists."""
    usage = re.sub(r"\s+", "", text.partition("\n\n")[0])
    found = re.search(r"\{([a-z0-9_,-]+)\}", usage)
    return found[1].split(",") if found else []


def _options(text: str) -> list[str]:
    """Return the options that a help lists."""
    return sorted(set(re.findall(r"(?<![\w-])--[a-z0-9][a-z0-9-]*", text)))


def _sentence(kind: str, event: Any, command: str, text: str) -> str | None:
    """Return what was given and what was expected, or None for an event that is not known."""
    if kind == "UnrecognizedArgs":
        return _unrecognized(str(event.tokens[0]), command, text)
    if kind == "MissingArgs":
        missing = ", ".join(_name_of(one.arg) for one in event.missing_arguments)
        unknown = f", and does not know {event.unrecognized_tokens[0]}" if event.unrecognized_tokens else ""
        return f"{command} needs {missing}{unknown}"
    if kind == "MissingSubcommand":
        return f"{command} needs one of {', '.join(event.subcommand_spec.parser_from_name)}"
    if kind == "BadValue":
        return f"{_name_of(event.argument)} was given without its value"
    if kind == "InvalidChoice":
        choices = [choice for choice in event.choices if choice != "None"]  # which is given by giving nothing
        near = did_you_mean(event.value, choices)
        return f"{_name_of(event.argument)} {event.value} was given, expected one of {', '.join(choices)}{near}"
    if kind == "InstantiationFailure":
        return _not_made(event.argument, event.message)
    return None


def _unrecognized(token: str, command: str, text: str) -> str:
    commands = _commands(text)
    if token.startswith("-"):
        name = token.partition("=")[0]
        return f"{command} has no option {name}{did_you_mean(name.replace('_', '-'), _options(text))}"
    if commands:
        return f"{command} has no command {token}{did_you_mean(token, commands)}"
    return f"{token} was given to {command}, which takes no more words"


def _name_of(argument: Any) -> str:
    """Return what an argument is called where it is given."""
    if argument.is_positional():
        return str(argument.lowered.metavar)
    return str(max(argument.lowered.name_or_flags, key=len))


def _not_made(argument: Any, message: str) -> str:
    """Return which word made no value of an argument, and what would, without the types that were tried."""
    reason = message.strip().splitlines()[-1].rpartition(": ")[2]
    if argument is None:
        return reason
    if " was given" in reason:  # the types of ours say all of it
        return f"{_name_of(argument)}: {reason}"
    given = re.search(r"instantiated from \[(.*)\]", message) or re.search(r"('.*')$", message)
    expected = _WORDS.get(argument.lowered.metavar, argument.lowered.metavar)
    return f"{_name_of(argument)} {given[1] if given else message} was given, expected {expected}"


#: What tyro calls a type, in words.
_WORDS = {"INT": "an integer", "FLOAT": "a number", "STR": "a text", "PATH": "a path"}
