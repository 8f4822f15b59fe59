"""Recurrent networks of packages: how their files are read, and what the study of their states makes of tables."""

import importlib.metadata
import json
import types

import numpy as np
import pytest

torch = pytest.importorskip("torch")
h5py = pytest.importorskip("h5py")

from congruence.dynamics.studies import _shipped, sequence_time_packages  # noqa: E402
from congruence.errors import MissingExtraError, StoreError  # noqa: E402
from congruence.studies import REGISTRY  # noqa: E402

UNITS, INTO, CODES = 3, 4, 6


@pytest.fixture
def reference():
    """A network of Keras' kind in PyTorch's own layers: embedding, two LSTM layers, attention, logits."""
    torch.manual_seed(0)
    layers = [torch.nn.LSTM(INTO, UNITS, batch_first=True), torch.nn.LSTM(UNITS, UNITS, batch_first=True)]
    width = INTO + 2 * UNITS
    return types.SimpleNamespace(
        embedding=torch.nn.Embedding(CODES, INTO), layers=layers, attention=torch.randn(width), output=torch.nn.Linear(width, CODES)
    )  # fmt: skip


def cudnn(gates):
    """The kernel of Keras that holds matrices (units, in) as CuDNN does: the memory of the matrix, gate by gate."""
    return np.hstack([np.frombuffer(gate.tobytes(), np.float32).reshape(gate.shape[::-1]) for gate in gates])


def written(reference, path):
    """The file that Keras would have written."""
    with h5py.File(path, "w") as file:
        file["embedding/embedding/embeddings:0"] = reference.embedding.weight.detach().numpy()
        for k, layer in enumerate(reference.layers, 1):
            into, back = (getattr(layer, f"weight_{kind}_l0").detach().numpy() for kind in ("ih", "hh"))
            file[f"rnn_{k}/rnn_{k}/kernel:0"] = cudnn(np.split(into, 4))
            file[f"rnn_{k}/rnn_{k}/recurrent_kernel:0"] = np.hstack(np.split(back, 4))
            bias = [layer.bias_ih_l0.detach().numpy(), layer.bias_hh_l0.detach().numpy()]
            file[f"rnn_{k}/rnn_{k}/bias:0"] = np.concatenate(bias)
        file["attention/attention/attention_W:0"] = reference.attention.numpy()[:, None]
        file["output/output/kernel:0"] = reference.output.weight.detach().numpy().T
        file["output/output/bias:0"] = reference.output.bias.detach().numpy()
    return path


def test_a_file_in_the_layout_of_cudnn_gives_the_network_it_was_written_from(reference, tmp_path):
    network = _shipped.TextGen(_shipped.textgen_weights(written(reference, tmp_path / "w.hdf5")), {"a": 1, "b": 2})
    codes = torch.randint(CODES, (5, 7))
    with torch.no_grad():
        parts = [reference.embedding(codes)]
        for layer in reference.layers:
            parts.append(layer(parts[-1])[0])
        seen = torch.cat(parts, dim=-1)
        logit = seen @ reference.attention
        weight = torch.exp(logit) / torch.exp(logit).sum(dim=1, keepdim=True)
        expected = reference.output(torch.einsum("nt,ntp->np", weight, seen))
        torch.testing.assert_close(network(codes), expected)
        torch.testing.assert_close(network.lstm(parts[0])[0], parts[-1])  # what is unrolled is what is computed
    assert network.codes("abz").tolist() == [1, 2, 0]


def test_the_loss_of_characters_is_that_of_the_next(reference, tmp_path):
    network = _shipped.TextGen(_shipped.textgen_weights(written(reference, tmp_path / "w.hdf5")), {})
    text = np.random.default_rng(0).integers(CODES, size=12)
    with torch.no_grad():
        said = [
            torch.log_softmax(network(torch.from_numpy(text[None, k : k + 4])), 1)[0, text[k + 4]] for k in range(8)
        ]
    assert network.loss(text, 4, 8) == pytest.approx(-float(np.mean(said)), abs=1e-6)


def test_files_that_are_not_the_network_are_refused(reference, tmp_path):
    path = written(reference, tmp_path / "w.hdf5")
    with h5py.File(path, "a") as file:
        del file["output/output/bias:0"]
    with pytest.raises(StoreError, match=r"w\.hdf5 lacks output/output/bias\. Install the package"):
        _shipped.textgen_weights(path)
    with h5py.File(written(reference, tmp_path / "v.hdf5"), "a") as file:
        del file["rnn_2/rnn_2/bias:0"]
        file["rnn_2/rnn_2/bias:0"] = np.zeros(4 * UNITS, np.float32)  # as Keras writes it without CuDNN
    with pytest.raises(StoreError, match=r"rnn_2/rnn_2 is no LSTM of 3 units in the layout of CuDNN.*\(24,\).*\(12,\)"):
        _shipped.TextGen(_shipped.textgen_weights(tmp_path / "v.hdf5"), {})
    (tmp_path / "text").write_text("nothing")
    with pytest.raises(StoreError, match="cannot be read as HDF5"):
        _shipped.textgen_weights(tmp_path / "text")
    with pytest.raises(StoreError, match=r"cannot be read as an \.npz file"):
        _shipped.pronouncer_weights(tmp_path / "text")
    np.savez(tmp_path / "few.npz", enc_emb=np.zeros((29, 2)))
    with pytest.raises(StoreError, match="lacks enc_w_ih, enc_w_hh"):
        _shipped.pronouncer_weights(tmp_path / "few.npz")


@pytest.fixture
def pronouncer(tmp_path):
    rng = np.random.default_rng(1)
    arrays = {"enc_emb": rng.normal(size=(29, 4)), "dec_emb": rng.normal(size=(74, 4))}
    for part in ("enc", "dec"):
        arrays |= {f"{part}_w_ih": rng.normal(size=(9, 4)), f"{part}_w_hh": rng.normal(size=(9, 3))}
        arrays |= {f"{part}_b_ih": rng.normal(size=9), f"{part}_b_hh": rng.normal(size=9)}
    np.savez(tmp_path / "w.npz", **arrays, fc_w=rng.normal(size=(74, 3)), fc_b=rng.normal(size=74))
    return arrays | dict(np.load(tmp_path / "w.npz")), _shipped.Pronouncer(
        _shipped.pronouncer_weights(tmp_path / "w.npz")
    )


def step(x, h, arrays, part):
    """A step of a GRU as its paper and PyTorch's documentation write it."""
    into = np.split(arrays[f"{part}_w_ih"] @ x + arrays[f"{part}_b_ih"], 3)
    back = np.split(arrays[f"{part}_w_hh"] @ h + arrays[f"{part}_b_hh"], 3)
    reset, update = (1 / (1 + np.exp(-(into[k] + back[k]))) for k in (0, 1))
    return (1 - update) * np.tanh(into[2] + reset * back[2]) + update * h


def test_letters_become_phonemes_as_by_hand(pronouncer):
    arrays, network = pronouncer
    h = np.zeros(3)
    for letter in (5, 3, 1, 2):  # c, a, unknown, the end of the word
        h = step(arrays["enc_emb"][letter], h, arrays, "enc")
    np.testing.assert_allclose(network.read(["ca!"])[0, 0].numpy(), h, atol=1e-5)
    last, expected = 2, []
    for _ in range(5):
        h = step(arrays["dec_emb"][last], h, arrays, "dec")
        last = int(np.argmax(arrays["fc_w"] @ h + arrays["fc_b"]))
        expected.append(last)
    assert network.write(network.read(["ca!"]), 5)[0].tolist() == expected
    until = expected[: expected.index(3)] if 3 in expected else expected
    assert network.pronounce("ca!")[: len(until)] == [_shipped.PHONEMES[k] for k in until]


def test_a_package_that_is_missing_is_named_with_the_line_that_installs_it(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(MissingExtraError, match=r"needs textgenrnn.*pip install --no-deps 'textgenrnn==2\.0\.0'"):
        _shipped.textgenrnn()
    with pytest.raises(MissingExtraError, match=r"needs g2p-en; install it with: pip install 'g2p-en==2\.1\.0'"):
        _shipped.g2p()


def test_weights_that_do_not_work_are_refused(monkeypatch, pronouncer, reference, tmp_path):
    monkeypatch.setattr(_shipped, "g2p", lambda: pronouncer[1])
    with pytest.raises(StoreError, match=r"g2p-en pronounces 'similarity' .* instead of S IH2 M"):
        sequence_time_packages._pronouncer()
    network = _shipped.TextGen(_shipped.textgen_weights(written(reference, tmp_path / "w.hdf5")), {"e": 1, "t": 2})
    monkeypatch.setattr(_shipped, "textgenrnn", lambda: network)
    with pytest.raises(StoreError, match=r"textgenrnn predicts English no better than shuffled text"):
        sequence_time_packages._characters()


def installed(name):
    try:
        return bool(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return False


@pytest.mark.skipif(not installed("textgenrnn"), reason="textgenrnn asks for tensorflow and is installed by hand")
def test_textgenrnn_predicts_english():
    network = _shipped.textgenrnn()
    text = network.codes("I think that this is one of the best things that happened to me this year, and I want to thank all of you.")  # fmt: skip
    plain = network.loss(text, 40, len(text) - 41)
    shuffled = network.loss(np.random.default_rng(0).permutation(text), 40, len(text) - 41)
    assert plain < 1.2 < 4 < shuffled  # 0.7 to 0.9 and 5 to 6 nats on such text; equal for weights in another order


@pytest.mark.skipif(not installed("g2p-en"), reason="g2p-en is not installed")
def test_g2p_pronounces_words():
    network = _shipped.g2p()
    assert " ".join(network.pronounce("similarity")) == "S IH2 M AH0 L EH1 R AH0 T IY0"
    assert " ".join(network.pronounce("neural")) == "N UH1 R AH0 L"


@pytest.mark.skipif(not installed("g2p-en"), reason="g2p-en is not installed")
def test_the_quick_tier_runs(tmp_path):
    from congruence import studies

    pytest.importorskip("matplotlib").use("agg")
    done = studies.run("sequence-time-packages", "quick", out=tmp_path / "study")
    assert done.verdict.outcome in {"reproduced", "not reproduced", "differs"}
    assert all(np.isfinite(value) for value in done.verdict.statistics.values())
    assert {line["input"] for line in done.summary} == {"as it is", "repeated from step 5"}
    assert [path.name for path in (tmp_path / "study/figures").glob("*.png")] == ["g2p-reading.png"]
    assert not done.notes
    (check,) = json.loads((tmp_path / "study/pieces/g2p-reading-0.json").read_text())["tables"]["checks"]
    assert check["found"] == sequence_time_packages.CHECKED[1]


def tables(free, repeated):
    """Tables of one state: its similarity to the last step, as it is and with repeated input."""
    rows = [
        {"network": "n", "set": k, "state": "hidden[0]", "input": given, "measure": "cca", "step": step, "similarity": value + 0.001 * k}
        for k in range(3)
        for given, curve in (("as it is", free), ("repeated from step 1", repeated))
        for step, value in enumerate([*curve, 1.0])
    ]  # fmt: skip
    chance = [{"network": "n", "set": k, "state": "hidden[0]", "cca": 0.3} for k in range(3)]
    return {"similarity": rows, "chance": chance}


@pytest.mark.parametrize(
    ("free", "repeated", "outcome"),
    [
        ((0.4, 0.5, 0.7), (0.4, 0.6, 0.95), "reproduced"),
        ((0.4, 0.5, 0.7), (0.4, 0.5, 0.6), "differs"),
        ((0.95, 0.96, 0.97), (0.95, 0.97, 0.99), "not reproduced"),  # linear maps of each other
        ((0.7, 0.5, 0.4), (0.4, 0.6, 0.95), "not reproduced"),
    ],
)
def test_the_verdict_follows_from_the_curves(free, repeated, outcome):
    study, settings = REGISTRY["sequence-time-packages"], sequence_time_packages.Settings(("n",))
    found = study.judge(settings, tables(free, repeated))
    assert found.outcome == outcome
    assert found.statistics["n hidden[0] first"] == pytest.approx(free[0] + 0.001)
    assert found.statistics["n hidden[0] chance"] == pytest.approx(0.3)
    line = study.summarise(settings, tables(free, repeated))[1]
    assert line["settles"] == pytest.approx(repeated[-1] - free[-1])


def test_steps_begin_where_there_are_many_states():
    assert sequence_time_packages.compared_steps(8, 40, 4) == [8, 12, 16, 20, 24, 28, 32, 36, 38, 39]
    assert sequence_time_packages.compared_steps(3, 10, 4) == [3, 4, 5, 6, 7, 8, 9]
    assert sequence_time_packages.starts(8, 40, (0.1, 0.5)) == [11, 24]
