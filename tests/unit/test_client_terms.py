"""Terms of a task, the names that the package gives, and files of state."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

import omnilytics
from omnilytics.client import files
from omnilytics.client.buyer import read_input_kind
from omnilytics.client.drafting import (
    COMMITTEES,
    DEFAULTS,
    FINE_FRACTIONAL_BITS,
    WINDOWS,
    _windows,
    complete,
    draft_components,
    draft_profile,
)
from omnilytics.client.settings import ClientSettings
from omnilytics.foundation.errors import ConfigError, UsageError
from omnilytics.foundation.randomness import SystemRandomness
from omnilytics.foundation.settings import load_settings
from omnilytics.learning.carried import CarriedModel
from omnilytics.perturbation.graph import Graph, InputKind
from omnilytics.perturbation.profiles import GAUGE, messages
from omnilytics.sharing.committee import Committee


def test_defaults_can_be() -> None:
    for servers, (privacy, errors) in COMMITTEES.items():
        Committee(servers, privacy, errors)
        for name in WINDOWS:
            windows = _windows(complete({"windows": name}), errors)
            assert windows.submission_seconds == WINDOWS[name]["submission_seconds"]
    longer = _windows(complete({"window": {"submission_seconds": 900}}), 1)
    assert longer.submission_seconds == 900
    assert complete({"rounds": 3})["rounds"] == 3
    assert DEFAULTS["rounds"] == 40
    with pytest.raises(UsageError) as caught:
        complete({"reward_wei": 1})
    assert caught.value.hint == "did you mean reward?"


def last_relu() -> Graph:
    return CarriedModel(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), input_shape=(4,)).graph


def two_layers() -> Graph:
    layers = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    return CarriedModel(layers, input_shape=(4,)).graph


def test_numbers_are_finer_outside_the_gauge() -> None:
    for given, want in (
        ({}, 16),
        ({"profile": "gauge"}, 16),
        ({"profile": "scales"}, FINE_FRACTIONAL_BITS),
        ({"profile": "noise"}, FINE_FRACTIONAL_BITS),
        ({"profile": "noise", "fractional_bits": 12}, 12),
    ):
        assert complete(given)["fractional_bits"] == want


def test_a_profile_follows_from_the_terms() -> None:
    graph = two_layers()
    noisy = complete({"profile": "noise", "loss": "mse", "noise_groups": 2, "noise_scale": 0.5})
    drawn = draft_profile(noisy, graph, None, SystemRandomness())
    assert (drawn.noise_groups, drawn.noise_scale, len(drawn.noise_factors)) == (2, 0.5, 2)
    assert all(0.5 <= factor <= 1.5 for factor in drawn.noise_factors)
    assert drawn != draft_profile(noisy, graph, None, SystemRandomness())
    names = {name for part in messages(graph, drawn).values() for name in part}
    components = draft_components(graph, drawn, dict.fromkeys(names, 1.0))
    wanted = ["gradient", "sigma1", "sigma2", "beta", "sums"]
    assert [component.name for component in components] == wanted
    with pytest.raises(UsageError, match="scales are not those of the module"):
        draft_components(graph, GAUGE, dict.fromkeys(names, 1.0))
    scaled = draft_profile(complete({"profile": "scales"}), graph, None, SystemRandomness())
    assert scaled.magnitude_bits == 1
    assert draft_profile(complete({}), graph, None, SystemRandomness()) == GAUGE


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"profile": "noisy"}, "unknown profile"),
        ({"profile": "noise"}, "needs the loss mse"),
        ({"profile": "noise", "loss": "mse", "noise_groups": 3}, "needs groups"),
        ({"profile": "noise", "loss": "mse", "noise_scale": 0}, "needs groups"),
        ({"profile": "scales", "magnitude_bits": 9}, "magnitudes are for"),
    ],
)
def test_profiles_that_cannot_be(terms: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        draft_profile(complete(terms), two_layers(), None, SystemRandomness())


def test_inputs_are_numbers_or_tokens() -> None:
    assert read_input_kind(complete({})["input_kind"]) is InputKind.NUMBERS
    assert read_input_kind("tokens") is InputKind.TOKENS
    with pytest.raises(UsageError, match="unknown kind of inputs") as caught:
        read_input_kind("words")
    assert caught.value.want == "numbers or tokens"


def test_noise_needs_a_linear_layer_at_the_end() -> None:
    terms = complete({"profile": "noise", "loss": "mse"})
    with pytest.raises(UsageError, match="a linear layer of one vector at the end") as caught:
        draft_profile(terms, last_relu(), None, SystemRandomness())
    assert caught.value.hint == "profile gauge takes any network"


def test_the_package_is_light_and_names_its_roles() -> None:
    code = "import sys, omnilytics; sys.exit('torch' in sys.modules or 'web3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert omnilytics.ModelOwner.__name__ == "ModelOwner"
    assert omnilytics.DataOwner.__name__ == "DataOwner"
    with pytest.raises(AttributeError):
        omnilytics.Nobody  # noqa: B018


def test_settings(tmp_path: Path) -> None:
    place = tmp_path / "client.toml"
    place.write_text('[keys]\nkeystore = "account"\n[client]\ndata = "state"\n')
    settings = load_settings(ClientSettings, file=place).settings
    assert settings.client.data == tmp_path / "state"
    place.write_text('[client]\nfolder = "state"\n')
    with pytest.raises(ConfigError, match="unknown setting"):
        load_settings(ClientSettings, file=place)


def test_files_are_private_whole_and_held_once(tmp_path: Path) -> None:
    place = tmp_path / "state" / "task" / "model"
    assert files.read_file(place) is None
    files.write_file(place, b"one")
    files.write_file(place, b"two")
    assert files.read_file(place) == b"two"
    assert place.stat().st_mode & 0o777 == 0o600
    assert place.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in place.parent.iterdir()] == ["model"]
    (place.parent / "folder").mkdir()
    with pytest.raises(ConfigError, match="cannot be written"):
        files.write_file(place.parent / "folder", b"three")
    assert sorted(path.name for path in place.parent.iterdir()) == ["folder", "model"]
    lock = files.FolderLock(place.parent)
    with pytest.raises(ConfigError, match="in use"):
        files.FolderLock(place.parent)
    lock.release()
    files.FolderLock(place.parent).release()
