"""From a Comparison to the text of its page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

import congruence
from congruence.reporting import _provenance, _sections, _trust, _words
from congruence.reporting._payload import payload
from congruence.reporting._view import View
from congruence.results import Comparison
from congruence.results.markup import escape

MOST_LINKS = 8
"""Measures that the bar at the top links to."""


def render(comparison: Comparison) -> str:
    """Return the whole page."""
    view = View(comparison)
    script, title = _asset("page.js"), _words.title(comparison)
    sections = {
        "summary": _sections.summary(view),
        "curve": _sections.curve(view),
        "measures": "".join(_sections.measure(view, k) for k in range(len(comparison.measures))),
        "warnings": _trust.warnings(view),
        "failures": _trust.failures(view),
        "provenance": _provenance.provenance(comparison.provenance),
    }
    return _fill(
        _asset("page.html"),
        {
            "version": escape(congruence.__version__),
            "script_hash": f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
            "title": escape(title),
            "css": _asset("page.css"),
            "navigation": _navigation(comparison, sections),
            "lead": escape(_words.lead(comparison)),
            "counts": _sections.counts(comparison),
            "axes": escape(_words.axes(comparison)),
            **sections,
            "payload": _embedded(payload(view)),
            "script": script,
        },
    )


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _fill(template: str, parts: dict[str, str]) -> str:
    """Return the template with ``{{name}}`` replaced, once: what a part contains is not looked at again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)


def _embedded(content: dict[str, Any]) -> str:
    """Return JSON that cannot end the element it stands in; every character beyond ASCII is escaped."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _navigation(comparison: Comparison, sections: Mapping[str, str]) -> str:
    """Return the links to the sections that the page has."""
    measures = [(f"measure-{k}", label, "measures") for k, label in enumerate(comparison.measures[:MOST_LINKS])]
    links = [
        ("summary", "Summary", "summary"),
        ("layers", "Layer by layer", "curve"),
        ("matrices", "All pairs", "measures"),
        *measures,
        ("warnings", "Warnings", "warnings"),
        ("failures", "Failures", "failures"),
        ("provenance", "Provenance", "provenance"),
    ]
    return "".join(f'<a href="#{target}">{escape(text)}</a>' for target, text, section in links if sections[section])
