"""The command line: ``congruence COMMAND ...``; one file per command."""

from __future__ import annotations

from congruence.cli._app import main

__all__ = ["main"]
