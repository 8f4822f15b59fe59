"""congruence compare --stream: two models in one pass, kept in a run folder, resumed after a kill."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import congruence as cg  # noqa: E402
from commands import congruence  # noqa: E402
from congruence.api.models import compare_models  # noqa: E402
from congruence.engine.minibatch import MinibatchCKA  # noqa: E402
from congruence.engine.models import ModelPass  # noqa: E402

MODULE = """
import time
import torch
from torch import nn

PAUSE = 0.0

class Slow(nn.Module):
    def forward(self, x):
        time.sleep(PAUSE)
        return x

def net(seed, width=12):
    torch.manual_seed(seed)
    parts = {"first": nn.Linear(6, width), "act": nn.ReLU(), "second": nn.Linear(width, 5), "slow": Slow()}
    return nn.Sequential(__import__("collections").OrderedDict(parts))

def one():
    return net(0)

def two():
    return net(1, 9)

def data(seed=0, sizes=(16,) * 11 + (9,)):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(m, 6, generator=rng) for m in sizes]

def others():
    return data(seed=3)

def fewer():
    return data(sizes=(16, 16))

def with_data():
    return net(0), data()

def broken():
    yield from data()[:5]
    raise OSError("the disk is gone")

def words():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU()), count_letters

def more_words():
    return nn.Sequential(nn.Linear(2, 5), nn.Tanh()), count_vowels

def count_letters(texts):
    return torch.tensor([[len(t), t.count("e"), t.count(" ")] for t in texts], dtype=torch.float32)

def count_vowels(texts):
    return torch.tensor([[sum(t.count(v) for v in "aeiou"), len(set(t))] for t in texts], dtype=torch.float32)

def half_dead():
    model = net(0)
    nn.init.zeros_(model.second.weight)
    return model
"""
LABEL = "cka:estimator=debiased"
COMMAND = ["compare", "py:nets:one", "py:nets:two", "--stream", "--data", "py:nets:data", "--out"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(MODULE)
    sys.modules.pop("nets", None)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def nets():
    import nets

    return nets


def test_two_models_give_a_run_like_any_other(here):
    outcome = congruence(*COMMAND, "run", "--json")
    assert outcome.code == 0, outcome.err
    result = cg.load("run")
    made = nets()
    expected = compare_models(made.one(), made.two(), made.data())
    assert result.equals(expected)
    assert list(result.a) == ["first", "act", "second", "slow"]
    rows = outcome.json["rows"]
    with Path("run/comparison.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    errors = expected.dataset["standard_error"].values.ravel()
    assert [row["standard_error"] for row in rows] == pytest.approx(list(errors), nan_ok=True)
    assert [float(row["standard_error"]) for row in table] == pytest.approx(list(errors))
    assert re.search(r'"errors": ?"[\w+/=]{20,}"', Path("run/report.html").read_text())
    assert sorted(p.name for p in Path("run").iterdir()) == ["comparison.csv", "comparison.zarr", "report.html"]


def test_one_model_alone_and_matched_pairs(here):
    outcome = congruence(
        "compare", "py:nets:with_data", "--stream", "--out", "run", "--layers", "first", "-l", "second"
    )
    assert outcome.code == 0, outcome.err
    assert "Compared 2 representations with each other, on 185 stimuli" in outcome.out
    assert congruence(*COMMAND, "matched", "--pairs", "matched").code == 0
    status = cg.load("matched").dataset["status"].values[0]
    assert (status == "ok").sum() == 4
    assert (np.diag(status) == "ok").all()


def test_models_with_other_layers_and_types(here):
    options = [
        "--layers",
        "first",
        "--layers-b",
        "second",
        "--dtype",
        "float16",
        "--device",
        "cpu",
        "--steps",
        "flatten",
    ]
    assert congruence(*COMMAND, "run", *options).code == 0
    result = cg.load("run")
    assert (result.a, result.b) == (("first",), ("second",))
    made, sums = nets(), MinibatchCKA(["first"], ["second"])
    first = cg.extract(made.one(), made.data(), layers=["first"], dtype="float16").array("first").astype(float)
    second = cg.extract(made.two(), made.data(), layers=["second"], dtype="float16").array("second").astype(float)
    for start in range(0, 185, 16):
        sums.update({"first": first[start : start + 16]}, {"second": second[start : start + 16]})
    np.testing.assert_allclose(result.matrix(LABEL), sums.result().matrix(LABEL), atol=1e-12)


def test_every_model_gets_texts_in_its_own_form(here):
    lines = [f"{'ae' * (k % 7)} {'xyz' * (k % 5)} {k}" for k in range(40)]
    Path("texts.txt").write_text("\n".join(lines))
    outcome = congruence(
        "compare",
        "py:nets:words",
        "py:nets:more_words",
        "--stream",
        "--data",
        "texts.txt",
        "--batch-size",
        20,
        "--out",
        "run",
    )
    assert outcome.code == 0, outcome.err
    made = nets()
    a, b = made.words()[0], made.more_words()[0]
    halves = [lines[:20], lines[20:]]
    expected = compare_models(
        a, b, [made.count_letters(t) for t in halves], batches_b=[made.count_vowels(t) for t in halves]
    )
    assert cg.load("run").a == expected.a
    assert cg.load("run").provenance["stimuli"] == 40


def test_gates_work(here):
    assert congruence(*COMMAND, "pass", "--fail-under", f"{LABEL}=-1").code == 0
    failing = congruence(*COMMAND, "fail", "--fail-under", f"{LABEL}=0.99", "--gate", "matched")
    assert failing.code == 1
    assert "Gate failed" in failing.out
    other = congruence(*COMMAND, "never", "--fail-under", "procrustes=0.5")
    assert (other.code, Path("never").exists()) == (2, False)
    assert "procrustes, which is not computed" in other.error


def test_layers_that_do_not_vary_are_recorded(here):
    outcome = congruence("compare", "py:nets:half_dead", "--stream", "--data", "py:nets:data", "--out", "run")
    assert outcome.code == 3
    assert "does not vary" in outcome.out
    raised = congruence(
        "compare", "py:nets:half_dead", "--stream", "--data", "py:nets:data", "--out", "r", "--on-error", "raise"
    )
    assert raised.code == 2
    assert "does not vary" in raised.error
    assert (
        congruence("compare", "py:nets:half_dead", "--stream", "--data", "py:nets:data", "--out", "r", "--resume").code
        == 3
    )


def test_explain_runs_nothing(here):
    outcome = congruence(*COMMAND, "run", "--explain")
    assert outcome.code == 0
    assert "minibatch sums" in outcome.out
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["py:nets:one", "a.zarr", "--data", "py:nets:data"], "Compare models in one pass with --stream --data DATA, or record it first: congruence extract py:nets:one"),
        (["a.zarr", "--data", "texts.txt"], "--data goes with models and --stream"),
        (["a.zarr", "--stream"], "a.zarr is none. Leave --stream out"),
        (["py:nets:one", "--stream", "--data", "py:nets:data", "--dask", "local:2"], "--dask has no effect with --stream"),
        (["py:nets:one", "--stream", "--data", "py:nets:data", "--layers-b", "0"], "there is no B; --layers alone says"),
        (["py:nets:one", "--stream", "--data", "py:nets:data", "--align"], "--align has no effect with --stream"),
        (["py:nets:one", "--stream"], "nets:one comes without batches. Give stimuli with --data"),
        (["py:nets:one", "--stream", "--data", "py:nets:data", "-m", "procrustes"], "debiased cka only; got procrustes"),
        (["py:nets:one", "--stream", "--data", "py:nets:data", "-m", "cka", "-m", "cca"], "computes one measure"),
        (["py:nets:one", "--stream", "--data", "py:nets:data", "-l", "frist"], "first"),
    ],
)  # fmt: skip
def test_what_does_not_go_together(here, arguments, message):
    outcome = congruence("compare", *arguments, "--out", "run")
    assert outcome.code == 2
    assert message in outcome.error
    assert not Path("run").exists()


# ---- resuming --------------------------------------------------------------------------------------------------------


class Stop(Exception):
    pass


def interrupted(after, folder, error=Stop, **options):
    made = nets()

    def progress(done, stimuli):
        if done == after:
            raise error

    with pytest.raises(error):
        compare_models(made.one(), made.two(), made.data(), out=folder, progress=progress, **options)


def resume(folder, **changes):
    made = nets()
    given = {"a": made.one(), "b": made.two(), "batches": made.data()} | changes
    return compare_models(given.pop("a"), given.pop("b"), given.pop("batches"), out=folder, exists="resume", **given)


def test_a_run_goes_on_from_its_sums(here, monkeypatch):
    made = nets()
    whole = compare_models(made.one(), made.two(), made.data())
    interrupted(7, "run")
    assert Path("run/sums.npz").exists()
    ran = []
    forward = made.Slow.forward
    monkeypatch.setattr(made.Slow, "forward", lambda self, x: ran.append(len(x)) or forward(self, x))
    resumed = resume("run")
    assert resumed.equals(whole)
    # two models: the first batch again, which names the layers (and once before, to find its axis), then five more
    assert sorted(set(ran)) == [9, 16]
    assert len(ran) <= 2 * (1 + 5) + 4
    assert not Path("run/sums.npz").exists()
    assert resume("run").equals(whole)


def test_other_models_or_data_are_refused(here):
    interrupted(7, "run")
    made = nets()
    with pytest.raises(cg.StoreError, match="started with other inputs .models"):
        resume("run", a=made.net(5))
    with pytest.raises(cg.StoreError, match="started with other inputs .layers"):
        resume("run", layers_a=["first"])
    with pytest.raises(cg.StoreError, match="started with other inputs .steps"):
        resume("run", steps="flatten")
    for batches in (made.others(), made.fewer(), made.data()[1:]):
        with pytest.raises(cg.StoreError, match="not those that were summed before"):
            resume("run", batches=batches)
    finished = resume("run")
    with pytest.raises(cg.StoreError, match="what differs: models"):
        resume("run", a=made.net(5))
    with pytest.raises(cg.StoreError, match="not those that were summed before"):
        resume("run", batches=made.others())
    assert cg.load("run").equals(finished)


def test_a_damaged_file_of_sums_is_refused_and_can_be_replaced(here):
    interrupted(7, "run")
    Path("run/sums.npz").write_bytes(b"nothing")
    with pytest.raises(cg.CorruptStoreError, match="sums.npz was altered"):
        resume("run")
    made = nets()
    whole = compare_models(made.one(), made.two(), made.data(), out="run", exists="overwrite")
    assert whole.equals(compare_models(made.one(), made.two(), made.data()))


def test_a_batch_that_cannot_be_read_keeps_those_before(here):
    made = nets()
    with pytest.raises(cg.ExtractionError, match=r"Batch 5 cannot be read.* go on from there with exists='resume'"):
        compare_models(made.one(), made.two(), made.broken(), out="run")
    assert resume("run").equals(compare_models(made.one(), made.two(), made.data()))
    with pytest.raises(cg.UnknownNameError):
        compare_models(made.one(), made.two(), made.data(), ["frist"], out="new")
    assert not Path("new").exists()


def test_runs_are_not_updated_or_mixed_with_others(here):
    interrupted(7, "run")
    with pytest.raises(cg.ParameterError, match="cannot be updated"):
        compare_models(nets().one(), None, nets().data(), out="run", exists="update")
    np.save("x.npy", np.random.default_rng(0).normal(size=(30, 4)))
    assert congruence("compare", "x.npy", "--out", "run", "--resume").code == 2
    assert congruence(*COMMAND, "run").code == 2
    assert congruence(*COMMAND, "run", "--resume").code == 0


SLOWLY = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs start with interrupts ignored
sys.path.insert(0, ".")
import nets
nets.PAUSE = 0.05
import congruence.engine.kept as kept
kept.KeptSums.__init__.__defaults__ = (0.0,)
from congruence.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_process_that_is_stopped_is_resumed(here, how):
    assert congruence(*COMMAND, "whole").code == 0
    running = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, *COMMAND, "run"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not Path("run/sums.npz").exists():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    running.send_signal(how)
    _, said = running.communicate(timeout=60)
    if how == signal.SIGINT:
        assert running.returncode == 130
        assert "Traceback" not in said
        assert "congruence compare py:nets:one py:nets:two --stream --data py:nets:data --out run --resume" in said
    assert not Path("run/comparison.zarr").exists()
    assert congruence(*COMMAND, "run", "--resume").code == 0
    assert cg.load("run").equals(cg.load("whole"))


# ---- several processes -----------------------------------------------------------------------------------------------

RANK = """
import sys
import torch
sys.path.insert(0, ".")
import nets
from congruence.engine.models import ModelPass

rank = int(sys.argv[1])
torch.distributed.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
sums = ModelPass(nets.one(), nets.two(), nets.data()[rank::2]).accumulate()
state = {name: torch.as_tensor(value) for name, value in sums.state_dict().items()}
for value in state.values():
    torch.distributed.all_reduce(value)
sums.with_state(state).result().save(f"rank{rank}")
torch.distributed.destroy_process_group()
"""


def test_two_ranks_add_their_sums(here):
    command = [sys.executable, "-c", RANK]
    ranks = [subprocess.Popen([*command, str(rank), str(here / "rendezvous")]) for rank in range(2)]
    assert [rank.wait(120) for rank in ranks] == [0, 0]
    made = nets()
    whole = compare_models(made.one(), made.two(), made.data())
    for rank in range(2):
        result = cg.load(f"rank{rank}")
        # sums of 12 terms in another order
        np.testing.assert_allclose(result.matrix(LABEL), whole.matrix(LABEL), atol=1e-12)
        np.testing.assert_allclose(
            result.dataset["standard_error"], whole.dataset["standard_error"], atol=1e-8
        )  # a root of differences
        assert result.provenance["stimuli"] == 185


def test_merged_sums_say_nothing_of_single_parts(here):
    made = nets()
    parts = [ModelPass(made.one(), None, part).accumulate() for part in (made.data()[:5], made.data()[5:])]
    parts[0].merge(parts[1])
    about = parts[0].result().provenance
    assert (about["stimuli"], "batches_digest" in about) == (185, False)
    assert json.dumps(about["models"])


# ---- text encoders ---------------------------------------------------------------------------------------------------

WORDS = ["a", "the", "cat", "dog", "sees", "hears", "old", "new", "house", "tree"]


def write_encoder(folder, words, width, seed):
    """Write a small BERT with its own tokeniser, which splits what it does not know into letters."""
    transformers = pytest.importorskip("transformers")
    folder.mkdir()
    letters = [f"{mark}{c}" for c in "abcdefghijklmnopqrstuvwxyz" for mark in ("", "##")]
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *words]))
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=5 + len(letters) + len(words),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
    )
    transformers.BertModel(config).save_pretrained(folder)
    transformers.BertTokenizerFast(vocab=str(vocabulary)).save_pretrained(folder)


@pytest.mark.hf
def test_encoders_with_their_own_tokenisers(here):
    write_encoder(here / "whole", WORDS, 8, 0)
    write_encoder(here / "letters", WORDS[:3], 12, 1)
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(WORDS, size=rng.integers(2, 6))) for _ in range(30)]
    Path("texts.txt").write_text("\n".join(lines))
    layers = ["--layers", "encoder.layer.?"]
    options = ["--stream", "--data", "texts.txt", "--batch-size", 10, *layers, "--json"]
    outcome = congruence("compare", "hf:whole", "hf:letters", *options, "--out", "run")
    assert outcome.code == 0, outcome.err
    result = cg.load("run")
    assert result.a == result.b == ("encoder.layer.0", "encoder.layer.1")
    sums = MinibatchCKA(result.a, result.b)
    recorded = []
    for name in ("whole", "letters"):
        store = f"{name}.zarr"
        congruence("extract", f"hf:{name}", "--data", "texts.txt", *layers, "--batch-size", 10, "--steps", "token_mean", "--out", store)  # fmt: skip
        recorded.append(cg.open(store))
    for start in range(0, 30, 10):
        sums.update(*({name: acts.array(name)[start : start + 10] for name in acts} for acts in recorded))
    # what is stored was averaged over tokens in the same float32
    np.testing.assert_allclose(result.matrix(LABEL), sums.result().matrix(LABEL), atol=1e-6)
    same = congruence("compare", "hf:whole", "hf:whole", *options, "--out", "same")
    assert same.code == 0, same.err
    assert [m["name"] for m in cg.load("same").provenance["models"]] == ["whole (A)", "whole (B)"]
