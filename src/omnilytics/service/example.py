"""A settings file with every setting, generated from the settings themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator

from pydantic.fields import FieldInfo

from omnilytics.foundation.settings import variable
from omnilytics.service.settings import ServerSettings

_SAMPLES = {
    "server.endpoint": "https://server.example",
    "keys.keystore": "~/.foundry/keystores/server",
    "keys.password_file": "server.password",
    "keys.hpke_key": "server.hpke",
    "chain.market": "0x0000000000000000000000000000000000000000",
    "chain.chain_id": 1,
    "http.trusted_proxies": ["10.0.0.0/8"],
    "words.ray_address": "head.example:6379",
    "storage.database_url": "postgresql+psycopg://omnilytics@/omnilytics",
}
"""What a setting without a default may look like."""

_HEAD = f"""\
# Settings of an OmniLytics server. Every line below that begins with "# " and a name is a default.
# The environment overrides this file ({variable("section.key")}=...), flags override both.
# Paths are relative to this file. Amounts are wei, or text such as "0.5 ether".
# Check it: omnilytics config show --config FILE --origin
"""


def example_settings() -> str:
    """Return the file's text: TOML that sets nothing."""
    return _HEAD + "".join(_sections())


def _sections() -> Iterator[str]:
    defaults = ServerSettings()
    for section in ServerSettings.model_fields:
        table = getattr(defaults, section)
        yield f"\n# {type(table).__doc__}\n[{section}]\n"
        for name, field in type(table).model_fields.items():
            key = f"{section}.{name}"
            yield f"# {field.description}\n# {name} = {_example(key, field)}\n"


def _example(key: str, field: FieldInfo) -> str:
    if key == "policy.prices":
        return '[{ minimum_fee = "0.001 ether", minimum_opening_fee = 0 }]'
    value = _SAMPLES.get(key, field.default)
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    if isinstance(value, bool | int | float | list):
        return json.dumps(value)
    return json.dumps(str(value))
