"""The networks: shapes, sizes known from the literature, the same for the same seed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from omnilytics.foundation.errors import ConfigError, ModelError
from omnilytics.learning.models import MODEL_NAMES, MODELS, Takes, build_model
from omnilytics.learning.models.lora import with_adapters

SHAPES = {
    Takes.ANY: (1, 8, 8),
    Takes.IMAGES: (1, 12, 12),
    Takes.SEQUENCES: (8, 6),
    Takes.TOKENS: (9,),
}
LARGE = ("vgg11", "vgg11-batchnorm", "resnet18")
SMALL_NAMES = [name for name in MODEL_NAMES if name not in LARGE]


def samples(name: str, count: int = 3) -> Tensor:
    shape = SHAPES[MODELS[name].takes]
    if MODELS[name].takes is Takes.TOKENS:
        return torch.arange(count * shape[0]).reshape(count, *shape) % 10
    return torch.linspace(-1, 1, count * torch.Size(shape).numel()).reshape(count, *shape)


def size(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())


def build(name: str, seed: int = 1) -> nn.Module:
    return build_model(name, input_shape=SHAPES[MODELS[name].takes], outputs=10, seed=seed)


@pytest.mark.parametrize("name", SMALL_NAMES)
def test_a_seed_fixes_a_network_and_leaves_the_generator(name: str) -> None:
    before = torch.random.get_rng_state()
    one, same, other = build(name), build(name), build(name, seed=2)
    assert torch.equal(before, torch.random.get_rng_state())
    state, again = one.state_dict(), same.state_dict()
    assert all(torch.equal(state[key], again[key]) for key in state)
    assert any(not torch.equal(state[key], value) for key, value in other.state_dict().items())


@pytest.mark.parametrize("name", SMALL_NAMES)
def test_outputs_have_one_score_per_class(name: str) -> None:
    inputs = samples(name)
    with torch.no_grad():
        outputs = build(name)(inputs)
    tokens = inputs.shape[1:] if MODELS[name].takes is Takes.TOKENS else ()
    assert outputs.shape == (3, *tokens, 10)
    assert outputs.isfinite().all()


@pytest.mark.parametrize(
    ("name", "shape", "outputs", "parameters"),
    [
        ("lenet", (1, 28, 28), 10, 61_706),
        ("lenet", (1, 32, 32), 10, 61_706),
        ("resnet20", (3, 32, 32), 10, 272_474),
        ("resnet20-padded", (3, 32, 32), 10, 269_722),
        ("resnet18", (3, 32, 32), 10, 11_173_962),
        ("resnet18", (3, 224, 224), 1000, 11_689_512),
        ("vgg11-batchnorm", (3, 32, 32), 10, 9_231_114),
    ],
)
def test_sizes_are_those_of_the_literature(
    name: str, shape: tuple[int, ...], outputs: int, parameters: int
) -> None:
    with torch.device("meta"):
        module = build_model(name, input_shape=shape, outputs=outputs, seed=1)
    assert size(module) == parameters
    assert module(torch.empty(2, *shape, device="meta")).shape == (2, outputs)


@pytest.mark.parametrize("name", ["vgg11", "resnet20", "mobilenet", "resnet18"])
def test_small_images_fit(name: str) -> None:
    with torch.device("meta"):
        module = build_model(name, input_shape=(1, 8, 8), outputs=10, seed=1)
    assert module(torch.empty(2, 1, 8, 8, device="meta")).shape == (2, 10)


def test_the_two_shortcuts_agree_on_shapes_and_differ_in_values() -> None:
    convolved, padded = build("resnet20"), build("resnet20-padded")
    assert size(convolved) - size(padded) == 16 * 32 + 32 * 64 + 2 * (32 + 64)
    names = {key for key, _ in convolved.named_parameters()}
    assert {key for key, _ in padded.named_parameters()} < names


def test_the_rotary_tables_turn_without_changing_lengths() -> None:
    attention = build("transformer").get_submodule("blocks.0.attention")
    cosine, sine = attention.get_buffer("cosine"), attention.get_buffer("sine")
    assert torch.allclose(cosine**2 + sine**2, torch.ones(8, 8))
    assert torch.equal(cosine[0], torch.ones(8))
    assert torch.allclose(sine[3, :2], torch.tensor([3.0, 0.3]).sin())
    assert "blocks.0.attention.cosine" not in build("transformer").state_dict()


def test_the_language_model_sees_no_later_token_and_ties_its_head() -> None:
    module = build("language-model")
    tokens = samples("language-model", 1)
    changed = tokens.clone()
    changed[0, 5] = 9 - changed[0, 5]
    with torch.no_grad():
        before, after = module(tokens), module(changed)
    assert torch.equal(before[0, :5], after[0, :5])
    assert not torch.allclose(before[0, 5:], after[0, 5:])
    assert [key for key, each in module.named_parameters() if each.shape == (10, 32)] == [
        "embedding.weight"
    ]


def test_adapters_change_nothing_at_first_and_alone_are_trained() -> None:
    module = build("transformer")
    adapted = with_adapters(module, rank=2, seed=3)
    inputs = samples("transformer")
    with torch.no_grad():
        assert torch.equal(module(inputs), adapted(inputs))
    assert all(each.requires_grad for each in module.parameters())
    adapted(inputs).sum().backward()
    trained = {key for key, each in adapted.named_parameters() if each.grad is not None}
    linears = [key for key, each in module.named_modules() if isinstance(each, nn.Linear)]
    assert trained == {f"{key}.{part}.weight" for key in linears for part in ("down", "up")}
    assert size(adapted) - size(module) == sum(
        2 * (each.in_features + each.out_features)
        for each in module.modules()
        if isinstance(each, nn.Linear)
    )


@pytest.mark.parametrize(
    ("name", "shape", "want"),
    [
        ("resnet20", (64,), "(channels, height, width)"),
        ("transformer", (1, 8, 8), "(tokens, features)"),
        ("language-model", (8, 8), "(tokens,), int64"),
        ("lenet", (1, 8, 8), "12 pixels a side or more"),
    ],
)
def test_samples_that_do_not_fit_are_refused(name: str, shape: tuple[int, ...], want: str) -> None:
    with pytest.raises(ModelError) as caught:
        build_model(name, input_shape=shape, outputs=10, seed=1)
    assert caught.value.want == want


def test_unknown_networks_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown model"):
        build_model("resnet21", input_shape=(1, 8, 8), outputs=10, seed=1)
