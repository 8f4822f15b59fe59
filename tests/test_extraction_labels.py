"""Every recorded tensor is what its module put out, under that module's name: checked against forwards by hand."""

import types
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import congruence as cg
from congruence.extraction import layer_table

N, T, D = 5, 7, 6
# float32 forwards of the same modules: 1e-6 relative is a few units in the last place
CLOSE = {"rtol": 1e-6, "atol": 1e-6}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def x():
    return torch.randn(N, D)


def record(model, batches, layers="*", **options):
    """Return what `extract` recorded, as arrays by name."""
    acts = cg.extract(model, batches, layers, **options)
    return {name: acts.array(name) for name in acts}


def same(found, expected):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        np.testing.assert_allclose(found[name], tensor.detach().numpy(), **CLOSE, err_msg=name)


# ---- in place, nested, shared, repeated ------------------------------------------------------------------------------


def test_in_place_operations_do_not_change_what_was_recorded_before():
    conv, relu, double = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 1)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu, self.last = conv, relu, double

        def forward(self, x):
            return self.last(self.relu(self.conv(x))).mul_(3).flatten(1)

    images = torch.randn(N, 3, 8, 8)
    a = conv(images)
    expected = {"conv": a, "relu": a.relu(), "last": double(a.relu()), "output": double(a.relu()).mul(3).flatten(1)}
    found = record(Net(), [images[:2], images[2:]], ["*", "output"])
    same(found, expected)
    assert found["conv"].min() < 0


def test_layers_are_labelled_by_what_fired_and_not_by_the_order_of_definition():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Linear(4, 2), nn.Linear(D, 4)
            self.block = nn.Sequential(
                OrderedDict(b=nn.Tanh(), a=nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True)))
            )

        def forward(self, x):
            return self.last(self.block(self.first(x)))

    model, x = Net(), torch.randn(N, D)
    first = model.first(x)
    tanh = torch.tanh(first)
    linear = model.block.a[0](tanh)
    expected = {
        "first": first,
        "block.b": tanh,
        "block.a.0": linear,
        "block.a.1": linear.relu(),
        "block.a": linear.relu(),
        "block": linear.relu(),
        "last": model.last(linear.relu()),
    }
    acts = cg.extract(model, [x])
    same({name: acts.array(name) for name in acts}, expected)
    assert acts.definition_order == ("last", "first", "block", "block.b", "block.a", "block.a.0", "block.a.1")


def test_a_module_that_is_called_twice_is_numbered(x):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.step, self.act = nn.Linear(D, D), nn.ReLU(inplace=True)

        def forward(self, x):
            for _ in range(3):
                x = self.act(self.step(x))
            return x

    model, expected, state = Net(), {}, x
    for suffix in ("", "#2", "#3"):
        linear = model.step(state)
        state = linear.relu()
        expected |= {f"step{suffix}": linear, f"act{suffix}": state}
    same(record(model, [x[:2], x[2:]]), expected)
    same(record(model, [x], "step#2"), {"step#2": expected["step#2"]})


def test_a_shared_module_has_its_first_path_and_both_paths_select_it(x):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Sequential(nn.Linear(D, D), nn.Tanh())
            self.b = nn.Sequential(self.a[0], nn.ReLU())

        def forward(self, x):
            return self.b(self.a(x))

    model = Net()
    first = model.a[0](x)
    second = model.a[0](torch.tanh(first))
    for pattern in ("a.0", "b.0", ["a.0", "b.0"], "re:b[.]0"):
        acts = cg.extract(model, [x], pattern)
        same({name: acts.array(name) for name in acts}, {"a.0": first, "a.0#2": second})
        assert acts.provenance["aliases"] == {"a.0": ["b.0"]}
    same(record(model, [x], "b.0#2"), {"a.0#2": second})


def test_wrappers_leave_no_trace_in_names(x):
    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, x):
            return self.module(2 * x)

    net = nn.Sequential(OrderedDict(fc=nn.Linear(D, 3), out=nn.Tanh()))
    same(record(nn.DataParallel(net), [x]), {"fc": net.fc(x), "out": net(x)})
    same(record(Wrapper(nn.DataParallel(net)), [x]), {"fc": net.fc(2 * x), "out": net(2 * x)})
    same(record(torch.compile(net, backend="eager"), [x]), {"fc": net.fc(x), "out": net(x)})
    same(
        record(nn.Sequential(torch.compile(net, backend="eager")), [x]),
        {"0.fc": net.fc(x), "0.out": net(x), "0": net(x)},
    )
    plain, wrapped = cg.extraction.model_fingerprint(net), cg.extraction.model_fingerprint(nn.DataParallel(net))
    assert plain == wrapped


def test_a_child_called_output_keeps_that_name(x):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.output = nn.Linear(D, 2)

        def forward(self, x):
            return self.output(x).exp()

    model = Net()
    same(record(model, [x], ["output", "Net"]), {"output": model.output(x), "Net": model.output(x).exp()})


def test_a_model_without_submodules_is_selected_by_a_star(x):
    model = nn.Linear(D, 3)
    same(record(model, [x]), {"output": model(x)})
    same(record(model, [x], "output"), {"output": model(x)})


# ---- structured outputs ----------------------------------------------------------------------------------------------


@dataclass
class Pair:
    left: torch.Tensor
    right: torch.Tensor | None


class Returns(nn.Module):
    """Puts out whatever `make` makes of its input."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x)


class Around(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.inner = Returns(make)

    def forward(self, x):
        self.inner(x)
        return x


class Cache:
    def __init__(self, tensor):
        self.tensor = tensor


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda x: (x, x + 1), {"inner": 0, "inner[1]": 1}),
        (lambda x: [x], {"inner": 0}),
        (lambda x: (x, (x + 1, x + 2)), {"inner": 0, "inner[1][0]": 1, "inner[1][1]": 2}),
        (lambda x: ((x, x + 1), x + 2), {"inner[0][0]": 0, "inner[0][1]": 1, "inner[1]": 2}),
        (lambda x: (x, None, x + 1, "text", 3), {"inner": 0, "inner[2]": 1}),
        (lambda x: (x, Cache(x + 1)), {"inner": 0}),
        (lambda x: {"a": x, "b": {"c": x + 1}}, {"inner.a": 0, "inner.b.c": 1}),
        (lambda x: (x, {"a": [x + 1, x + 2]}), {"inner": 0, "inner[1].a[0]": 1, "inner[1].a[1]": 2}),
        (lambda x: Pair(x, None), {"inner.left": 0}),
        (lambda x: types.MappingProxyType({"a": x}), {"inner.a": 0}),
    ],
)
def test_structured_outputs_are_named_by_their_place(make, expected, x):
    same(record(Around(make), [x[:2], x[2:]]), {name: x + shift for name, shift in expected.items()})


def test_a_key_never_takes_the_name_of_a_module(x):
    class Backbone(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(D, 3)

        def forward(self, x):
            return {"fc": self.fc(x).relu(), "other": x}

    model = nn.Sequential(OrderedDict(net=Backbone()))
    fc = model.net.fc(x)
    same(record(model, [x]), {"net.fc": fc, "net[fc]": fc.relu(), "net.other": x})


def test_single_outputs_can_be_selected(x):
    model = Around(lambda x: (x, {"a": x + 1, "b": x + 2}))
    same(record(model, [x], "inner[1].b"), {"inner[1].b": x + 2})
    same(record(model, [x], ["inner[1].a", "inner[1].b"]), {"inner[1].a": x + 1, "inner[1].b": x + 2})
    with pytest.raises(cg.UnknownNameError, match=r"'inner\[2\]' matches no layer. Closest: inner\[1\]"):
        cg.extract(model, [x], "inner[2]")


# ---- recurrent modules -----------------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    """Takes (n, t, d), whatever its recurrent module wants."""

    def __init__(self, kind, **options):
        super().__init__()
        self.rnn = kind(D, 4, **options)

    def forward(self, x):
        return self.rnn(x if self.rnn.batch_first else x.transpose(0, 1))[0]


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_outputs_have_the_stimulus_first(kind, bidirectional, layers, batch_first):
    model = Recurrent(kind, batch_first=batch_first, bidirectional=bidirectional, num_layers=layers)
    x = torch.randn(N, T, D)
    # one stimulus at a time: no batch axis that could stand in the wrong place
    single = [model.rnn(stimulus) for stimulus in x]
    expected = {"rnn": torch.stack([out for out, _ in single])}
    if kind is nn.LSTM:
        expected["rnn[1][0]"] = torch.stack([h for _, (h, _) in single])
        expected["rnn[1][1]"] = torch.stack([c for _, (_, c) in single])
    else:
        expected["rnn[1]"] = torch.stack([h for _, h in single])
    acts = cg.extract(model, [x[:2], x[2:]])
    same({name: acts.array(name) for name in acts}, expected)
    assert acts["rnn"].recurrent
    np.testing.assert_allclose(acts["rnn"].matrix().values, expected["rnn"][:, -1].detach(), **CLOSE)


@pytest.mark.parametrize("enforce_sorted", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_packed_sequences_are_unpacked_in_the_order_of_the_stimuli(batch_first, enforce_sorted):
    lengths = torch.tensor([7, 5, 4, 2, 1] if enforce_sorted else [2, 7, 1, 5, 4])

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(D, 4, batch_first=batch_first, bidirectional=True)

        def forward(self, x, lengths):
            source = x if batch_first else x.transpose(0, 1)
            packed = pack_padded_sequence(source, lengths, batch_first=batch_first, enforce_sorted=enforce_sorted)
            return self.gru(packed)[1]

    model, x = Net(), torch.randn(N, T, D)
    acts = cg.extract(model, [(x[:3], lengths[:3]), (x[3:], lengths[3:])])
    for i, length in enumerate(lengths):
        out, hidden = model.gru(x[i, :length])
        np.testing.assert_allclose(acts.array("gru")[i, :length], out.detach(), **CLOSE)
        np.testing.assert_array_equal(acts.array("gru")[i, length:], 0)
        np.testing.assert_allclose(acts.array("gru[1]")[i], hidden.detach(), **CLOSE)
        np.testing.assert_allclose(acts["gru"].matrix().values[i], out[-1].detach(), **CLOSE)
    np.testing.assert_array_equal(acts.mask("gru").sum(1), lengths)


def test_a_recurrent_model_itself_takes_time_first():
    model, x = nn.LSTM(D, 4), torch.randn(T, N, D)
    out, (h, _) = model(x)
    found = record(model, [x[:, :2], x[:, 2:]])
    np.testing.assert_allclose(found["output"], out.transpose(0, 1).detach(), **CLOSE)
    np.testing.assert_allclose(found["output[1][0]"], h.transpose(0, 1).detach(), **CLOSE)
    acts = cg.extract(model, [pack_padded_sequence(x[:, :2], [7, 3]), pack_padded_sequence(x[:, 2:], [6, 5, 5])])
    assert acts["output"].n == N


class TimeFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.lstm, self.head = nn.Embedding(9, D), nn.LSTM(D, 4), nn.Linear(4, 3)

    def forward(self, tokens):
        return self.head(self.lstm(self.embed(tokens))[0])


def test_a_model_that_takes_time_first_is_recognised_by_its_recurrent_module():
    model, tokens = TimeFirst(), torch.randint(9, (T, N))
    embedded = model.embed(tokens)
    out, _ = model.lstm(embedded)
    found = record(model, [tokens[:, :2], tokens[:, 2:]], ["embed", "lstm", "head"])
    assert [a.shape for name, a in found.items() if "[" not in name] == [(N, T, D), (N, T, 4), (N, T, 3)]
    for name, tensor in {"embed": embedded, "lstm": out, "head": model.head(out)}.items():
        np.testing.assert_allclose(found[name], tensor.transpose(0, 1).detach(), **CLOSE)


def test_the_axis_of_the_stimuli_can_be_stated():
    model, tokens = TimeFirst(), torch.randint(9, (T, T))  # as many stimuli as positions: nothing to tell them by
    out = model.head(model.lstm(model.embed(tokens))[0])
    found = record(model, [tokens], "head", batch_axis=1)
    np.testing.assert_allclose(found["head"], out.transpose(0, 1).detach(), **CLOSE)


def test_recurrent_cells_are_numbered_over_time():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.LSTMCell(D, 4)

        def forward(self, x):
            state = None
            for t in range(x.shape[1]):
                state = self.cell(x[:, t], state)
            return state[0]

    model, x = Net(), torch.randn(N, 3, D)
    first = model.cell(x[:, 0])
    second = model.cell(x[:, 1], first)
    found = record(model, [x])
    assert list(found) == ["cell", "cell[1]", "cell#2", "cell#2[1]", "cell#3", "cell#3[1]"]
    np.testing.assert_allclose(found["cell#2[1]"], second[1].detach(), **CLOSE)


# ---- attention -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_has_the_stimulus_first_and_so_do_its_weights(batch_first):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(D, 2, batch_first=batch_first)

        def forward(self, x):
            x = x if batch_first else x.transpose(0, 1)
            return self.attention(x, x, x)[0]

    model, x = Net().eval(), torch.randn(N, T, D)
    single = [model.attention(s[:, None], s[:, None], s[:, None]) for s in x] if not batch_first else None
    single = single or [model.attention(s[None], s[None], s[None]) for s in x]
    out = torch.stack([values.squeeze(0 if batch_first else 1) for values, _ in single])
    weights = torch.cat([weights for _, weights in single])
    same(record(model, [x[:2], x[2:]]), {"attention": out, "attention[1]": weights})


@pytest.mark.parametrize("batch_first", [True, False])
def test_transformer_layers_are_recorded_inside_and_out(batch_first):
    layer = nn.TransformerEncoderLayer(D, 2, 12, dropout=0.5, batch_first=batch_first)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=batch_first)

        def forward(self, x, padding):
            source = x if batch_first else x.transpose(0, 1)
            return self.encoder(source, src_key_padding_mask=padding)

    model, x = Net(), torch.randn(N, T, D)
    padding = torch.zeros(N, T, dtype=torch.bool)
    padding[1, 4:] = True
    found = record(model, [(x[:2], padding[:2]), (x[2:], padding[2:])])
    assert {a.shape for name, a in found.items() if not name.endswith("linear1") and a.ndim == 3} == {
        (N, T, D),
        (N, T, 12),
    }
    blocks = [block.eval() for block in model.encoder.layers]
    for i in range(N):
        state = x[i, : 4 if i == 1 else T]
        for index, block in enumerate(blocks):
            inner = block.norm1(state + block.self_attn(state, state, state, need_weights=False)[0])
            hidden = block.linear1(inner)
            state = block.norm2(inner + block.linear2(hidden.relu()))
            name, valid = f"encoder.layers.{index}", slice(0, len(state))
            np.testing.assert_allclose(found[f"{name}.linear1"][i, valid], hidden.detach(), **CLOSE)
            np.testing.assert_allclose(found[name][i, valid], state.detach(), **CLOSE)
    assert "encoder.layers.0.self_attn.out_proj" not in found  # its weights are read, it is not called


def test_parametrised_weights_are_no_activations(x):
    model = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(D, N)), nn.utils.spectral_norm(nn.Linear(N, 3))
    )
    assert list(record(model, [x])) == ["0", "1"]


# ---- precision -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [(torch.bfloat16, np.float32), (torch.float16, np.float16), (torch.float64, np.float64)],
)
def test_precision_is_kept_and_recorded(dtype, stored, x):
    model = nn.Sequential(nn.Linear(D, 4), nn.ReLU()).to(dtype)
    acts = cg.extract(model, [x.to(dtype)])
    expected = model[0](x.to(dtype)).detach()
    np.testing.assert_array_equal(acts.array("0"), expected.to(torch.float64).numpy())
    assert acts.array("0").dtype == stored
    assert acts.model_dtype("0") == str(dtype).removeprefix("torch.")


def test_values_can_be_stored_in_another_precision(x):
    model = nn.Sequential(nn.Linear(D, 4))
    expected = model(x).detach()
    for name, dtype in {"float16": np.float16, "float64": np.float64}.items():
        acts = cg.extract(model, [x], dtype=name)
        np.testing.assert_array_equal(acts.array("0"), expected.numpy().astype(dtype))
        assert acts.array("0").dtype == dtype
    rounded = cg.extract(model, [x], dtype=torch.bfloat16)
    np.testing.assert_array_equal(rounded.array("0"), expected.bfloat16().float())
    assert rounded.model_dtype("0") == "bfloat16"
    with pytest.raises(cg.ExtractionError, match=r"0: values up to .* do not fit in float16. Store them as float32"):
        cg.extract(model, [x * 1e6], dtype="float16")
    with pytest.raises(cg.ParameterError, match="dtype must be one of float16, bfloat16, float32, float64; got 'int8'"):
        cg.extract(model, [x], dtype="int8")


# ---- the table -------------------------------------------------------------------------------------------------------


def test_the_table_lists_what_can_be_selected():
    model = nn.Sequential(
        OrderedDict(rnn=nn.GRU(D, 4, num_layers=2, batch_first=True), blocks=nn.ModuleList([nn.ReLU()]))
    )
    model.forward = lambda x: model.rnn(x)[0]
    bare = layer_table(model)
    assert [(row.name, row.module_type, row.shape, row.calls) for row in bare] == [
        ("rnn", "GRU", None, None),
        ("blocks.0", "ReLU", None, None),
        ("output", "Sequential", None, None),
    ]
    assert bare[0].parameters == sum(p.numel() for p in model.rnn.parameters())
    rows = layer_table(model, torch.randn(N, T, D))
    assert [(row.name, row.shape, row.calls) for row in rows] == [
        ("rnn", (N, T, 4), 1),
        ("rnn[1]", (N, 2, 4), 1),
        ("blocks.0", None, 0),
        ("output", (N, T, 4), 1),
    ]
    assert model.training
    with pytest.raises(cg.ExtractionError, match="The model failed on batch 0"):
        layer_table(model, torch.randn(N, T, D + 1))
