"""The page of a comparison: one HTML file that is complete in itself.

Why no plotting library: plotly adds 4.6 MB to every page, is an optional dependency (the page must also come out of a
core install), and draws slowly beyond some 10,000 cells with hover. The page needs two pictures, a matrix and a curve;
`page.js` draws them on a canvas and in SVG from the embedded numbers, exact to the last digit, in 15 kB, and keeps up
with 1,300 x 1,300 cells. Without JavaScript the tables remain.

Nothing that comes from outside reaches the page unescaped: text in HTML goes through `escape`, text in the payload is
JSON without ``<``, and the page's content policy runs no script but its own and loads nothing.
"""

from __future__ import annotations

from pathlib import Path

from congruence.reporting._page import render
from congruence.results import Comparison
from congruence.results.storage import write_atomically

__all__ = ["report"]

PAGE = "report.html"


def report(comparison: Comparison | str | Path, out: str | Path | None = None) -> Path:
    """Write the page of a comparison.

    Parameters
    ----------
    comparison : Comparison or path
        A result, or the folder of a run (or its ``comparison.zarr``).
    out : path, optional
        The file to write, or a folder for ``report.html``. By default in the folder of the run; for a Comparison in the
        current folder.

    Returns
    -------
    Path
        The file written. An older page is replaced, all at once.

    Raises
    ------
    StoreError
        If the run cannot be read or the page cannot be written.
    """
    if isinstance(comparison, Comparison):
        found, folder = comparison, Path()
    else:
        place = Path(comparison)
        found, folder = Comparison.load(place), place.parent if place.suffix == ".zarr" else place
    target = folder / PAGE if out is None else Path(out)
    if target.is_dir():
        target = target / PAGE
    page = render(found)
    return write_atomically(target, lambda file: file.write(page))
