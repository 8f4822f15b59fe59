"""The page: complete in itself, right to the last digit, and safe whatever the labels are."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from congruence.errors import Caveat, StoreError
from congruence.measures import REGISTRY, MeasureInfo, Reference, measure
from congruence.reporting import _cards, _payload, report
from congruence.results import Comparison
from congruence.results.markup import visible

NASTY = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "quote\"'& {{title}} ]]>",
    "ünï/コード/слой/🧠\u2028",
    "\udcfe bytes",
    "javascript:alert(1)",
]
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """A parsed page: elements with attributes, text by element id, and whether it is well formed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.contents: dict[int, str] = {}
        self.open: list[tuple[str, int]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, len(self.elements) - 1))

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self.open.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"

    def handle_data(self, data: str) -> None:
        for _, index in self.open:
            self.contents[index] = self.contents.get(index, "") + data

    def text(self, tag: str, **attributes: str) -> str:
        """Return the text of the only element with these attributes."""
        (found,) = [
            k for k, (name, have) in enumerate(self.elements)
            if name == tag and all(have.get(key) == value for key, value in attributes.items())
        ]  # fmt: skip
        return self.contents.get(found, "")

    @property
    def payload(self) -> dict:
        return json.loads(self.text("script", id="payload"))


def make(a=("emb", "l0", "l1"), b=("emb", "l0", "l1"), specs=("cka", "procrustes"), **changes) -> Comparison:
    measures = [measure(spec) if isinstance(spec, str) else spec for spec in specs]
    shape = (len(measures), len(a), len(b))
    value = np.random.default_rng(1).random(shape)
    return Comparison.build(measures, a, b, **{"value": value, **changes})


def page_of(comparison: Comparison, folder: Path) -> Page:
    return Page(report(comparison, folder / "report.html").read_text(encoding="utf-8"))


def unpacked(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=dtype)


# ---- where it goes ---------------------------------------------------------------------------------------------------


def test_a_run_gets_its_page(tmp_path) -> None:
    saved = make().save(tmp_path / "run")
    assert report(tmp_path / "run") == tmp_path / "run" / "report.html"
    first = (tmp_path / "run" / "report.html").read_text()
    (tmp_path / "run" / "report.html").write_text("old")
    assert report(str(saved)) == tmp_path / "run" / "report.html"
    assert (tmp_path / "run" / "report.html").read_text() == first
    (tmp_path / "elsewhere").mkdir()
    assert report(tmp_path / "run", tmp_path / "elsewhere") == tmp_path / "elsewhere" / "report.html"
    assert report(make(), tmp_path / "new" / "page.html").read_text() == first
    assert sorted(entry.name for entry in (tmp_path / "run").iterdir()) == ["comparison.zarr", "report.html"]


def test_a_result_without_a_folder_is_written_here(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert report(make()) == Path("report.html")
    assert (tmp_path / "report.html").exists()


def test_no_run_no_page(tmp_path) -> None:
    with pytest.raises(StoreError, match="no saved comparison"):
        report(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"report.html could not be written"):
        report(make(), tmp_path / "file" / "report.html")


# ---- complete in itself ----------------------------------------------------------------------------------------------


def test_it_loads_nothing(tmp_path) -> None:
    page = page_of(make(caveats={(0, 0, 0): (Caveat("floor", "t", 0.2),)}), tmp_path)
    loading = {
        "src",
        "srcset",
        "data",
        "poster",
        "action",
        "background",
        "formaction",
        "ping",
        "xlink:href",
        "manifest",
    }
    for tag, attributes in page.elements:
        assert tag not in {"link", "iframe", "object", "embed", "base", "img", "audio", "video", "form"}, tag
        assert not loading & set(attributes), (tag, attributes)
        target = attributes.get("href") or "#"
        assert re.match(r"#[a-z]|#$|https://(arxiv\.org/abs|doi\.org)/", target), target
        assert "url(" not in (attributes.get("style") or "")
    style = page.text("style")
    assert "url(" not in style
    assert "@import" not in style
    script = page.contents[[k for k, (tag, have) in enumerate(page.elements) if tag == "script" and not have][0]]
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|\bfetch\(|XMLHttpRequest|WebSocket|import\(", script)


def test_only_its_own_script_may_run(tmp_path) -> None:
    page = page_of(make(a=NASTY), tmp_path)
    scripts = [k for k, (tag, _) in enumerate(page.elements) if tag == "script"]
    assert [page.elements[k][1].get("type") for k in scripts] == ["application/json", None]
    (policy,) = [have["content"] for tag, have in page.elements if have.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(page.contents[scripts[1]].encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert not [have for _, have in page.elements if any(key.startswith("on") for key in have)]


def test_it_needs_no_plotting_library(tmp_path, monkeypatch) -> None:
    for module in [name for name in sys.modules if name.split(".")[0] in {"matplotlib", "plotly"}] + [
        "matplotlib",
        "plotly",
    ]:
        monkeypatch.setitem(sys.modules, module, None)
    assert page_of(make(), tmp_path).payload["curve"]["kind"] == "matched"


def test_it_is_small(tmp_path) -> None:
    names = [f"encoder.layer.{i}" for i in range(7)]
    specs = ("cka:estimator=debiased", "svcca", "pwcca", "procrustes", "mutual_knn")
    caveats = {
        (k, i, j): (Caveat("cca_floor", f"text {i}", 0.1 * j),) for k in range(3) for i in range(7) for j in range(7)
    }
    path = report(make(names, names, specs, caveats=caveats), tmp_path / "report.html")
    assert path.stat().st_size < 200_000


# ---- exact and labelled ----------------------------------------------------------------------------------------------


def test_every_number_is_in_it_to_the_last_digit(tmp_path) -> None:
    status = np.full((2, 3, 2), "ok", dtype=object)
    status[0, 1, 1] = "failed"
    status[1, 0, 0] = "skipped"
    value = np.random.default_rng(0).standard_normal((2, 3, 2)) * 1e-3 + 1 / 3
    value[1, 2, 1] = np.inf
    found = make(b=("x", "y"), value=value, status=status, reason=np.where(status == "failed", "constant", ""),
                 caveats={(0, 0, 1): (Caveat("one", "t", 0.25), Caveat("two", "t"))})  # fmt: skip
    payload = page_of(found, tmp_path).payload
    assert (payload["a"], payload["b"], payload["block"], payload["bytes"]) == (list(found.a), ["x", "y"], 1, 8)
    for k, label in enumerate(found.measures):
        spec = payload["matrices"][k]
        assert unpacked(spec["values"], "<f8").tobytes() == found.matrix(label).values.tobytes()
        notes = [spec["texts"][n] for n in unpacked(spec["notes"], "<u4")]
        assert notes == [["", "one, two", "", "failed: constant", "", ""], ["not asked for", *[""] * 5]][k]
    np.testing.assert_array_equal(unpacked(payload["matrices"][0]["levels"], "<f4"), [np.nan, 0.25, *[np.nan] * 4])
    assert payload["matrices"][1]["levels"] is None


def test_the_tables_have_the_same_numbers(tmp_path) -> None:
    found = make(value=np.full((2, 3, 3), 1 / 3))
    page = page_of(found, tmp_path)
    titles = [
        have["title"] for tag, have in page.elements if tag == "span" and "title" in have and have["title"][:2] == "0."
    ]
    assert titles == [repr(1 / 3)] * 18


@pytest.mark.parametrize(("a", "b"), [(NASTY, ["x", "y"]), (NASTY, NASTY), (["x"], NASTY)])
def test_labels_come_through_as_they_are_and_do_nothing(tmp_path, a, b) -> None:
    status = np.full((2, len(a), len(b)), "ok", dtype=object)
    status[0, 0, 0] = "failed"
    info = replace(measure("cka").info, label=NASTY[0], title=NASTY[1], definition=NASTY[2], space=NASTY[0], cost=NASTY[1],
                   meaning=(NASTY[0], NASTY[1]), references=(Reference(NASTY[0], NASTY[1], NASTY[5]),))  # fmt: skip
    found = make(a, b, (info, "procrustes"), status=status, reason=np.where(status == "failed", NASTY[1], ""),
                 caveats={(1, 0, 0): (Caveat(NASTY[0], NASTY[1], 0.5),), (1, 0, 1): (Caveat(NASTY[0], NASTY[2]),)},
                 provenance={NASTY[0]: [NASTY[1], {NASTY[2]: NASTY[3]}], "notes": [{"code": NASTY[0], "text": NASTY[1]}],
                             "inputs": {"a": [{"source": f"k in {NASTY[1]}"}], "b": [{"source": f"k in {NASTY[2]}"}]}})  # fmt: skip
    page = page_of(found, tmp_path)  # parses: every element is closed where it should be
    assert page.payload["a"] == list(map(visible, a))
    assert page.payload["b"] == list(map(visible, b))
    assert {tag for tag, _ in page.elements}.isdisjoint({"img", "b", "i"} - {"i"})
    assert sum(tag == "script" for tag, _ in page.elements) == 2
    body = page.text("body")
    for text in [*NASTY[:3]]:
        assert text in body
    assert "\\udcfe bytes" in body
    assert NASTY[2] in body  # braces are not taken for a part of the template


# ---- in words --------------------------------------------------------------------------------------------------------


def provenance_of(a: list[dict], b: list[dict] | None) -> dict:
    return {"inputs": {"a": a, "b": b}}


@pytest.mark.parametrize(
    ("provenance", "title"),
    [
        (provenance_of([{"origin": {"model": "old"}}] * 2, [{"origin": {"model": "new"}}]), "old compared with new"),
        (provenance_of([{"origin": {"model": "old"}}], None), "The layers of old compared with one another"),
        (
            provenance_of(
                [{"origin": {"model": "m"}, "source": "x in runs/1.zarr"}],
                [{"origin": {"model": "m"}, "source": "x in runs/2.zarr"}],
            ),
            "1 compared with 2",
        ),
        (provenance_of([{"source": "x.npy"}], [{"source": "y.npy"}]), "3 × 3 representations compared"),
        (
            provenance_of([{"origin": {"model": "m"}}, {"origin": {"model": "n"}}], None),
            "3 × 3 representations compared",
        ),
        ({}, "3 × 3 representations compared"),
        ({"inputs": ["something", "else"]}, "3 × 3 representations compared"),
    ],
)
def test_the_heading_says_what_was_compared(tmp_path, provenance, title) -> None:
    page = page_of(make(provenance=provenance), tmp_path)
    assert page.text("h1") == title
    assert page.text("title") == title


def test_the_summary_names_the_layers_that_moved(tmp_path) -> None:
    similarity = np.array([[0.9, 0.1, 0.1], [0.2, 0.8, 0.3], [0.6, 0.5, 0.4]])
    value = np.stack([similarity, 1 - similarity, similarity + [[0, 0, 0], [0, -0.55, 0], [0, 0, 0]]])
    found = make(specs=("cka", "procrustes", "svcca"), value=value, n=1234)
    page = page_of(found, tmp_path)
    text = page.text("section", id="summary")
    assert "l1 differs most (by 2 of 3 measures), and emb least (by all 3 measures)." in text
    assert (
        "3 representations (rows) and 3 (columns), all of the same names, on the same 1,234 stimuli, by 3 measures."
        in page.text("p", **{"class": "lead"})
    )
    assert re.search(r"cka\s*similarity; 1 is identical\s*0.9000\s*emb\s*0.4000\s*l1\s*2 of 3", text)
    assert re.search(r"procrustes\s*distance; 0 is identical\s*0.1000\s*emb\s*0.6000\s*l1\s*2 of 3", text)
    assert re.search(r"svcca.*0.2500\s*l0\s*1 of 3", text)


def test_within_one_network_the_steps_are_summarised(tmp_path) -> None:
    value = np.array([[[1.0, 0.9, 0.2], [0.9, 1.0, 0.3], [0.2, 0.3, 1.0]]])
    page = page_of(make(specs=("cka",), value=value), tmp_path)
    assert "The greatest step is from l0 to l1." in page.text("section", id="summary")
    assert page.payload["curve"]["kind"] == "next"


def test_without_common_names_the_best_partners_are_shown(tmp_path) -> None:
    page = page_of(make(b=("p", "q")), tmp_path)
    assert "few names in common" in page.text("section", id="summary")
    series = page.payload["curve"]["series"][0]
    assert set(series["partners"]) <= {"p", "q"}


def test_one_pair_and_no_value_at_all_make_a_page(tmp_path) -> None:
    assert "One layer has a namesake" in page_of(make(["x"], ["x"]), tmp_path).text("section", id="summary")
    page = page_of(make(status="failed", reason="constant"), tmp_path)
    assert "none of its pairs was computed" in page.text("section", id="summary")
    assert page.payload["curve"]["series"][0]["values"] == [None] * 3
    disjoint = page_of(make(["x"], ["y"], status="skipped"), tmp_path)
    assert "not asked for" in disjoint.text("ul", **{"class": "counts"})


def test_unbounded_measures_have_axes_of_their_own(tmp_path) -> None:
    specs = ("cka", "procrustes", "procrustes:form=size_and_shape")
    page = page_of(make(specs=specs), tmp_path)
    groups = [series["group"] for series in page.payload["curve"]["series"]]
    assert groups == ["Similarities", "Distances", specs[2]]
    assert [have["data-group"] for tag, have in page.elements if have.get("class") == "panel"] == groups


def test_long_names_are_cut_in_tables_and_whole_in_their_title(tmp_path) -> None:
    name = "model." + "block." * 20 + "output"
    page = page_of(make([name, "x"], ["y"]), tmp_path)
    codes = [
        (have["title"], page.contents[k])
        for k, (tag, have) in enumerate(page.elements)
        if tag == "code" and "title" in have
    ]
    assert (name, f"{name[:24]}…{name[-24:]}") in codes
    assert page.payload["a"] == [name, "x"]


# ---- trust -----------------------------------------------------------------------------------------------------------


def test_warnings_are_grouped_with_counts_levels_and_pairs(tmp_path) -> None:
    floor = {(0, i, j): (Caveat("cca_floor", f"raised to {i}", 0.1 + 0.1 * i),) for i in range(3) for j in range(3)}
    ties = {(1, 0, 0): (Caveat("pwcca_ties", "two are equal"), Caveat("cca_floor", "raised to 0", 0.1))}
    page = page_of(
        make(caveats=floor | ties, provenance={"notes": [{"code": "integer_input", "text": "converted"}]}), tmp_path
    )
    text = page.text("section", id="warnings")
    assert "cca_floor: 10 values" in text
    assert "In cka (9), procrustes (1)." in text
    assert "Unrelated data would give 0.1 to 0.3." in text
    assert "For example: raised to 0." in text
    assert "pwcca_ties: 1 value" in text
    assert "two are equal." in text
    assert "integer_input" in text
    assert "10 to be read with care" in page.text("ul", **{"class": "counts"})
    assert "cca_floor (10), pwcca_ties (1)" in page.text("section", id="summary")
    assert "Warnings" in page.text("nav")


def test_long_lists_of_pairs_are_cut_and_say_so(tmp_path) -> None:
    names = [f"l{i}" for i in range(20)]
    status = np.full((1, 20, 20), "ok", dtype=object)
    status[0, 0] = status[0, 1] = status[0, 2] = status[0, 3] = "failed"
    caveats = {(0, i, j): (Caveat("code", "text"),) for i in range(4, 20) for j in range(20)}
    page = page_of(make(names, names, ["cka"], caveats=caveats, status=status, reason="constant"), tmp_path)
    assert "270 more are in comparison.csv" in page.text("section", id="warnings")
    failures = page.text("section", id="failures")
    assert "constant: 80 values" in failures
    assert "30 more are in comparison.csv" in failures
    assert "80 failed" in page.text("ul", **{"class": "counts"})


def test_what_is_not_there_is_not_linked(tmp_path) -> None:
    page = page_of(make(), tmp_path)
    ids = {have["id"] for _, have in page.elements if "id" in have}
    links = {have["href"][1:] for tag, have in page.elements if tag == "a" and have["href"].startswith("#")}
    assert links <= ids
    assert {"warnings", "failures", "provenance"}.isdisjoint(ids)


# ---- cards -----------------------------------------------------------------------------------------------------------

INFOS = [variant.info for cls in REGISTRY.values() for variant in cls.variants()]


@pytest.mark.parametrize("info", INFOS, ids=lambda info: info.label)
def test_every_measure_has_its_card(info: MeasureInfo) -> None:
    for described in (info, *(info.as_distance(how) for how in sorted(info.conversions))):
        card = Page(_cards.card(described, "here 1 s for 4 values"))
        text = " ".join(card.text("aside").split())
        assert " ".join(described.definition.split()) in text
        assert ("yes, on" in text) == described.is_metric
        assert all(reference.citation in text for reference in described.references)
        assert ("does not matter" in text) == described.symmetric
        sides = (
            1
            if described.invariant_first == described.invariant_second
            and described.sensitive_first == described.sensitive_second
            else 2
        )
        ticks = len(described.invariant_first) + (len(described.invariant_second) if sides == 2 else 0)
        assert text.count("✓") == ticks
        assert f"at least {described.needs.n} stimuli" in text
        assert "here 1 s for 4 values" in text


def test_sources_are_linked_only_by_their_numbers() -> None:
    def link(identifier: str) -> list[str]:
        info = replace(measure("cka").info, references=(Reference("who", "eq. 1", identifier),))
        return [have["href"] for tag, have in Page(_cards.card(info, "")).elements if tag == "a"]

    assert link("arXiv:1905.00414") == ["https://arxiv.org/abs/1905.00414"]
    assert link("doi:10.1007/BF02289451") == ["https://doi.org/10.1007/BF02289451"]
    for text in ("JMLR 13", "", "javascript:alert(1)", 'doi:10.1/"onclick="x', "arXiv:1905.00414 <b>"):
        assert link(text) == []


# ---- size ------------------------------------------------------------------------------------------------------------


def test_large_results_lose_digits_and_then_cells_and_say_so(tmp_path, monkeypatch) -> None:
    names = [f"l{i}" for i in range(30)]
    found = make(names, names, ["cka"])
    assert page_of(found, tmp_path).payload["bytes"] == 8
    monkeypatch.setattr(_payload, "MOST_EXACT", 800)
    payload = page_of(found, tmp_path).payload
    assert (payload["bytes"], payload["block"]) == (4, 1)
    np.testing.assert_array_equal(
        unpacked(payload["matrices"][0]["values"], "<f4"), found.matrix("cka").values.ravel().astype("f4")
    )

    monkeypatch.setattr(_payload, "MOST_CELLS", 100)
    payload = page_of(found, tmp_path).payload
    assert payload["block"] == 3
    assert payload["a"][1] == "l3 … l5"
    means = found.matrix("cka").values.reshape(10, 3, 10, 3).mean(axis=(1, 3))
    # float32 keeps 7 digits
    np.testing.assert_allclose(unpacked(payload["matrices"][0]["values"], "<f4").reshape(10, 10), means, rtol=1e-6)
    assert payload["matrices"][0]["notes"] is None


def test_means_leave_out_what_is_missing_and_the_last_block_may_be_smaller() -> None:
    values = np.array([[1.0, np.nan, 5.0], [3.0, np.nan, 7.0], [np.nan, np.nan, 2.0]])
    np.testing.assert_array_equal(_payload.mean_of_blocks(values, 2), [[2.0, 6.0], [np.nan, 2.0]])


def test_big_matrices_have_no_table_but_the_picture(tmp_path) -> None:
    names = [f"l{i}" for i in range(25)]
    page = page_of(make(names, names, ["cka"]), tmp_path)
    assert "All values are in comparison.csv." in page.text("article", id="measure-0")
    canvas = [have for tag, have in page.elements if tag == "canvas"]
    assert canvas[0]["aria-label"].startswith("Heatmap of cka, 25 rows and 25 columns, from 0.0")


def test_hundreds_of_layers_with_a_warning_each_stay_small(tmp_path) -> None:
    names = [f"l{i}" for i in range(120)]
    caveats = {(0, i, j): (Caveat("code", f"text {i} {j}", 0.1),) for i in range(120) for j in range(120)}
    path = report(make(names, names, ["cka"], caveats=caveats), tmp_path / "report.html")
    assert path.stat().st_size < 500_000
