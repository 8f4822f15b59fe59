"""States over a sequence: the unrolled module is torch's, and time steps are compared with each other."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import congruence as cg
import reference
from congruence.dynamics import repeat_input, time_similarity, unroll
from congruence.dynamics._paired import Paired, state_measure
from congruence.errors import (
    CongruenceWarning,
    DegenerateError,
    InputError,
    ParameterError,
    ShapeError,
    UnknownNameError,
)

N, T, P, H = 9, 5, 3, 4
ROUNDING = 1e-6  # of float32 states of size one, computed by fused kernels and by separate operations


def module(kind, **options):
    torch.manual_seed(0)
    return kind(P, H, num_layers=2, **options)


def inputs(n=N):
    return torch.randn(n, T, P, generator=torch.Generator().manual_seed(1))


KINDS = [
    (nn.RNN, {}),
    (nn.RNN, {"nonlinearity": "relu", "bias": False}),
    (nn.GRU, {}),
    (nn.LSTM, {}),
    (nn.LSTM, {"proj_size": 2}),
]


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize(("kind", "options"), KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_an_unrolled_module_is_the_module(kind, options, bidirectional):
    net = module(kind, bidirectional=bidirectional, batch_first=True, **options)
    states = unroll(net, inputs())
    outputs, last = net(inputs())
    top = [states["hidden[1]"].values] + ([states["hidden[1].reverse"].values] if bidirectional else [])
    np.testing.assert_allclose(np.concatenate(top, axis=2), outputs.detach().numpy(), atol=ROUNDING)
    finals = {"hidden": last[0], "cell": last[1]} if kind is nn.LSTM else {"hidden": last}
    assert len(states) == 2 * (1 + bidirectional) * len(finals)
    for name, final in finals.items():
        for layer in range(2):
            for direction in range(1 + bidirectional):
                values = states[f"{name}[{layer}]{'.reverse' if direction else ''}"].values
                ended = values[:, 0 if direction else -1]
                expected = final[layer * (1 + bidirectional) + direction].detach().numpy()
                np.testing.assert_allclose(ended, expected, atol=ROUNDING)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_by_hand(net, x):
    """Hidden and cell states of one layer, from the equations, in NumPy."""
    w_x, w_h, b_x, b_h = (
        np.asarray(getattr(net, f"{name}_l0").detach(), dtype=float)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    h, c, found = np.zeros((len(x), H)), np.zeros((len(x), H)), []
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ w_x.T + b_x + h @ w_h.T + b_h, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        found.append((h, c))
    return (np.stack(states, axis=1) for states in zip(*found, strict=True))


@pytest.mark.parametrize("measure", ["cca", "cka"])
def test_an_unrolled_lstm_gives_the_time_matrix_of_a_manual_computation(measure):
    net = nn.LSTM(P, H, batch_first=True).double()
    x = inputs(40).double()
    states = unroll(net, x)
    for name, by_hand in zip(("hidden[0]", "cell[0]"), lstm_by_hand(net, x.numpy()), strict=True):
        np.testing.assert_allclose(states[name].values, by_hand, atol=1e-12)
        found = time_similarity(states[name], measure)
        expected = [[getattr(reference, measure)(by_hand[:, s], by_hand[:, t]) for t in range(T)] for s in range(T)]
        np.testing.assert_allclose(found.values, expected, atol=1e-6)
        assert found.dims == ("time", "other_time")
        assert found.attrs["n"] == 40


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_packed_and_padded_sequences_end_where_they_end(kind):
    net = module(kind, bidirectional=True, batch_first=True)
    lengths = torch.tensor([3, 5, 1, 4, 5, 2, 5, 5, 4])
    packed = pack_padded_sequence(inputs(), lengths, batch_first=True, enforce_sorted=False)
    expected = pad_packed_sequence(net(packed)[0], batch_first=True)[0].detach().numpy()
    for states in (unroll(net, packed), unroll(net, inputs(), lengths=lengths)):
        top = np.concatenate([states["hidden[1]"].values, states["hidden[1].reverse"].values], axis=2)
        np.testing.assert_allclose(top, expected, atol=ROUNDING)
        np.testing.assert_array_equal(states["hidden[0]"].mask.sum(axis=1), lengths)


def test_an_initial_state_and_time_first_are_taken_as_the_module_takes_them():
    net = module(nn.LSTM)
    start = (torch.full((2, N, H), 0.5), torch.full((2, N, H), -0.5))
    states = unroll(net, inputs().transpose(0, 1), start)
    outputs = net(inputs().transpose(0, 1), start)[0]
    np.testing.assert_allclose(states["hidden[1]"].values, outputs.transpose(0, 1).detach().numpy(), atol=ROUNDING)


def test_unroll_refuses_what_it_cannot_unroll():
    net = module(nn.GRU, batch_first=True)
    with pytest.raises(ParameterError, match="takes a torch.nn.RNN, GRU or LSTM; got Linear"):
        unroll(nn.Linear(2, 2), inputs())
    with pytest.raises(ShapeError, match=r"must have shape \(n, time, p\) with p = 3; got \(9, 5, 2\)"):
        unroll(net, inputs()[:, :, :2])
    with pytest.raises(
        InputError, match="must be a tensor or a PackedSequence; got list. Pad sequences of different lengths"
    ):
        unroll(net, [inputs()[0], inputs()[1, :2]])
    with pytest.raises(ShapeError, match="lengths must be 9 numbers from 1 to 5"):
        unroll(net, inputs(), lengths=[6] * N)
    with pytest.raises(ShapeError, match="initial must have the shapes"):
        unroll(net, inputs(), torch.zeros(1, N, H))
    with pytest.raises(ParameterError, match="brings its lengths"):
        unroll(net, pack_padded_sequence(inputs(), [T] * N, batch_first=True), lengths=[T] * N)


# ---- time against time -----------------------------------------------------------------------------------------------


def walk(n=40, length=4, seed=0):
    return np.random.default_rng(seed).normal(size=(n, length, 3)).cumsum(axis=1) + 1.0


def test_cosine_and_euclid_are_means_over_sequences():
    x = walk()
    found = time_similarity(x, "cosine", at=[3, 1])
    unit = x / np.linalg.norm(x, axis=2, keepdims=True)
    assert found["time"].values.tolist() == [3, 1]
    assert float(found.sel(time=3, other_time=1)) == pytest.approx(np.mean(np.sum(unit[:, 3] * unit[:, 1], axis=1)))
    found = time_similarity(x, "euclidean")
    assert found.attrs["orientation"] == "distance"
    assert float(found.sel(time=0, other_time=2)) == pytest.approx(np.linalg.norm(x[:, 0] - x[:, 2], axis=1).mean())


def test_the_claims_of_cosine_and_euclid_hold():
    rng = np.random.default_rng(0)
    x, y, z = rng.normal(size=(3, 30, 4))
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    for form in ("cosine", "euclidean"):
        m = Paired(form)
        assert m(x, x) == pytest.approx(m.info.identity, abs=1e-12)
        assert m(x, y) == pytest.approx(m(y, x))
        assert abs(m(x, y @ turn) - m(x, y)) > 1e-3
        assert abs(m(x + 1, y) - m(x, y)) > 1e-3
        with pytest.raises(ShapeError, match=f"{form} needs the same number of features"):
            m(x, y[:, :2])
    assert Paired("cosine")(3 * x, y) == pytest.approx(Paired("cosine")(x, y))
    assert abs(Paired("euclidean")(3 * x, y) - Paired("euclidean")(x, y)) > 1e-3
    assert Paired("euclidean")(x, z) <= Paired("euclidean")(x, y) + Paired("euclidean")(y, z)
    with pytest.raises(UnknownNameError, match="There is no measure 'cosinus'. Closest: cosine"):
        state_measure("cosinus")


def test_a_rotation_over_time_is_seen_by_cosine_and_not_by_cca():
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    start = np.random.default_rng(6).normal(size=(60, 3))
    states = np.stack([start @ np.linalg.matrix_power(turn, t) for t in range(4)], axis=1)
    np.testing.assert_allclose(time_similarity(states, "cca").values, 1, atol=1e-9)
    assert (time_similarity(states, "cosine").values[~np.eye(4, dtype=bool)] < 0.9).all()


def test_masked_steps_are_compared_over_the_same_sequences():
    x = walk()
    mask = np.ones((40, 4), dtype=bool)
    mask[:10, 3] = False
    with pytest.warns(
        CongruenceWarning, match="short_sequences: 10 of 40 sequences are not valid at all of the 4 steps"
    ):
        found = time_similarity(x, "cka", mask=mask)
    np.testing.assert_allclose(found.values, time_similarity(x[10:], "cka").values)
    assert found.attrs["n"] == 30
    assert time_similarity(x, "cka", mask=mask, at=range(3)).attrs["n"] == 40
    rep = cg.Representation(x, mask=mask)
    assert time_similarity(rep, "cka", at=range(3)).shape == (3, 3)


def test_a_transformer_is_compared_by_token_position():
    torch.manual_seed(0)
    net = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 2, enable_nested_tensor=False)
    tokens = torch.randn(30, 6, 4)
    acts = cg.extract(net, tokens, layers="layers.1")
    found = time_similarity(acts["layers.1"], "cka")
    with torch.no_grad():
        direct = net.eval()(tokens).numpy()
    assert float(found.sel(time=2, other_time=5)) == pytest.approx(reference.cka(direct[:, 2], direct[:, 5]), abs=1e-5)


def test_a_step_without_variation_is_missing_with_its_reason():
    x = walk()
    x[:, 0] = 1.0
    with pytest.warns(CongruenceWarning, match="failed_pairs: cca, 7 of 16 pairs of steps failed, first 0 and 0"):
        found = time_similarity(x, "cca")
    assert np.isnan(found.values[0]).all()
    assert np.isfinite(found.values[1:, 1:]).all()
    with pytest.raises(DegenerateError, match="No steps can be compared"):
        time_similarity(np.ones((5, 3, 2)), "cca")


def test_time_similarity_refuses_what_it_cannot_compare():
    x = walk()
    with pytest.raises(ShapeError, match=r"lengths from 2 to 4. Pad them .* say with mask, of shape \(n, time\)"):
        time_similarity([x[0], x[1, :2], x[2]])
    assert time_similarity(list(x), "cka").shape == (4, 4)
    with pytest.raises(ShapeError, match=r"states must have shape \(n, time, p\); got \(40, 4\)"):
        time_similarity(x[:, :, 0])
    with pytest.raises(ShapeError, match=r"mask must have shape \(n, time\) = \(40, 4\); got \(40, 3\)"):
        time_similarity(x, mask=np.ones((40, 3)))
    with pytest.raises(ParameterError, match="at names step 4, but the sequences have the steps 0 to 3"):
        time_similarity(x, at=[4])
    with pytest.raises(ParameterError, match="at must name different steps"):
        time_similarity(x, at=[1, 1])
    mask = np.zeros((40, 4), dtype=bool)
    mask[:, :2] = True
    with pytest.raises(DegenerateError, match=r"None of the 40 sequences is valid .* at=range\(2\)"):
        time_similarity(x, mask=mask)


def test_repeated_inputs_stay_what_they_are_at_the_start():
    tokens = np.arange(12).reshape(2, 6)
    np.testing.assert_array_equal(repeat_input(tokens, 2), [[0, 1, 2, 2, 2, 2], [6, 7, 8, 8, 8, 8]])
    features = torch.arange(12.0).reshape(2, 3, 2)
    assert torch.equal(repeat_input(features, 0), features[:, :1].expand(2, 3, 2))
    with pytest.raises(ParameterError, match="start must be a step from 0 to 5; got 6"):
        repeat_input(tokens, 6)
    with pytest.raises(ShapeError, match="inputs must have shape"):
        repeat_input(tokens[0], 0)
