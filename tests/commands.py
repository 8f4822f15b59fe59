"""Runs the command line inside the test process and says what came out of it."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from dataclasses import dataclass
from typing import Any

from congruence.cli._app import run


@dataclass(frozen=True)
class Outcome:
    """Exit code, stdout and stderr of one command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What was printed with --json."""
        return json.loads(self.out, parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))

    @property
    def error(self) -> str:
        """The one line of an error; anything else on stderr fails."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("congruence: error: "), self.err
        return lines[0].removeprefix("congruence: error: ")


def congruence(*arguments: object, debug: bool = False) -> Outcome:
    """Run ``congruence ARGUMENTS``."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        try:
            code = run([str(argument) for argument in arguments], debug=debug)
        except SystemExit as ended:  # an interruption
            code = int(ended.code)
    return Outcome(code, out.getvalue(), err.getvalue())
