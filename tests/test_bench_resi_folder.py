"""ReSi's folder of representations: its cases are those of the paper, and arrays come back as ReSi makes them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax

from commands import congruence
from congruence import benchmarks
from congruence.benchmarks import _resi_folder, running
from congruence.benchmarks.group_separation import Groups
from congruence.errors import InputError, StoreError

RNG = np.random.default_rng(0)
N = 24


def nothing(what, done, total):
    pass


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CONGRUENCE_DATA_DIR", str(tmp_path))
    place = tmp_path / "resi" / "cache"
    place.mkdir(parents=True)
    return place


def keep(folder, identifier, seed, layer=2, values=None, *, architecture="GCN", trained="cora", dataset="cora"):
    values = RNG.normal(size=(N, 5)).astype(np.float32) if values is None else values
    name = f"{identifier}__{architecture}__{trained}__{seed}__{dataset}__{layer}.npz"
    np.savez(folder / name, representation=values)
    return values


def cases(name):
    return list(benchmarks.benchmark(name).cases("paper", nothing))


def test_groups_are_those_of_the_paper(folder):
    for identifier in (
        "Normal",
        "RandomLabels_25",
        "RandomLabels_100",
        "Shortcut_0",
        "Shortcut_100",
        "Augmentation_25",
    ):
        for seed in range(3):
            keep(folder, identifier, seed)
            keep(folder, identifier, seed, layer=1)
    keep(folder, "Normal", 7)  # of the test of outputs, which has more seeds
    (labels,) = cases("label-randomisation")
    assert labels.name == "graphs.GCN.cora"
    assert labels.truth == Groups(("Normal.cora",) * 3 + ("RandomLabels_100.cora",) * 3 + ("RandomLabels_25.cora",) * 3)
    assert [one.name for one in labels.representations][:2] == ["Normal.cora/0", "Normal.cora/1"]
    assert {one.shape for one in labels.representations} == {(N, 5)}
    assert len(labels.pairs) == 9 * 8
    (shortcut,) = cases("shortcut-affinity")  # whose 0 % is a group of its own
    assert set(shortcut.truth.labels) == {"Shortcut_0.cora", "Shortcut_100.cora"}
    (augmented,) = cases("augmentation")
    assert set(augmented.truth.labels) == {"Normal.cora", "Augmentation_25.cora"}


def test_text_and_images_have_their_own_zero(folder):
    for seed in range(2):
        for rate in ("Augmentation_0", "Augmentation_100"):
            trained = {"Augmentation_0": "sst2", "Augmentation_100": "sst2_aug_rate10"}[rate]
            keep(folder, rate, seed, architecture="BERT-L", trained=trained, dataset="sst2_aug_rate0")
        keep(folder, "Normal", seed, architecture="BERT-L", trained="sst2", dataset="sst2_aug_rate0")
    (augmented,) = cases("augmentation")
    assert augmented.name == "text.BERT-L.sst2_aug_rate0"
    assert set(augmented.truth.labels) == {"Augmentation_0.sst2", "Augmentation_100.sst2_aug_rate10"}


def test_values_come_back_and_only_the_last_layer_counts(folder):
    first, last = (
        {(i, s): keep(folder, i, s, layer) for i in ("Normal", "RandomLabels_100") for s in range(2)}
        for layer in (0, 1)
    )
    (case,) = cases("label-randomisation")
    read = {one.name: one.load().values for one in case.representations}
    for (identifier, seed), values in last.items():
        np.testing.assert_array_equal(read[f"{identifier}.cora/{seed}"], values)
    assert not np.array_equal(read["Normal.cora/0"], first["Normal", 0])


def test_outputs_and_accuracies_are_the_truth_of_predictions(folder):
    logits = {seed: RNG.normal(size=(N, 3)) for seed in range(5)}
    for seed, answer in logits.items():
        keep(folder, "Normal", seed)
        np.savez(folder / f"GRAPHS_GCN_cora_Normal_{seed}__cora__output.npz", output=answer)
        np.savez(folder / f"GRAPHS_GCN_cora_Normal_{seed}__cora__accuracy.npz", output=0.5 + seed / 10)
    (outputs,) = cases("output-correlation")
    probabilities = {seed: softmax(answer, axis=1) for seed, answer in logits.items()}
    for a, b in itertools.combinations(range(5), 2):
        expected = np.mean(jensenshannon(probabilities[a], probabilities[b], base=2, axis=1) ** 2)
        assert outputs.truth.by_name["jsd"][a, b] == pytest.approx(expected, abs=1e-12)
        expected = np.mean(logits[a].argmax(1) != logits[b].argmax(1))
        assert outputs.truth.by_name["disagreement"][a, b] == pytest.approx(expected)
    (accuracy,) = cases("accuracy-correlation")
    assert accuracy.truth.by_name["accuracy"][0, 3] == pytest.approx(0.3)
    assert len(accuracy.representations) == 5


def test_layers_share_the_least_size_of_their_maps(folder):
    maps = {0: RNG.normal(size=(N, 2, 7, 7)), 1: RNG.normal(size=(N, 4, 4, 4)), 2: RNG.normal(size=(N, 8, 3, 3))}
    for seed, layer in itertools.product(range(2), maps):
        keep(folder, "Normal", seed, layer, maps[layer], architecture="ResNet18", trained="IN100", dataset="IN100")
    (case,) = cases("layer-monotonicity")
    assert (case.name, case.truth.depth, case.truth.networks) == (
        "images.ResNet18.IN100",
        3,
        ("Normal.IN100/0", "Normal.IN100/1"),
    )
    assert [one.shape for one in case.representations][:3] == [(N, 18), (N, 36), (N, 72)]
    for one, values in zip(case.representations, maps.values(), strict=False):
        pooled = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(values), (3, 3)).numpy()
        np.testing.assert_allclose(one.load().values, pooled.reshape(N, -1), atol=1e-12)
    assert len(case.pairs) == 2 * 3 * 2


def test_the_tier_runs_from_the_command_line(folder, tmp_path):
    for identifier, shift in (("Normal", 0.0), ("RandomLabels_100", 5.0)):
        common = RNG.normal(size=(N, 5))
        for seed in range(3):
            keep(folder, identifier, seed, values=common + 0.1 * RNG.normal(size=(N, 5)) + shift)
    done = congruence(
        "bench", "run", "label-randomisation", "-m", "cka", "--tier", "paper", "--out", tmp_path / "run", "--json"
    )
    assert done.code == 0
    table = benchmarks.load_run(tmp_path / "run").table.set_index("quantity")["value"]
    assert table["auprc"] == 1.0  # groups that share nothing are told apart


def test_all_benchmarks_are_those_that_have_the_tier():
    names = {one.name for one in running._benchmarks("all", "paper")}
    assert "layer-identification" not in names
    assert {"functional", "augmentation", "layer-monotonicity"} <= names


def test_what_is_missing_or_torn_is_named(folder, monkeypatch, tmp_path):
    with pytest.raises(StoreError, match="holds no representations of ReSi"):
        cases("augmentation")
    keep(folder, "Normal", 0)
    keep(folder, "RandomLabels_100", 0)
    with pytest.raises(
        InputError, match=r"has one network of the group Normal\.cora \(GCN on cora\); label-randomisation needs two"
    ):
        cases("label-randomisation")
    keep(folder, "Normal", 1)
    keep(folder, "RandomLabels_100", 1, values=np.zeros(N))
    with pytest.raises(InputError, match=r"must hold numbers of shape \(n, p\)"):
        cases("label-randomisation")
    with pytest.raises(InputError, match="accuracy-correlation has nothing to compare at tier paper"):
        benchmarks.run("accuracy-correlation", "cka", tier="paper", out=tmp_path / "run")
    torn = folder / "RandomLabels_100__GCN__cora__1__cora__2.npz"
    torn.write_bytes(b"PK")
    with pytest.raises(StoreError, match="is no representation of ReSi"):
        cases("label-randomisation")
    np.savez(torn, other=np.zeros((N, 2)))
    with pytest.raises(StoreError, match="with the array 'representation'"):
        cases("label-randomisation")
    with pytest.raises(StoreError, match="cannot be read"):
        _resi_folder._read(folder / "nowhere.npz", "output")
    monkeypatch.setenv("CONGRUENCE_DATA_DIR", str(tmp_path / "elsewhere"))
    with pytest.raises(StoreError, match="The paper tier needs the folder 'cache' of the experiments of ReSi"):
        cases("label-randomisation")


def predictions(folder, values, quantity="output", identifier="Normal", trained="cora"):
    for seed, value in enumerate(values):
        keep(folder, identifier, seed, trained=trained)
        np.savez(folder / f"GRAPHS_GCN_{trained}_{identifier}_{seed}__cora__{quantity}.npz", output=value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.full((N, 3), np.nan), "must hold finite logits"),
        (np.zeros(N), r"must hold finite logits of shape \(n, classes\).*Write the file again"),
        (np.full((N, 3), "a"), "must hold finite logits"),
        (np.zeros((N - 1, 3)), "answers to the same stimuli"),
    ],
)
def test_outputs_must_be_comparable(folder, wrong, message):
    predictions(folder, [*(RNG.normal(size=(N, 3)) for _ in range(4)), wrong])
    with pytest.raises(InputError, match=message):
        cases("output-correlation")


@pytest.mark.parametrize("wrong", [np.nan, [0.5, 0.6], "high"])
def test_accuracies_must_be_numbers(folder, wrong):
    predictions(folder, [0.5, 0.6, 0.7, 0.8, wrong], "accuracy")
    with pytest.raises(InputError, match="must hold a single finite number"):
        cases("accuracy-correlation")


def test_predictions_are_those_of_networks_trained_as_usual(folder):
    predictions(folder, [0.5, 0.6, 0.7, 0.8, 0.9], "accuracy")
    for identifier, trained in (("RandomLabels_100", "cora"), ("Normal", "citeseer")):
        predictions(folder, [0.1] * 5, "accuracy", identifier, trained)
    (case,) = cases("accuracy-correlation")
    assert {one.name.partition("/")[0] for one in case.representations} == {"Normal.cora"}
    predictions(folder, [0.1] * 5, "accuracy", "Brief")
    with pytest.raises(InputError, match=r"more than one group .*Brief.cora, Normal.cora.*take the others away"):
        cases("accuracy-correlation")


def test_names_and_layers_that_would_mislead_are_refused(folder):
    for identifier, seed in itertools.product(("Normal", "RandomLabels_100"), range(2)):
        keep(folder, identifier, seed)
    keep(folder, "Normal", 0, "\N{SUPERSCRIPT TWO}")  # a digit, but no number
    assert len(cases("label-randomisation")) == 1
    keep(folder, "Normal", 0, dataset="co.ra")
    keep(folder, "Normal", 0, dataset="co-ra")
    with pytest.raises(InputError, match=r"GCN on co\.ra and GCN on co-ra, which have one name.*Rename the files"):
        cases("label-randomisation")
    (folder / "Normal__GCN__cora__0__co.ra__2.npz").unlink()
    keep(folder, "Normal", 0, layer=3)
    with pytest.raises(
        StoreError, match=r"holds layer 3 of GCN on cora, but of Normal.cora/1 only others.*add the file"
    ):
        cases("label-randomisation")
