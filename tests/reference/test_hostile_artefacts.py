"""The corpus of hostile artefacts is what its script makes."""

from __future__ import annotations

import gzip
import json

from make_hostile_artefacts import FOLDER, make


def test_the_corpus_is_what_the_script_makes() -> None:
    index, files = make()
    assert json.loads((FOLDER / "index.json").read_text()) == index
    found = {path.name for path in FOLDER.iterdir()}
    assert found == {f"{name}.gz" for name in files} | {"index.json"}
    for name, content in files.items():
        assert gzip.decompress((FOLDER / f"{name}.gz").read_bytes()) == content, name
