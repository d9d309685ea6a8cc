"""The front door: `toylab COMMAND ...`. Parses, dispatches, and turns every expected failure into one line
and an exit code.

Exit 0: all as expected; 1: some verdict is not; 2: bad input or a refusal (`{"error", "hint"}` under
`--json`); 130: interrupted.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from toylab.commands import COMMANDS
from toylab.commands.parts.refusal import BadInput
from toylab.commands.parts.shadowing import shadowed
from toylab.discovery import DiscoveryError

OK, UNEXPECTED, BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (default: the process's own), return its exit code; never raises for bad input."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in arguments
    try:
        code = _dispatched(arguments)
        sys.stdout.flush()
        return code
    except BadInput as refusal:
        return _reported(refusal.message, refusal.hint, as_json, BAD_INPUT)
    except DiscoveryError as broken:
        return _reported(broken.message, broken.hint, as_json, BAD_INPUT)
    except KeyboardInterrupt:
        return _reported("interrupted", "", as_json, INTERRUPTED)
    except BrokenPipeError:
        # the reader went away (`toylab verify | head`); what Python flushes at exit must not complain again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def entry() -> NoReturn:
    """The command `toylab`: `main`, and its code.

    Ctrl-C ends the process at once: with a compilation under way in another thread the interpreter's own end crashes.
    """
    code = main()
    if code == INTERRUPTED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInput(message, f"see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="toylab", description="A laboratory for the training dynamics of optimizers.", allow_abbrev=False
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        command.add_argument(
            "--json", action="store_true", help="print exactly one JSON object, and nothing else, on stdout"
        )
        importlib.import_module(f"toylab.commands.{name}").configure(command)
    return parser


def _dispatched(arguments: list[str]) -> int:
    parser = _parser()
    if not arguments:
        parser.print_help()
        return OK
    if not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        near = difflib.get_close_matches(arguments[0], COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else "see toylab --help"
        raise BadInput(f"no command is called {arguments[0]!r}: commands are {', '.join(COMMANDS)}", hint)
    try:
        options = parser.parse_args(arguments)
    except SystemExit:  # --help has printed itself
        return OK
    if options.version:
        from importlib.metadata import version

        print(version("toylab"))
        return OK
    if options.command is None:
        raise BadInput("no command was given", "see toylab --help")
    for warning in shadowed():
        print(f"toylab: warning: {warning}", file=sys.stderr)
    _enable_x64()
    return importlib.import_module(f"toylab.commands.{options.command}").run(options)


def _enable_x64() -> None:
    """Double precision, unless the user chose a precision with JAX's own variable."""
    if "JAX_ENABLE_X64" not in os.environ:
        import jax

        jax.config.update("jax_enable_x64", True)


def _reported(error: str, hint: str, as_json: bool, code: int) -> int:
    error, hint = (" ".join(text.split()) for text in (error, hint))
    if as_json:
        print(json.dumps({"error": error, "hint": hint}))
    else:
        print(f"toylab: {error}" + (f" ({hint})" if hint else ""), file=sys.stderr)
    return code
