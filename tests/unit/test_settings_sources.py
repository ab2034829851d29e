"""Settings: which source wins, where a value came from, what is refused, what is never shown."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from omnilytics.foundation.amounts import parse_wei, show_wei
from omnilytics.foundation.errors import ConfigError, UsageError
from omnilytics.foundation.settings import (
    CONFIG_VARIABLE,
    Loaded,
    SecretUrl,
    load_settings,
    shown_url,
    variable,
)
from omnilytics.service.example import example_settings
from omnilytics.service.settings import ServerSettings

MARKET = "0x" + "5a" * 20


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OMNILYTICS_"):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "server.toml"


def load(file: Path, text: str, **flags: str) -> Loaded[ServerSettings]:
    file.write_text(text)
    named = {key.replace("__", "."): value for key, value in flags.items()}
    return load_settings(ServerSettings, file=file, flags=named)


def test_a_later_source_wins_and_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNILYTICS_HTTP__WORKERS", "3")
    monkeypatch.setenv("OMNILYTICS_CHAIN__POLL_SECONDS", "4")
    text = "[http]\nworkers = 2\nwaiting = 9\n[chain]\npoll_seconds = 1\n"
    loaded = load(file, text, chain__poll_seconds="5")
    shown = {each.key: (each.value, each.origin) for each in loaded.shown()}
    assert shown["http.waiting"] == (9, str(file))
    assert shown["http.workers"] == (3, "OMNILYTICS_HTTP__WORKERS")
    assert shown["chain.poll_seconds"] == (5.0, "flag")
    assert shown["log.level"] == ("info", "default")


def test_the_environment_names_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("[http]\nworkers = 2\n")
    monkeypatch.setenv(CONFIG_VARIABLE, str(file))
    assert load_settings(ServerSettings).settings.http.workers == 2


def test_made_directly_it_reads_no_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNILYTICS_HTTP__WORKERS", "3")
    monkeypatch.setenv("HTTP", '{"workers": 4}')
    assert ServerSettings().http.workers == 8


def test_paths_are_relative_to_their_file(file: Path) -> None:
    loaded = load(file, '[keys]\nkeystore = "keys/a"\nhpke_key = "/abs"\n[server]\ndata = "~/x"')
    assert loaded.settings.keys.keystore == file.parent / "keys/a"
    assert loaded.settings.keys.hpke_key == Path("/abs")
    assert loaded.settings.server.data == Path.home() / "x"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[chain]\nulr = 1", "did you mean chain.url?"),
        ("[chian]\nurl = 'http://a'", "did you mean chain.url?"),
        ("[http]\nkeystore = 'a'", "did you mean"),
        ("workers = 3", "did you mean http.workers?"),
        ("[zzz]\nqqqq = 3", "omnilytics config show lists them"),
    ],
)
def test_unknown_keys_get_the_nearest_right_one(file: Path, text: str, hint: str) -> None:
    with pytest.raises(ConfigError, match="unknown setting") as caught:
        load(file, text)
    assert hint in str(caught.value.hint)
    assert caught.value.ids["origin"] == str(file)


@pytest.mark.parametrize(
    "name",
    ["OMNILYTICS_CHAIN_URL", "OMNILYTICS_CHIAN__URL", "OMNILYTICS_CHAIN", "OMNILYTICS_X__Y"],
)
def test_unknown_variables_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "secret-value")
    with pytest.raises(ConfigError, match="unknown setting") as caught:
        load_settings(ServerSettings)
    assert caught.value.got == name
    assert "secret-value" not in str(caught.value.as_dict())


def test_variables_that_are_no_settings_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMNILYTICS_DEBUG", "OMNILYTICS_ANVIL", "OMNILYTICS_MACHINE_STEPS"):
        monkeypatch.setenv(name, "1")
    assert load_settings(ServerSettings).origins == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("chain.poll_seconds", "0"),
        ("chain.poll_seconds", "nan"),
        ("chain.request_seconds", "inf"),
        ("chain.url", "ftp://node"),
        ("chain.market", "0x1234"),
        ("chain.chain_id", "0"),
        ("http.workers", "65"),
        ("http.waiting", "-1"),
        ("server.listen", "8700"),
        ("server.listen", "a:99999"),
        ("server.endpoint", "https://a.example/"),
        ("server.endpoint", "https://a.example?key=1"),
        ("server.endpoint", "https://" + "a" * 250),
        ("rounds.void", "sometimes"),
        ("operations.shutdown_seconds", "13"),
        ("log.level", "loud"),
        ("policy.most_stake", "1.5 wei"),
        ("policy.most_stake", str(1 << 96)),
        ("policy.prices", "[]"),
        ("policy.prices", '[{"token": "0x00"}]'),
        ("policy.prices", "[{]"),
    ],
)
def test_every_value_is_bounded(key: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(ServerSettings, flags={key: value})
    assert key in str(caught.value)


@pytest.mark.parametrize("text", ["[chain\n", "a = \x00", "[http]\nworkers = 'many'"])
def test_bad_files_are_config_errors(file: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        load(file, text)


def test_a_missing_or_huge_file_is_refused(file: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(ServerSettings, file=file)
    with pytest.raises(ConfigError, match="too large"):
        load(file, "#" * (2 << 20))


def test_secrets_are_not_shown(file: Path) -> None:
    url = "https://user:pass@node.example:8443/v3/ACCESSKEY?k=1"
    loaded = load(file, f'[chain]\nurl = "{url}"\n[storage]\ndatabase_url = "postgresql://u:pw@db"')
    shown = {each.key: each.value for each in loaded.shown()}
    assert shown["chain.url"] == "https://node.example:8443"
    assert shown["storage.database_url"] == "postgresql://db"
    for text in (repr(loaded), str(loaded.settings), loaded.settings.model_dump_json()):
        assert "ACCESSKEY" not in text
        assert "pw" not in text
    assert loaded.settings.chain.url.get_secret_value() == url


def test_a_wrong_secret_is_not_told() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(ServerSettings, flags={"chain.url": "nohttp://u:hunter2@a"})
    assert "hunter2" not in str(caught.value.as_dict())


def test_secret_urls_are_secrets() -> None:
    assert isinstance(SecretUrl("http://a"), SecretStr)
    assert shown_url("http://[::1") == "(not a URL)"
    assert shown_url("http://a:99999/") == "(not a URL)"


def test_the_example_is_toml_that_sets_nothing_and_names_everything(file: Path) -> None:
    text = example_settings()
    assert load(file, text).origins == {}
    assert "None" not in text
    for section in ServerSettings.model_fields:
        assert f"\n[{section}]\n" in text
    # Every commented line with a name is a value that would be taken.
    lines = [line.removeprefix("# ") for line in text.splitlines()]
    keys = [each.key for each in load(file, text).shown()]
    taken = [line for line in lines if line.startswith("[") or _names(line, keys)]
    loaded = load(file, "\n".join(taken))
    assert set(loaded.origins) == set(keys)
    assert tomllib.loads("\n".join(taken))


def _names(line: str, keys: list[str]) -> bool:
    name, separator, _ = line.partition(" = ")
    return bool(separator) and any(key.endswith("." + name) for key in keys)


def test_the_policy_follows_the_settings(file: Path) -> None:
    text = f'[policy]\nmost_stake = "0.5 ether"\nprices = [{{token = "{MARKET}", minimum_fee = 7}}]'
    policy = load(file, text).settings.policy.policy()
    assert policy.most_stake_wei == 5 * 10**17
    assert policy.prices[0].token == bytes.fromhex(MARKET[2:])
    assert policy.prices[0].minimum_fee_wei == 7


def test_variable_names() -> None:
    assert variable("chain.poll_seconds") == "OMNILYTICS_CHAIN__POLL_SECONDS"


# amounts


@pytest.mark.parametrize(
    ("text", "wei"),
    [("1 ether", 10**18), ("0.5eth", 5 * 10**17), ("20 gwei", 2 * 10**10), ("7", 7), ("7 wei", 7)],
)
def test_amounts(text: str, wei: int) -> None:
    assert parse_wei(text) == wei


@pytest.mark.parametrize(
    "text", ["", "-1", "1e18", "0.1 wei", "0.0000000001 gwei", "1 dollar", "9" * 39, "1,5 ether"]
)
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(UsageError):
        parse_wei(text)


@given(st.integers(0, (1 << 127) - 1))
def test_amounts_survive_being_shown(wei: int) -> None:
    assert parse_wei(show_wei(wei)) == wei


def test_negative_amounts_are_shown() -> None:
    assert show_wei(-15 * 10**17) == "-1.5 ether"
