"""The studies of identifiability on their quick tier, and the networks that they train together."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import congruence as cg
import congruence.identifiability.studies
from congruence import studies
from congruence.identifiability import _training
from congruence.identifiability._training import Recipe, evaluate_stack, radial_data, radial_labels, train_stack
from congruence.identifiability.studies import _pairs, _radial
from congruence.studies import Tier

DATA = radial_data(4, 400, 100)


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


# ---- studies ---------------------------------------------------------------------------------------------------------


def test_kl_to_zero(done):
    run = done("kl-to-zero")
    assert run.verdict.outcome == "reproduced"
    assert run.verdict.statistics["kl_share"] < 1e-4
    assert run.verdict.statistics["move_d_svd_f"] < 1e-10
    assert run.verdict.statistics["spread_over_seeds"] < 0.02
    assert [row["rho"] for row in run.summary] == [1, 5, 20]
    assert all(row["d_llv"] > 1 and row["d_svd_f"] > 0.9 and row["m_cca_f"] < 0.1 for row in run.summary)
    assert figures_of(run) == {"kl-to-zero.png"}


def test_kl_to_zero_is_judged_by_its_numbers():
    study = studies.study("kl-to-zero")
    settings = study.tiers["quick"].settings
    rows = study.work(settings, "seed-0")["pairs"] + study.work(settings, "seed-1")["pairs"]
    assert study.judge(settings, {"pairs": rows}).outcome == "reproduced"
    assert study.judge(settings, {"pairs": [{**row, "kl": 1.0} for row in rows]}).outcome == "not reproduced"
    moved = [{**row, "m_cca_f": row["rho"] / 100} for row in rows]
    assert study.judge(settings, {"pairs": moved}).outcome == "differs"


def test_bound_constructed(done):
    run = done("bound-constructed")
    assert run.verdict.outcome == "reproduced"
    assert run.verdict.statistics["above"] == 0
    assert run.verdict.statistics["useful"] > 0
    assert [row["labels"] for row in run.summary] == [4, 6]
    assert all(0 < row["largest_share_of_sharper_bound"] <= 1 for row in run.summary)


def test_a_point_above_the_line_is_not_overlooked():
    study = studies.study("bound-constructed")
    settings = study.tiers["quick"].settings
    rows = study.work(settings, "labels-4")["pairs"]
    for wrong in ({"d_fg": 2 * rows[0]["bound"]}, {"d_svd_f": 2 * rows[0]["bound_f"]}):
        verdict = study.judge(settings, {"pairs": [{**rows[0], **wrong}, *rows[1:]]})
        assert (verdict.outcome, verdict.statistics["above"]) == ("not reproduced", 1)


def test_width_closeness_and_bound_trained_share_their_networks(done):
    width, bound = done("width-closeness"), done("bound-trained")
    assert [(row["width"], row["models"]) for row in width.summary] == [(16, 6), (32, 6)]
    for row in width.summary:
        if row["good"] >= 5:
            assert row["d_llv_low"] <= row["d_llv"] <= row["d_llv_high"]
            assert 0 < row["d_fg"] < 1
        else:
            assert "d_llv" not in row
    assert bound.verdict.statistics["above"] == 0
    assert bound.verdict.statistics["pairs"] == 4 * 15
    free = [row["mean_accuracy"] for row in width.summary]
    assert free == pytest.approx(
        [
            np.mean([row["accuracy"] for row in _rows(bound, "models") if (row["width"], row["norm"]) == (w, 0)])
            for w in (16, 32)
        ]
    )
    assert figures_of(width) == {"width-d_llv.png", "width-d_fg.png"}
    assert figures_of(bound) == {"bound-trained.png"}


def _rows(run, table):
    import json

    found = []
    for path in (run.folder / "pieces").glob("*.json"):
        found += json.loads(path.read_text())["tables"][table]
    return found


def test_only_good_networks_count_for_the_width(done):
    run = done("width-closeness")
    good = {(m["width"], m["model"]) for m in _rows(run, "models") if m["accuracy"] > 0.9}
    assert good
    for row in _rows(run, "pairs"):
        assert {(row["width"], row["a"]), (row["width"], row["b"])} <= good


def made_up(widths, means, spread=0.05):
    """Tables of width-closeness with distances around given means."""
    rng = np.random.default_rng(0)
    pairs, models = [], []
    for width, mean in zip(widths, means, strict=True):
        models += [{"classes": 4, "width": width, "model": k, "accuracy": 0.95} for k in range(6)]
        for a in range(6):
            for b in range(a + 1, 6):
                values = {"d_llv": mean + spread * rng.normal(), "d_fg": mean / 2 + spread * rng.normal()}
                pairs.append({"classes": 4, "width": width, "a": a, "b": b, **values})
    return {"pairs": pairs, "models": models}


def test_width_closeness_is_judged_by_its_intervals():
    study = studies.study("width-closeness")
    settings = dataclasses.replace(study.tiers["quick"].settings, widths=(8, 16, 32))
    assert study.judge(settings, made_up((8, 16, 32), (1.0, 0.7, 0.4))).outcome == "reproduced"
    assert study.judge(settings, made_up((8, 16, 32), (0.4, 0.7, 1.0))).outcome == "not reproduced"
    partly = made_up((8, 16, 32), (1.0, 0.9, 0.8))
    for row in partly["pairs"]:
        row["d_fg"] = 0.5
    assert study.judge(settings, partly).outcome == "differs"
    few = made_up((8, 16, 32), (1.0, 0.7, 0.4))
    for row in few["models"]:
        row["accuracy"] = 0.5
    verdict = study.judge(settings, few)
    assert verdict.outcome == "not reproduced"
    assert "too few widths with 5 networks above 0.9 accuracy" in verdict.text


def test_image_classifiers(done):
    run = done("image-classifiers-2d")
    (row,) = run.summary
    assert row["mean_accuracy"] > 0.6
    assert row["above"] == 0
    assert {f"{side}s-seed-{k}.png" for side in ("embedding", "unembedding") for k in range(4)} < figures_of(run)
    assert "loss-and-cca.png" in figures_of(run)
    points = _rows(run, "points")
    assert {p["label"] for p in points} == set(range(10))
    study = studies.study("image-classifiers-2d")
    tables = {"pairs": [{**p, "loss_difference": 1.0} for p in _rows(run, "pairs")]}
    assert study.judge(None, tables).text == "No two networks have losses within 0.1 of each other."
    tables = {"pairs": [{**p, "loss_difference": 0.0, "m_cca_f": 0.99} for p in _rows(run, "pairs")]}
    assert study.judge(None, tables).outcome == "not reproduced"


def test_closeness_in_what(done):
    run = done("closeness-in-what")
    assert [row["distance"] for row in run.summary] == ["d_cca_f", "d_fg"]
    assert all(row["pairs"] == 6 and -1 <= row["spearman_kl"] <= 1 for row in run.summary)
    assert figures_of(run) == {"by-d_llv.png", "by-kl.png"}


def test_closeness_in_what_is_judged_by_its_intervals():
    study, rng = studies.study("closeness-in-what"), np.random.default_rng(0)
    models = [{"population": "nets", "model": k, "accuracy": 0.9, "diverse": 1} for k in range(10)]
    pairs = []
    for a in range(10):
        for b in range(a + 1, 10):
            true, noise = rng.uniform(size=2)
            row = {"population": "nets", "a": a, "b": b, "d_cca_f": true, "d_fg": true}
            pairs.append({**row, "d_llv": true, "kl": noise, "d_logit": true})
    (line, _) = study.summarise(None, {"pairs": pairs, "models": models})
    assert line["spearman_d_llv"] == pytest.approx(1)
    assert line["gain"] == pytest.approx(1 - line["spearman_kl"])
    assert line["gain_low"] < line["gain"] < line["gain_high"]
    assert study.judge(None, {"pairs": pairs, "models": models}).outcome == "reproduced"
    swapped = [{**row, "d_llv": row["kl"], "kl": row["d_llv"]} for row in pairs]
    assert study.judge(None, {"pairs": swapped, "models": models}).outcome == "not reproduced"


def test_distillation(done):
    run = done("distillation")
    assert [row["loss"] for row in run.summary] == ["kl", "l1", "l2"]
    by_loss = {row["loss"]: row for row in run.summary}
    assert by_loss["l2"]["d_logit"] < by_loss["kl"]["d_logit"]
    assert by_loss["l2"]["m_cca_f"] > by_loss["kl"]["m_cca_f"]
    assert run.verdict.outcome == "reproduced"
    assert run.verdict.statistics["radial-5_l1_low"] > 0
    study, students = studies.study("distillation"), _rows(run, "students")
    settings = study.tiers["quick"].settings
    same = [{**row, "m_cca_f": 0.5} for row in students]
    assert study.judge(settings, {"students": same}).outcome == "not reproduced"
    one = [{**row, "m_cca_f": 0.9 if row["loss"] == "l1" else 0.5} for row in students]
    assert study.judge(settings, {"students": one}).outcome == "differs"


def test_the_paper_tiers_are_the_published_settings():
    width = studies.study("width-closeness").tiers["paper"].settings
    assert (width.classes, width.widths) == ((4, 6, 10, 18), (16, 32, 64, 128, 256))
    assert (width.seeds, width.train, width.test, width.steps, width.learning_rate) == (20, 20_000, 2_000, 15_000, 1e-4)
    constructed = studies.study("bound-constructed").tiers["paper"].settings
    assert (constructed.labels, constructed.amounts, constructed.input_sets) == ((4, 5, 6, 10, 18), 250, 300)
    table = studies.study("kl-to-zero").tiers["paper"].settings
    assert (table.norms, table.seeds, table.per_label, table.input_sets) == (tuple(range(1, 21)), 5, 500, 100)


# ---- training --------------------------------------------------------------------------------------------------------


def test_a_stack_trains_each_network_as_alone():
    recipe = Recipe(2, 8, 40, 50, 1e-2)
    together = evaluate_stack(train_stack(recipe, DATA, [3, 7]), DATA)
    for place, seed in enumerate((3, 7)):
        alone = evaluate_stack(train_stack(recipe, DATA, [seed]), DATA)
        # 40 steps in float32, matrix products in another order
        np.testing.assert_allclose(together.f[place], alone.f[0], atol=1e-4)
        np.testing.assert_allclose(together.g[place], alone.g[0], atol=1e-4)


def test_a_stack_equals_layers_of_pytorch():
    stack = _training.Stack(Recipe(2, 8), DATA, [5])
    layers = []
    for place, weight in enumerate(stack.f.weights):
        linear = torch.nn.Linear(*weight.shape[1:], bias=place < 3)
        linear.weight.data = weight[0].T
        if place < 3:
            linear.bias.data = stack.f.biases[place][0, 0]
        layers += [linear, torch.nn.LeakyReLU()]
    expected = torch.nn.Sequential(*layers[:-1])(DATA.test)
    torch.testing.assert_close(stack.embed(DATA.test)[0], expected)
    bound = 1 / np.sqrt(8)
    assert 0.9 * bound < stack.f.weights[1].abs().max() <= bound


def test_training_lowers_the_loss_and_the_seed_decides():
    recipe = Recipe(2, 16, 200, 100, 1e-2)
    trained = evaluate_stack(train_stack(recipe, DATA, range(2)), DATA)
    untrained = evaluate_stack(_training.Stack(recipe, DATA, range(2)), DATA)
    assert (trained.loss < untrained.loss - 0.3).all()
    assert (trained.accuracy > 0.7).all()
    assert not np.allclose(trained.f[0], trained.f[1])
    again = evaluate_stack(train_stack(recipe, DATA, range(2)), DATA)
    np.testing.assert_array_equal(trained.f, again.f)


def test_fixed_norms():
    trained = evaluate_stack(train_stack(Recipe(2, 8, 5, 50, 1e-2, norm=20), DATA, [0]), DATA)
    assert np.linalg.norm(trained.f[0], axis=1) == pytest.approx(20, rel=1e-5)  # float32
    assert np.linalg.norm(trained.g[0], axis=1) == pytest.approx(20, rel=1e-5)


@pytest.mark.parametrize("loss", ["kl", "l1", "l2"])
def test_students_come_closer_to_their_teacher(loss):
    recipe = Recipe(2, 16, 150, 100, 1e-2)
    teacher = train_stack(recipe, DATA, [9])
    target = evaluate_stack(teacher, DATA)
    apart = []
    for steps in (0, 150):
        shorter = dataclasses.replace(recipe, steps=steps)
        found = evaluate_stack(train_stack(shorter, DATA, [1], loss=loss, teacher=teacher), DATA)
        distances = cg.identifiability.distributions(target.f[0], target.g[0], found.f[0], found.g[0])
        apart.append(distances.kl if loss == "kl" else distances.d_logit)
    assert apart[1] < 0.7 * apart[0]


def test_losses_are_what_they_say():
    logits, target = torch.randn(2, 5, 3, dtype=torch.float64), torch.randn(2, 5, 3, dtype=torch.float64)
    expected = {
        "kl": torch.nn.functional.kl_div(
            logits.log_softmax(-1), target.log_softmax(-1), log_target=True, reduction="none"
        ).sum((1, 2))
        / 5,
        "l1": (logits - target).abs().mean((1, 2)),
        "l2": ((logits - target) ** 2).sum((1, 2)) / 5,
    }
    for loss, value in expected.items():
        torch.testing.assert_close(_training._teacher_loss(logits, target, loss), value)
    labels = torch.tensor([0, 2, 1, 1, 0])
    likelihood = [torch.nn.functional.cross_entropy(one, labels) for one in logits]
    torch.testing.assert_close(_training._likelihood_loss(logits, labels), torch.stack(likelihood))


def test_radial_classes_are_bins_of_the_angle_of_a_line():
    points = np.array(
        [[1.0, 0.1], [-1.0, -0.1], [0.1, 1.0], [-0.1, -1.0], [-1.0, 0.1], [1.0, -0.1], [1.0, 0.0], [-1.0, 0.0]]
    )
    assert radial_labels(points, 4).tolist() == [0, 0, 1, 1, 3, 3, 0, 0]
    data = radial_data(6, 3000, 500)
    assert data.train.std() == pytest.approx(3, rel=0.05)
    assert np.bincount(data.train_labels.numpy(), minlength=6).min() > 400
    assert not torch.equal(data.train[:500], data.test)


def test_every_step_takes_a_batch_and_epochs_are_shuffled():
    rows = list(_training._batches(10, Recipe(steps=5, batch_size=4)))
    assert [len(r) for r in rows] == [4] * 5
    assert len(set(torch.cat(rows[:2]).tolist())) == 8
    assert list(_training._batches(3, Recipe(steps=2, batch_size=4)))[0].shape == (3,)


def test_a_damaged_file_in_the_cache_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("CONGRUENCE_CACHE_DIR", str(tmp_path))
    radial = _radial.Radial(4, 50, 20, 2, Recipe(2, 4, 2, 10))
    first = _radial.trained(radial)
    np.testing.assert_array_equal(_radial.trained(radial).f, first.f)
    (path,) = (tmp_path / "identifiability").iterdir()
    path.write_bytes(b"PK" + path.read_bytes()[2:50])
    with pytest.raises(cg.StoreError, match=r"radial-\w+.npz .* Remove .*npz and run again"):
        _radial.trained(radial)


# ---- statistics ------------------------------------------------------------------------------------------------------


def test_intervals_over_pairs_count_networks_not_pairs():
    """With one strange network among eight the interval is far wider than that of independent pairs."""
    pairs = [(a, b) for a in range(8) for b in range(a + 1, 8)]
    values = np.array([1.0 if 0 in pair else 0.0 for pair in pairs])
    low, high = _pairs.pair_interval(values, pairs)
    plain = _pairs.mean_interval(values)
    assert low < values.mean() < high
    assert high - low > 1.5 * (plain[1] - plain[0])


def test_the_interval_of_a_difference_excludes_zero_only_for_a_difference():
    rng = np.random.default_rng(0)
    pairs = [(a, b) for a in range(8) for b in range(a + 1, 8)]
    x, y = rng.normal(size=(2, len(pairs)))
    low, high = _pairs.difference_interval((x, pairs), (y, pairs))
    assert low < 0 < high
    low, high = _pairs.difference_interval((x + 3, pairs), (y, pairs))
    assert 0 < low < 3 < high


def test_studies_of_other_tiers_can_be_made():
    study = studies.study("bound-constructed")
    assert isinstance(study.tier("small"), Tier)
