"""Makes tests/vectors/hostile_artefacts: byte strings that every reader of artefacts must refuse.

Run this file to write them. index.json says of each case what is wrong with it, the code of the
refusal and a pattern of its message; frozen weights that come with a case are in a file of their
own. Files are compressed: some are long, all are dull.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from hostile_cases import all_cases
from hostile_parts import artefact, sequence, sound

FOLDER = Path(__file__).parent.parent / "vectors" / "hostile_artefacts"
SOUND = {"sound": sound, "sound_sequence": sequence}
"""Cases that are not spoilt: what refuses everything would refuse these."""


def make() -> tuple[list[dict[str, str]], dict[str, bytes]]:
    """The index, and the content of every file."""
    index, files = [], {}
    for name, document in SOUND.items():
        files[f"{name}.artefact"] = artefact(document())
        index.append({"name": name, "about": "nothing is wrong with it", "code": "", "words": ""})
    for case in all_cases():
        assert f"{case.name}.artefact" not in files, case.name
        files[f"{case.name}.artefact"] = case.data
        if case.frozen is not None:
            files[f"{case.name}.frozen"] = case.frozen
        fields = ("name", "about", "code", "words")
        index.append({field: getattr(case, field) for field in fields})
    return index, files


def main() -> None:
    index, files = make()
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()
    for name, content in files.items():
        (FOLDER / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
    (FOLDER / "index.json").write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    main()
