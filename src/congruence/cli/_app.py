"""The app: its commands, and what becomes of errors.

Exit codes: 0 done; 1 a gate failed; 2 wrong usage or bad input; 3 finished with failed pairs; 70 a fault in congruence
(with its traceback); 130 interrupted; 141 the reader of the output went away (``| head``).
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated, TextIO

import typer

from congruence import __version__
from congruence.cli import bench, compare, demo, extract, identifiability, inspect, layers, measures, report, study
from congruence.cli._terminal import complain, note
from congruence.errors import CongruenceError, CongruenceWarning

ABOUT = (
    "Compare the internal representations of neural networks, and say how far to trust the comparison.\n\n"
    "Record what the layers of a model put out (extract), compare recordings or arrays layer by layer (compare), and "
    "read the result as a table, a page (report.html) or in Python (congruence.load). Start with: congruence demo"
)
USAGE, FAULT, INTERRUPTED, PIPE_CLOSED = 2, 70, 130, 141

app = typer.Typer(
    name="congruence",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done · 1 a gate failed · 2 wrong usage or bad input · 3 finished with failed pairs",
)
for _module in (layers, extract, inspect, compare, report, measures, identifiability, demo):
    app.command(_module.NAME, epilog=_module.EXAMPLES)(_module.command)
app.add_typer(bench.app, name=bench.NAME)
app.add_typer(study.app, name=study.NAME)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"congruence {__version__}")
        raise typer.Exit


@app.callback(help=ABOUT)
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", envvar="CONGRUENCE_DEBUG", help="Show the traceback of errors. Works with every command."
        ),
    ] = False,
) -> None:
    """Take the options that go before a command."""
    del version, debug  # --version has printed and ended; --debug is read before the commands are


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line and exit with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given or os.environ.get("CONGRUENCE_DEBUG", "") not in {"", "0"}
    code = run([argument for argument in given if argument != "--debug"], debug=debug)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = PIPE_CLOSED
    if code == PIPE_CLOSED:  # whatever is still in the buffer has no reader, and Python would complain at its exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())  # type: ignore[union-attr]  # a pipe
    sys.exit(code)


def run(arguments: Sequence[str], *, debug: bool = False) -> int:
    """Run a command line; errors become one line on stderr. Returns the exit code."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", CongruenceWarning)
        warnings.showwarning = _show_warning
        try:
            code = app(list(arguments), prog_name="congruence", standalone_mode=False)
        except typer.TyperException as error:
            if not error.format_message():
                return USAGE  # without a command: the help has been shown
            return _fail(error.format_message(), debug=debug, hint=_help_hint(error))
        except CongruenceError as error:
            return _fail(str(error), debug=debug)
        except SystemExit as ended:
            if isinstance(ended.__context__, BrokenPipeError):  # rich and typer turn it into exit code 1
                return PIPE_CLOSED
            raise
        except BrokenPipeError:
            return PIPE_CLOSED
        except OSError as error:
            if error.errno is None:
                return _fault()
            return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), debug=debug)
        except Exception:
            return _fault()
    return int(code or 0)


def _fail(message: str, *, debug: bool, hint: str = "") -> int:
    if debug:
        traceback.print_exc()
    complain(" ".join([*message.split(), *hint.split()]))
    return USAGE


def _fault() -> int:
    """Report what nobody foresaw, undisguised, and with a code of its own: it is neither bad input nor a failed gate."""
    traceback.print_exc()
    complain("this is a fault in congruence or in what it called, not in your input; the traceback above says where")
    return FAULT


def _help_hint(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"See: {context.command_path} --help" if context is not None else "See: congruence --help"


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show our own warnings as one sentence, and others as Python does."""
    if isinstance(message, CongruenceWarning):
        note(f"warning: {message.caveat.text}")
    else:
        print(warnings.formatwarning(message, category, filename, lineno, line), file=file or sys.stderr, end="")
