"""The studies of dynamics on their quick tier, and how they are judged."""

from __future__ import annotations

import csv
import itertools
import statistics

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

import congruence  # noqa: E402
from congruence import studies  # noqa: E402
from congruence.dynamics.studies import (  # noqa: E402
    _shared,
    learning_rate_clusters,
    memorise_generalise,
    signal_noise_toy,
    svcca_directions,
    width_convergence,
)


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONGRUENCE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Every study that was asked for, run once."""
    runs = {}

    def run(name):
        if name not in runs:
            runs[name] = studies.run(name, out=tmp_path_factory.mktemp(name))
        return runs[name]

    return run


def figures_of(run):
    return {path.name for path in (run.folder / "figures").glob("*.png")}


def table_of(run, name):
    with (run.folder / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_signal_noise_toy(done):
    run = done("signal-noise-toy")
    assert run.verdict.outcome == "differs"  # on average in the order of the paper, not at every number of dimensions
    for reading in ("sd_0.1", "variance_0.1"):
        assert run.verdict.statistics[f"svcca_minus_pwcca_{reading}_low"] > 0
        assert run.verdict.statistics[f"cca_minus_svcca_{reading}_low"] > 0
    assert run.verdict.statistics["ordered_at_every_number"] == 0
    by_share = [row["pwcca"] for row in run.summary if row["noise"] == "sd 0.1"]
    assert by_share == sorted(by_share, reverse=True)  # the more signal, the closer
    assert figures_of(run) == {"signal-noise-0.png", "signal-noise-1.png"}


def test_pairs_of_the_toy_share_the_signal_and_nothing_else():
    settings = signal_noise_toy.Settings(30, 4000)
    x, y = signal_noise_toy.pair(settings, 10, 0.1, np.random.default_rng(0))
    assert x.shape == y.shape == (4000, 30)
    fitted = np.linalg.lstsq(x[:, :10], y[:, :10], rcond=None)[0]
    np.testing.assert_allclose(x[:, :10] @ fitted, y[:, :10], atol=1e-10)
    np.testing.assert_allclose(fitted @ fitted.T, np.eye(10), atol=1e-10)
    assert np.abs(np.corrcoef(x[:, 10:].T, y[:, 10:].T)[:20, 20:]).max() < 0.1
    assert x[:, 10:].std() == pytest.approx(0.1, rel=0.02)


def test_the_toy_is_judged_by_its_numbers():
    study = studies.study("signal-noise-toy")
    settings = study.tiers["quick"].settings
    rows = [
        {"noise": reading, "signal": k, "draw": draw, "pwcca": 0.1, "svcca": 0.2 + draw / 100, "cca": 0.4}
        for reading in signal_noise_toy.NOISE
        for k in settings.signal
        for draw in range(settings.draws)
    ]
    assert study.judge(settings, {"distances": rows}).outcome == "reproduced"
    turned = [{**row, "pwcca": row["cca"], "cca": row["pwcca"]} for row in rows]
    assert study.judge(settings, {"distances": turned}).outcome == "not reproduced"


def test_rotation_toy(done):
    run = done("rotation-toy")
    turn, weak, strong = run.summary
    assert turn["largest_cca"] < 1e-10  # CCA does not see rotations
    assert min(turn["cosine"], turn["euclidean"]) > 0.5
    assert weak["largest_cca"] < 0.1
    assert strong["largest_cca"] > 0.1
    assert run.verdict.outcome == "differs"
    assert run.verdict.statistics["cca_0"] < 1e-10
    assert figures_of(run) == {"alpha-0.png", "alpha-1.png", "alpha-100.png"}


def test_memorise_generalise(done):
    run = done("memorise-generalise")
    assert {row["split"] for row in run.summary} == {"train", "test"}
    assert list(dict.fromkeys(row["layer"] for row in run.summary)) == ["hidden1", "hidden2", "softmax"]
    last = [row for row in run.summary if row["layer"] == "hidden2" and row["split"] == "train"]
    for row in last:
        assert row["memorising"] > row["generalising"]
        assert 2 / 70 <= row["p"] <= 1  # of 4 against 4
        assert row["low"] < row["difference"] < row["high"]
        assert row["difference"] == pytest.approx(row["memorising"] - row["generalising"])
        assert row["difference_long"] == pytest.approx(row["memorising"] - row["generalising, long"])
        assert row["memorising_low"] < row["memorising"] < row["memorising_high"]
        assert run.verdict.statistics[f"{row['measure']} difference"] == row["difference"]  # not that of the outputs
    assert run.verdict.outcome in {"reproduced", "differs"}
    assert "Accuracy on the training set: generalising 1.000 to 1.000" in run.verdict.text
    assert figures_of(run) == {"distances-0.png", "distances-1.png"}


def test_the_outputs_of_memorising_networks_have_a_finding_of_their_own(done):
    run = done("memorise-generalise")
    label = "pwcca:weights=mean|one_minus"
    found = {key.removeprefix(f"{label} outputs "): value for key, value in run.verdict.statistics.items() if f"{label} outputs" in key}  # fmt: skip
    seen, unseen = (next(r for r in run.summary if (r["split"], r["measure"], r["layer"]) == (split, label, "softmax")) for split in ("train", "test"))  # fmt: skip
    assert found["train memorising"] == seen["memorising"]
    assert found["test p_long"] == unseen["p_long"]
    assert found["test less train difference"] == pytest.approx(unseen["difference"] - seen["difference"])
    assert found["test less train low"] < found["test less train difference"] < found["test less train high"]
    assert found["as found"] in {0, 1}
    assert "Softmax outputs, no part of this verdict" in run.verdict.text


@pytest.mark.parametrize("layer", ["hidden2", "softmax"])
def test_an_exact_p_follows_from_the_table_of_pairs(done, layer):
    run = done("memorise-generalise")
    wanted = ("test", layer, "cka:estimator=debiased|one_minus")
    rows = [r for r in table_of(run, "pairs") if (r["split"], r["layer"], r["measure"]) == wanted]
    assert len(rows) == 12 * 11 / 2
    value = {frozenset((r["network"], r["network_b"])): float(r["value"]) for r in rows}
    networks = [f"{group}/seed-{k}" for group in ("generalising", "memorising") for k in range(4)]

    def within(names):
        return statistics.fmean(value[frozenset(pair)] for pair in itertools.combinations(names, 2))

    dealt = [(chosen, [n for n in networks if n not in chosen]) for chosen in itertools.combinations(networks, 4)]
    gaps = [abs(within(others) - within(chosen)) for chosen, others in dealt]
    line = next(r for r in run.summary if (r["split"], r["layer"], r["measure"]) == ("test", layer, rows[0]["measure"]))
    assert gaps[0] == pytest.approx(abs(line["difference"]))  # the first labelling is the true one
    assert line["p"] == sum(gap >= gaps[0] - 1e-9 for gap in gaps) / 70


def test_between_less_within_follows_from_the_table_of_pairs(done):
    run = done("memorise-generalise")
    wanted = ("test", "hidden2", "pwcca:weights=mean|one_minus")
    value = {frozenset((r["network"], r["network_b"])): float(r["value"]) for r in table_of(run, "pairs") if (r["split"], r["layer"], r["measure"]) == wanted}  # fmt: skip
    general, memory = ([f"{group}/seed-{k}" for k in range(4)] for group in ("generalising", "memorising"))

    def statistic(one, two):
        within = [value[frozenset(pair)] for pair in itertools.combinations(two, 2)]
        between = [
            value[frozenset(pair)] for pair in itertools.product(one, two) if pair[0][-1] != pair[1][-1]
        ]  # seeds
        return statistics.fmean(between) - statistics.fmean(within)

    left = [statistic([n for n in general if n != k], memory) for k in general], [statistic(general, [n for n in memory if n != k]) for k in memory]  # fmt: skip
    reach = 3.18244630528 * sum(3 / 4 * 3 * statistics.variance(values) for values in left) ** 0.5  # t of 3 degrees
    line = next(r for r in run.summary if (r["split"], r["layer"], r["measure"]) == wanted)
    ends = [line[f"between less within memorising{end}"] for end in ("", "_low", "_high")]
    centre = statistic(general, memory)
    assert ends == pytest.approx([centre, centre - reach, centre + reach])
    assert run.verdict.statistics[f"{wanted[2]} test between less within memorising"] == ends[0]


def outputs_tables(seen, unseen):
    """Distances of outputs: of generalising and memorising networks, on either split."""
    groups = memorise_generalise.GROUPS
    names = [f"{group}/seed-{k}" for group in groups for k in range(4)]
    tables = {
        "tests": [],
        "distances": [],
        "pairs": [],
        "networks": [{"group": g, "train_accuracy": 1.0} for g in groups],
    }
    for split, (general, memory) in (("train", seen), ("test", unseen)):
        for layer in ("hidden1", "softmax"):
            same = {"split": split, "measure": "cka", "layer": layer}
            own = {groups[0]: general, groups[1]: general, groups[2]: memory}
            spread = {"difference": memory - general, "low": 0.0, "high": 1.0, "p": 0.01}
            tables["tests"] += [{**same, "contrast": f"spread: memorising - {g}", **spread} for g in groups[:2]]
            tables["distances"] += [{**same, "group": g, "group_b": g, "distance": d, "low": d - 0.01, "high": d + 0.01} for g, d in own.items()]  # fmt: skip
            tables["pairs"] += [
                {**same, "network": a, "network_b": b, "value": own[a.partition("/")[0]] if a.partition("/")[0] == b.partition("/")[0] else 0.9}
                for a, b in itertools.combinations(names, 2)
            ]  # fmt: skip
    return tables


@pytest.mark.parametrize(
    ("seen", "unseen", "as_found"),
    [
        ((0.01, 0.02), (0.05, 0.8), 1),
        ((0.01, 0.2), (0.05, 0.8), 0),
        ((0.01, 0.02), (0.3, 0.8), 0),
        ((0.01, 0.02), (0.02, 0.1), 0),  # the interval holds the bound
    ],
)
def test_outputs_are_judged_by_how_near_they_are_to_each_other(seen, unseen, as_found):
    study = studies.study("memorise-generalise")
    found = study.judge(study.tiers["quick"].settings, outputs_tables(seen, unseen)).statistics
    assert found["cka outputs as found"] == as_found
    assert found["cka outputs test less train difference"] == pytest.approx(unseen[1] - unseen[0] - seen[1] + seen[0])


def test_softmax_outputs_have_one_direction_less_than_classes():
    rng = np.random.default_rng(0)
    a, b = (memorise_generalise.outputs(4 * rng.normal(size=(200, 5)).astype(np.float32)) for _ in range(2))
    np.testing.assert_allclose(a.sum(axis=1), 1, atol=1e-15)  # some eps of float64
    shift = rng.normal(size=(200, 1))
    np.testing.assert_allclose(memorise_generalise.outputs(np.log(a) + shift), a, atol=1e-14)
    whole, part = congruence.measure("cca")(a, b), congruence.measure("cca")(a[:, 1:], b[:, 1:])
    assert whole == pytest.approx(part, abs=1e-10)  # any four columns span the same
    h, c = (np.linalg.svd(z - z.mean(axis=0), full_matrices=False)[0][:, :4] for z in (a, b))
    left, rho, right = np.linalg.svd(h.T @ c)
    weights = [np.abs((q @ u).T @ (z - z.mean(axis=0))).sum(axis=1) for q, u, z in ((h, left, a), (c, right.T, b))]
    both = np.mean([(w * rho).sum() / w.sum() for w in weights])
    assert congruence.measure("pwcca:weights=mean")(a, b) == pytest.approx(both, abs=1e-10)


def test_a_change_of_spread_is_that_of_the_differences():
    rng, sizes = np.random.default_rng(2), [3, 4]
    before, after = (_shared.apart_of([{"network": f"{a}", "network_b": f"{b}", "value": rng.uniform()} for a, b in itertools.combinations([f"{g}/{k}" for g, n in zip("xy", sizes, strict=True) for k in range(n)], 2)], "xy")[0] for _ in range(2))  # fmt: skip

    def gap(apart, first, second):
        return apart[np.ix_(second, second)][np.triu_indices(len(second), 1)].mean() - apart[np.ix_(first, first)][np.triu_indices(len(first), 1)].mean()  # fmt: skip

    found = _shared.change_of_spread(before, after, sizes)
    first, second = [0, 1, 2], [3, 4, 5, 6]
    true = gap(after, first, second) - gap(before, first, second)
    assert found["difference"] == pytest.approx(true)
    left = [[gap(after - before, [k for k in first if k != out], [k for k in second if k != out]) for out in side] for side in (first, second)]  # fmt: skip
    variance = sum((len(v) - 1) / len(v) * ((v - v.mean()) ** 2).sum() for v in map(np.array, left))
    assert found["high"] - found["difference"] == pytest.approx(
        4.302653 * np.sqrt(variance), rel=1e-6
    )  # t, two degrees
    dealt = [(list(c), [k for k in range(7) if k not in c]) for c in itertools.combinations(range(7), 3)]
    gaps = np.array([abs(gap(after - before, *groups)) for groups in dealt])
    assert found["p"] == pytest.approx((gaps >= abs(true) - 1e-12).mean())
    broken = after.copy()
    broken[0, 1] = broken[1, 0] = np.nan
    assert np.isnan(_shared.change_of_spread(before, broken, sizes)["p"])


def test_learning_rate_clusters(done):
    run = done("learning-rate-clusters")
    assert [row["method"] for row in run.summary] == ["average", "spectral"] * 2
    assert all(row["count"] == 2 for row in run.summary)
    assert all(-1 <= row["agreement"] <= 1 and 0 < row["p"] <= 1 for row in run.summary)
    assert run.verdict.statistics["cka:estimator=debiased separation_low"] > 0  # the rates differ, clusters or not
    assert len(figures_of(run)) == 5


def test_clusters_of_learning_rates_are_compared_with_clusters_of_robustness(done):
    run = done("learning-rate-clusters")
    names = ("ablation", "robustness", "assigned", "robust_clusters", "networks", "pairs")
    table = {name: table_of(run, name) for name in names}
    assert len(table["pairs"]) == 2 * 20 * 19 / 2
    first = {row["network"]: float(row["accuracy"]) for row in table["ablation"] if float(row["ablated"]) == 0}
    known = {
        f"{float(row['learning_rate']):.3g}/seed-{row['seed']}": float(row["train_accuracy"])
        for row in table["networks"]
    }
    assert first == pytest.approx(known)  # nothing ablated: the accuracy of the network as it is
    last = [float(row["accuracy"]) for row in table["ablation"] if float(row["ablated"]) == 1]
    assert max(last) < 0.15  # the bias alone: one class of ten
    for row in table["robustness"]:
        curve = [float(r["accuracy"]) for r in table["ablation"] if r["network"] == row["network"]]
        area = (sum(curve) - (curve[0] + curve[-1]) / 2) / (len(curve) - 1)  # trapezoids of one width
        assert float(row["area"]) == pytest.approx(area)
        assert float(row["kept"]) == pytest.approx(area / curve[0])
    line = run.summary[0]
    part, robust = ({r["network"]: r["cluster"] for r in rows if r["method"] == line["method"] and r.get("measure", line["measure"]) == line["measure"]} for rows in (table["assigned"], table["robust_clusters"]))  # fmt: skip
    areas = {r["network"]: float(r["area"]) for r in table["robustness"]}
    grand = statistics.fmean(areas.values())
    between = sum(statistics.fmean(areas[m] for m in part if part[m] == part[n]) ** 2 - 2 * grand * statistics.fmean(areas[m] for m in part if part[m] == part[n]) + grand**2 for n in part)  # fmt: skip
    assert line["eta"] == pytest.approx(between / sum((a - grand) ** 2 for a in areas.values()))
    from sklearn.metrics import adjusted_rand_score

    assert line["robust_agreement"] == pytest.approx(
        adjusted_rand_score(list(part.values()), [robust[n] for n in part])
    )
    assert "Robustness to ablation of that layer, no part of this verdict" in run.verdict.text


def cluster_tables(cluster_row):
    """Two clusters by distance, which are the learning rates, and two by robustness."""
    names = [f"{rate}/seed-{k}" for rate in ("0.01", "0.1") for k in range(6)]
    test = {"measure": "cka", "contrast": "separation", "difference": 0.1, "low": 0.0, "high": 0.2, "p": 0.01}
    about = [
        {"network": name, "learning_rate": name.partition("/")[0], "cluster": k // 6} for k, name in enumerate(names)
    ]
    rows = [{**one, "area": 0.5 + 0.2 * one["cluster"] + 0.01 * (k % 3), "kept": 0.5 + 0.01 * (k % 3)} for k, one in enumerate(about)]  # fmt: skip
    return {
        "clusters": [{"measure": "cka", **cluster_row}],
        "tests": [test],
        "robustness": rows,
        "assigned": [{"measure": "cka", "method": "average", **one} for one in about],
        "robust_clusters": [{"method": "average", **one} for one in about],
        "robust_stability": [{"method": "average", "stability": 1.0, "stability_low": 1.0, "stability_high": 1.0, "silhouette": 0.5}],
    }  # fmt: skip


def test_learning_rate_clusters_are_judged_by_their_numbers():
    study = studies.study("learning-rate-clusters")
    settings = study.tiers["quick"].settings
    common = {"stability": 1.0, "stability_low": 1.0, "stability_high": 1.0, "silhouette": 0.5, "method": "average"}
    for agreement, p, outcome in ((0.95, 0.001, "reproduced"), (0.3, 0.001, "differs"), (0.3, 0.2, "not reproduced")):
        found = study.judge(settings, cluster_tables({"agreement": agreement, "p": p, **common}))
        assert found.outcome == outcome
    assert (
        found.statistics["robustness average agreement"]
        == found.statistics["robustness cka average robust_agreement"]
        == 1
    )
    assert found.statistics["robustness cka average robust_p"] < 0.02  # 2 / 924, of 200 draws
    assert found.statistics["robustness area learning rate eta"] > 0.98
    assert found.statistics["robustness area learning rate eta_low"] > 0.9
    assert found.statistics["robustness kept learning rate eta"] == pytest.approx(0, abs=1e-12)  # the same in both
    assert found.statistics["robustness kept learning rate eta_p"] > 0.9


def test_neurons_are_ablated_as_in_the_network_itself():
    import torch

    from congruence.zoo.networks.perceptron import perceptron

    torch.manual_seed(0)
    model = perceptron((1, 3, 3), 4, 7, 2, "relu").double()
    inputs, labels = torch.randn(50, 1, 3, 3, dtype=torch.float64), np.arange(50) % 4
    with torch.no_grad():
        hidden = model[:3](inputs).numpy()
        orders, counts = np.array([[6, 0, 3, 1, 2, 5, 4], [0, 1, 2, 3, 4, 5, 6]]), [0, 2, 3, 7]
        found = learning_rate_clusters.ablation_curves(
            hidden, model.logits.weight.numpy(), model.logits.bias.numpy(), labels, orders, counts
        )
        assert found.shape == (2, 4)
        for order, row in zip(orders, found, strict=True):
            for count, accuracy in zip(counts, row, strict=True):
                gone = order[:count].copy()
                handle = model.hidden2.register_forward_hook(
                    lambda _m, _i, out, g=gone: out.index_fill(1, torch.from_numpy(g), 0)
                )
                assert accuracy == (model(inputs).argmax(1).numpy() == labels).mean()
                handle.remove()


def test_what_is_not_known_has_no_statistic():
    found = learning_rate_clusters.explained_share([1, 2, np.nan, 3], [0, 0, 1, 1], 20)
    assert np.isnan(list(found.values())).all()
    apart, accuracy = [np.full((3, 3), d) for d in (1.0, 2.0, 3.0)], [np.full(3, a) for a in (0.3, 0.2, 0.1)]
    line = width_convergence.correlation(apart, accuracy)  # of points on a line
    assert line["r"] == pytest.approx(-1)
    assert np.isnan([line["low"], line["high"]]).all()
    with pytest.warns(RuntimeWarning, match="constant"):
        flat = width_convergence.correlation([np.ones((3, 3))] * 3, accuracy)
    assert np.isnan(list(flat.values())).all()


def test_the_explained_share_is_that_of_an_analysis_of_variance():
    from scipy.stats import f_oneway

    rng = np.random.default_rng(3)
    values, parts = rng.normal(size=30), np.repeat(["a", "b", "c"], [5, 10, 15])
    values[parts == "c"] += 1
    found = learning_rate_clusters.explained_share(values.tolist(), parts.tolist(), 500)
    ratio, p = f_oneway(*(values[parts == part] for part in "abc"))
    assert found["eta"] == pytest.approx(2 * ratio / (2 * ratio + 27))  # F = (eta / 2) / ((1 - eta) / 27)
    assert found["eta_p"] == pytest.approx(p, abs=0.03)  # normal numbers: the F test holds, too; 500 draws
    assert found["eta_low"] < found["eta"] < found["eta_high"]


def test_svcca_directions(done):
    run = done("svcca-directions")
    spread = [row for row in run.summary if "read from" in row["kind"]]
    assert [row["k"] for row in spread] == [4, 16, 32]
    assert spread[-1]["share"] == pytest.approx(1)
    assert {row["kind"] for row in run.summary} - {spread[0]["kind"]} == {
        *("SVCCA", "PCA"),
        *("random neurons", "most active neurons"),
    }
    for row in run.summary:
        assert row["networks"] == 3
        assert 0 < row["share"] <= 1.1
    by_count = {row["k"]: row["share"] for row in run.summary if row["kind"] == "PCA"}
    assert by_count[16] > by_count[2]
    most = max(row["share"] for row in run.summary if row["kind"] == "SVCCA")
    assert most > 0.8  # sixteen of thirty-two directions do most of the work
    assert figures_of(run) == {"accuracy.png", "distributed.png"}


@pytest.mark.parametrize(("needed", "outcome"), [(100, "reproduced"), (50, "differs")])
def test_svcca_directions_are_judged_by_how_few_and_how_distributed_they_are(needed, outcome):
    study, settings = studies.study("svcca-directions"), svcca_directions.Settings(networks=3, counts=(10, 20), distributed=(20,), neurons=(20, 50, 100, 256))  # fmt: skip
    accuracy = [
        {"seed": seed, "kind": kind, "k": k, "full": 1.0, "accuracy": (0.995 if kind in {"SVCCA", "PCA"} and k == 20 else 0.5) - 0.001 * seed}
        for seed in range(3)
        for kind in svcca_directions.KINDS
        for k in (10, 20)
    ]  # fmt: skip
    read = [
        {"seed": seed, "directions": 20, "neurons": m, "accuracy": 0.99 if m >= needed else 0.6}
        for seed in range(3)
        for m in settings.neurons
    ]
    found = study.judge(settings, {"accuracy": accuracy, "distributed": read})
    assert found.outcome == outcome
    assert found.statistics["neurons for 20 directions"] == needed
    assert f"20 directions need {needed} of 256 neurons" in found.text


def test_width_convergence(done):
    run = done("width-convergence")
    assert [(row["measure"], row["width"]) for row in run.summary] == [
        (measure, width) for measure in ("cca|one_minus", "cka:estimator=debiased|one_minus") for width in (8, 32)
    ]
    for narrow, wide in (run.summary[:2], run.summary[2:]):
        label = narrow["measure"]
        assert run.verdict.statistics[f"{label} difference"] == pytest.approx(wide["trained"] - narrow["trained"])
        assert run.verdict.statistics[f"{label} untrained"] == pytest.approx(wide["untrained"] - narrow["untrained"])
        assert narrow["trained_low"] < narrow["trained"] < narrow["trained_high"]
        assert narrow["test_accuracy"] > 0.3  # chance is 0.1
    assert figures_of(run) == {"width.png"}


def test_a_fall_more_than_before_training_follows_from_the_table_of_pairs(done):
    run = done("width-convergence")
    label = "cca|one_minus"
    rows = [r for r in table_of(run, "pairs") if (r["measure"], r["layer"]) == (label, "hidden2")]
    assert len(rows) == 2 * 8 * 7 / 2
    change = {}
    for kind, sign in (("trained", 1), ("untrained", -1)):
        for width in ("8", "32"):
            own = [float(r["value"]) for r in rows if r["networks"] == kind and {r[end].partition("/")[0] for end in ("network", "network_b")} == {width}]  # fmt: skip
            change[width] = change.get(width, 0) + sign * statistics.fmean(own)
    found = run.verdict.statistics
    assert found[f"{label} excess difference"] == pytest.approx(change["32"] - change["8"])
    assert found[f"{label} excess difference"] == pytest.approx(
        found[f"{label} difference"] - found[f"{label} untrained"]
    )
    assert found[f"{label} excess low"] < found[f"{label} excess difference"] < found[f"{label} excess high"]
    assert found[f"{label} excess p"] >= 2 / 70


def groups_of_networks(seed):
    """Distances and accuracies of five groups of four networks that go together, with noise."""
    rng = np.random.default_rng(seed)
    apart, accuracy = [], []
    for k in range(5):
        one = np.triu(0.9 - 0.1 * k + 0.1 * rng.normal(size=(4, 4)), 1)
        apart.append(one + one.T)
        accuracy.append(0.2 * k + 0.05 * rng.normal(size=4))
    return apart, accuracy


def test_the_correlation_with_accuracy_has_an_interval_over_networks_and_p_over_orders():
    apart, accuracy = groups_of_networks(0)
    found = width_convergence.correlation(apart, accuracy)

    def mean(one, kept):
        return statistics.fmean(one[i, j] for i, j in itertools.combinations(kept, 2))

    def r(out=(None, None)):
        kept = [[i for i in range(4) if (k, i) != out] for k in range(5)]
        distances = [mean(one, some) for one, some in zip(apart, kept, strict=True)]
        return distances, [one[some].mean() for one, some in zip(accuracy, kept, strict=True)]

    distances, reached = r()
    assert found["r"] == pytest.approx(np.corrcoef(distances, reached)[0, 1])
    z = [[np.arctanh(np.corrcoef(*r((k, i)))[0, 1]) for i in range(4)] for k in range(5)]
    reach = 3.182446 * np.sqrt(
        sum(3 / 4 * ((np.array(one) - np.mean(one)) ** 2).sum() for one in z)
    )  # t, three degrees
    ends = np.tanh(np.arctanh(found["r"]) + np.array([-reach, reach]))
    assert (found["low"], found["high"]) == pytest.approx(ends, rel=1e-5)
    strength = [abs(np.corrcoef(distances, order)[0, 1]) for order in itertools.permutations(reached)]
    assert found["p"] == pytest.approx(np.mean(np.array(strength) >= abs(found["r"]) - 1e-12))


def width_tables(settings, fall, before):
    """Networks whose distance falls with the width by some amount, after and before training."""
    rng = np.random.default_rng(0)
    tables = {"distances": [], "tests": [], "pairs": [], "networks": []}
    for kind, amount in (("trained", fall), ("untrained", before)):
        for k, width in enumerate(settings.widths):
            middle = 0.8 - amount * k / (len(settings.widths) - 1)
            values = [middle + 0.01 * rng.normal() for _ in range(10)]
            same = {"networks": kind, "measure": "cca", "layer": "conv8"}
            pairs = itertools.combinations([f"{width}/seed-{s}" for s in range(5)], 2)
            tables["pairs"] += [{**same, "network": a, "network_b": b, "value": v} for (a, b), v in zip(pairs, values, strict=True)]  # fmt: skip
            tables["distances"].append(
                {**same, "width": width, "distance": statistics.fmean(values), "low": 0, "high": 1}
            )
        tables["tests"].append({**same, "contrast": "spread: 48 - 4", "difference": -fall, "low": -fall - 0.05, "high": 0.05 - fall, "p": 0.01})  # fmt: skip
    tables["networks"] = [{"width": width, "seed": s, "test_accuracy": 0.2 + 0.1 * k + 0.01 * rng.normal()} for k, width in enumerate(settings.widths) for s in range(5)]  # fmt: skip
    return tables


@pytest.mark.parametrize(
    ("fall", "before", "outcome"),
    [(0.4, 0.1, "reproduced"), (0.4, 0.4, "differs"), (0.0, 0.0, "not reproduced"), (0.0, -0.3, "not reproduced")],
)
def test_width_is_judged_by_the_fall_and_how_much_of_it_training_made(fall, before, outcome):
    settings = width_convergence.Settings()
    found = studies.study("width-convergence").judge(settings, width_tables(settings, fall, before))
    assert found.outcome == outcome
    assert found.statistics["cca excess difference"] == pytest.approx(before - fall, abs=0.03)
    if fall:
        assert found.statistics["cca trained correlation r"] < -0.99
        assert found.statistics["cca trained correlation p"] == pytest.approx(2 / 40320, rel=2)  # this order, or nearly
