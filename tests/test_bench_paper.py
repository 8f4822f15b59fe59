"""The published resources: fixtures of the same layout, small, with the authors' recipe written out beside ours."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import congruence as cg
from commands import congruence
from congruence import benchmarks
from congruence.benchmarks import _paper, resources

SEEDS, LAYERS, WIDTH, STIMULI = range(1, 8), range(12), 16, 24
GONE = (0, 8, 14)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder like the published one: 7 seeds of a model 16 wide, 6 x 1 fine-tuned, 3 x 2 twice trained."""
    rng = np.random.default_rng(0)
    home = tmp_path_factory.mktemp("data") / "sim_metric_resources"

    def embed(architecture, seed, step, layer):
        folder = home / "embeddings" / "mnli_matched_100" / architecture / str(seed) / str(step) / str(layer)
        folder.mkdir(parents=True)
        np.save(folder / "rep.npy", rng.normal(size=(WIDTH, STIMULI)).astype("float32"))

    for seed, layer in itertools.product(SEEDS, LAYERS):
        embed("base", seed, 2000000, layer)
    for seed, layer in itertools.product(range(6), (0, 1)):
        embed("feather", seed, 0, layer)
    for seed, step, layer in itertools.product((1, 2, 3), (1, 2), (0, 1)):
        embed("medium_finetuned", seed, step, layer)

    def dump(experiment, content):
        folder = home / "scores" / experiment
        folder.mkdir(parents=True)
        (folder / "scores.pkl").write_bytes(pickle.dumps(content))

    # layers are numbered from 1; a level for the seed of the deletion, then the runs of the probe
    dump(
        "layer_exp",
        {t: {s: {k + 1: {0: {0: list(rng.random(3))}} for k in LAYERS} for s in SEEDS} for t in ("QNLI", "SST-2")},
    )
    dump("pca_deletion", {"SST-2": {s: {k + 1: {g: list(rng.random(3)) for g in GONE} for k in LAYERS} for s in SEEDS}})
    items = [{"guid": f"{kind}-{i}"} for kind in ("STRESS_ANTONYMY", "STRESS_NUMERICAL") for i in range(20)]
    items += [{"guid": f"HANS-{i}", "heuristic": "lexical_overlap", "label": "non-entailment"} for i in range(10)]
    dump("pretrain_finetune", ({p: {f: rng.random(50) < 0.7 for f in (1, 2)} for p in (1, 2, 3)}, items))
    (home / "scores" / "feather").mkdir()
    hans = pd.DataFrame({"Run": range(6), "MNLI dev acc.": rng.random(6), "Lexical (nonent)": rng.random(6)})
    hans.to_csv(home / "scores" / "feather" / "scores.csv", index=False)
    _distances(home, rng)
    return home


def _distances(home, rng):
    rows = {"layer_exp": [], "feather": [], "pca_deletion": [], "pretrain_finetune": []}
    ids = list(itertools.product(SEEDS, LAYERS))
    for (s1, l1), (s2, l2) in itertools.combinations_with_replacement(ids, 2):
        rows["layer_exp"].append(
            {"seed1": s1, "step1": 2000000, "layer1": l1, "seed2": s2, "step2": 2000000, "layer2": l2}
        )
    for s1, s2, layer in itertools.product(range(6), range(6), (0, 1)):
        if s1 <= s2:
            rows["feather"].append({"seed1": s1, "step1": 0, "layer1": layer, "seed2": s2, "step2": 0, "layer2": layer})
    for s1, s2, layer, gone in itertools.product(SEEDS, SEEDS, LAYERS, GONE):
        rows["pca_deletion"].append({"seed1": s1, "layer1": layer, "seed2": s2, "layer2": layer, "dims_deleted": gone})
    twice = list(itertools.product((1, 2, 3), (1, 2)))
    for (a, b), layer in itertools.product(itertools.combinations_with_replacement(twice, 2), (0, 1)):
        rows["pretrain_finetune"].append(
            {"seed1": a[0], "step1": a[1], "layer1": layer, "seed2": b[0], "step2": b[1], "layer2": layer}
        )
    for experiment, found in rows.items():
        table = pd.DataFrame(found)
        table["Procrustes"], table["CKA"], table["mean_cca_corr"] = rng.random((3, len(table)))
        (home / "dists" / experiment).mkdir(parents=True)
        table.to_csv(home / "dists" / experiment / "dists.csv")  # with the index, as the authors' files have it


def one_sided(found):
    return found.pvalue / 2 if found.statistic > 0 else 1 - found.pvalue / 2


# ---------------------------------------------------------------------------------------- what is read
def test_embeddings_are_transposed_and_named(root):
    found = resources.embeddings(root, "base")
    assert len(found) == 7 * 12
    first = found[0].load(root)
    assert first.values.shape == (STIMULI, WIDTH)
    assert first.name == "base-1-2000000/0"
    stored = np.load(root / "embeddings/mnli_matched_100/base/1/2000000/0/rep.npy")
    np.testing.assert_array_equal(first.values, stored.T)


def test_scores_are_read_as_the_authors_do(root):
    stored = pickle.loads((root / "scores/layer_exp/scores.pkl").read_bytes())
    found = resources.probe_accuracies(root, "layer_exp", "QNLI")
    assert found[3, 11, 0] == np.mean(stored["QNLI"][3][12][0][0])
    stored = pickle.loads((root / "scores/pca_deletion/scores.pkl").read_bytes())
    assert resources.probe_accuracies(root, "pca_deletion", "SST-2")[2, 7, 14] == np.mean(stored["SST-2"][2][8][14])
    correct, _ = pickle.loads((root / "scores/pretrain_finetune/scores.pkl").read_bytes())
    stress = resources.stress_accuracies(root)
    assert stress["STRESS_NUMERICAL"][3, 2] == np.mean(correct[3][2][20:40])
    assert stress["lex_nonent"][1, 1] == np.mean(correct[1][1][40:])
    hans = pd.read_csv(root / "scores/feather/scores.csv")
    assert resources.hans_accuracies(root)["lex_nonent"][4] == hans["Lexical (nonent)"][4]


@pytest.mark.filterwarnings("ignore::congruence.CongruenceWarning")
def test_published_distances_score_as_the_authors_script_does(root):
    tables = resources.published(root, "layer_exp")
    found = benchmarks.score(tables.distances, tables.scores, permutations=20, bootstraps=5, **tables.arguments)
    dists = pd.read_csv(root / "dists/layer_exp/dists.csv")
    accuracy = resources.probe_accuracies(root, "layer_exp", "QNLI")
    best = max(SEEDS, key=lambda seed: accuracy[seed, 11, 0])
    sub = dists[((dists.seed1 == best) & (dists.layer1 == 11)) | ((dists.seed2 == best) & (dists.layer2 == 11))]
    apart = [abs(accuracy[r.seed1, r.layer1, 0] - accuracy[r.seed2, r.layer2, 0]) for r in sub.itertuples()]
    rho = stats.spearmanr(sub["Procrustes"], apart)
    (row,) = found[
        (found.distance == "Procrustes") & (found.functionality == "QNLI") & (found.group == "11")
    ].itertuples()
    assert row.reference == f"{best}/11"
    assert row.n == len(sub) == 7 * 12
    assert row.spearman == pytest.approx(rho.statistic)
    assert row.spearman_p == pytest.approx(one_sided(rho))
    assert set(found["distance"]) == {"Procrustes", "CKA", "mean_cca_corr"}


@pytest.mark.filterwarnings("ignore::congruence.CongruenceWarning")
def test_published_seeds_are_compared_within_layers(root):
    for experiment, task, models in (("feather", "lex_nonent", 6), ("pretrain_finetune", "STRESS_ANTONYMY", 6)):
        tables = resources.published(root, experiment)
        found = benchmarks.score(tables.distances, tables.scores, permutations=20, bootstraps=5, **tables.arguments)
        rows = found[(found.functionality == task) & (found.group != "mean")]
        assert (rows["n"] == models).all()
        assert rows["permutation_p"].notna().all()
    # correlations were published as similarities
    dists = pd.read_csv(root / "dists/feather/dists.csv")
    np.testing.assert_allclose(
        resources.published(root, "feather").distances["mean_cca_corr"], 1 - dists["mean_cca_corr"]
    )


def test_published_deletions_follow_the_authors_rows(root):
    found = resources.published_deletion(root)
    dists = pd.read_csv(root / "dists/pca_deletion/dists.csv")
    accuracy = resources.probe_accuracies(root, "pca_deletion", "SST-2")
    rhos, taus = [], []
    for layer in range(7, 12):
        best = max(SEEDS, key=lambda seed, layer=layer: accuracy[seed, layer, 0])
        sub = dists[(dists.layer1 == layer) & ((dists.seed1 == best) | (dists.seed2 == best))]
        apart = [abs(accuracy[r.seed1, layer, 0] - accuracy[r.seed2, layer, r.dims_deleted]) for r in sub.itertuples()]
        rhos.append(stats.spearmanr(sub["CKA"], apart).statistic)
        taus.append(stats.kendalltau(sub["CKA"], apart).statistic)
    assert len(sub) == 13 * len(GONE)
    assert found["CKA"]["spearman"] == pytest.approx(np.mean(rhos))
    assert found["CKA"]["kendall"] == pytest.approx(np.mean(taus))


# ---------------------------------------------------------------------------------------- the paper tier
@pytest.mark.filterwarnings("ignore::congruence.CongruenceWarning")
def test_the_paper_tier_runs_on_the_resources(root, tmp_path, monkeypatch):
    monkeypatch.setenv("CONGRUENCE_DATA_DIR", str(root.parent))
    monkeypatch.setattr(_paper, "DELETED", GONE)
    done = benchmarks.run("functional", "cka", tier="paper", out=tmp_path / "run")
    heads = done.table[done.table["quantity"] == "spearman"].set_index("case")
    assert list(heads.index) == [
        "depth-bert-QNLI", "depth-bert-SST-2", "components-bert", "seeds-bert-hans", "two-stages-bert-STRESS_ANTONYMY",
        "two-stages-bert-STRESS_NUMERICAL",
    ]  # fmt: skip
    assert heads["value"].notna().all()
    assert done.failed == 0
    result = cg.load(tmp_path / "run" / "functional" / "seeds-bert-hans")
    x, y = (resources.Embedding("feather", seed, 0, 1).load(root).values for seed in (0, 5))
    assert float(result.matrix("cka").sel(a="feather-0-0/1", b="feather-5-0/1")) == pytest.approx(
        cg.measure("cka")(x, y)
    )
    components = cg.load(tmp_path / "run" / "functional" / "components-bert")
    assert "base-7-2000000/11/deleted-14" in components.a
    assert heads["n"]["components-bert"] == 5 * 7 * len(GONE)


# ---------------------------------------------------------------------------------------- what is refused
def test_missing_resources_say_where_they_belong(tmp_path, monkeypatch):
    monkeypatch.setenv("CONGRUENCE_DATA_DIR", str(tmp_path))
    done = congruence("bench", "run", "functional", "-m", "cka", "--tier", "paper", "--out", tmp_path / "run")
    assert done.code == 2
    assert "needs sim_metric_resources (Zenodo record 5117844), expected at" in done.error
    (tmp_path / "sim_metric_resources").mkdir()
    root = resources.resources_folder()
    with pytest.raises(cg.StoreError, match="expected SEED/STEP/LAYER/rep.npy"):
        resources.embeddings(root, "base")
    with pytest.raises(cg.StoreError, match=r"There is no .*rep.npy"):
        resources.Embedding("base", 1, 2, 3).load(root)
    with pytest.raises(cg.StoreError, match=r"There is no .*scores.pkl"):
        resources.probe_accuracies(root, "layer_exp", "QNLI")


def test_files_of_another_layout_are_refused(root, tmp_path):
    folder = tmp_path / "embeddings" / "mnli_matched_100" / "base" / "1" / "2" / "3"
    folder.mkdir(parents=True)
    np.save(folder / "rep.npy", np.zeros(5))
    with pytest.raises(cg.InputError, match=r"must hold a matrix of shape \(features, stimuli\)"):
        resources.Embedding("base", 1, 2, 3).load(tmp_path)
    with pytest.raises(cg.UnknownNameError, match="no task 'MRPC'"):
        resources.probe_accuracies(root, "layer_exp", "MRPC")


class Evil:
    def __reduce__(self):
        return print, ("run",)


def test_a_pickle_with_code_is_refused_before_it_runs(tmp_path, capsys):
    path = tmp_path / "scores.pkl"
    path.write_bytes(pickle.dumps({"QNLI": Evil()}))
    with pytest.raises(cg.StoreError, match="neither a plain container nor a NumPy array"):
        resources.read_pickle(path)
    path.write_bytes(b"\x80\x05")
    with pytest.raises(cg.StoreError, match="cannot be read"):
        resources.read_pickle(path)
    assert capsys.readouterr().out == ""
