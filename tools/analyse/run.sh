#!/bin/sh
# Static analysers over the contracts, each pinned in an environment of its own. Idempotent.
#   SECONDS_PER_FUNCTION  Mythril's time for each state-changing function (default 12)
set -eu
HERE=$(cd "$(dirname "$0")" && pwd)
REPOSITORY=$(cd "$HERE/../.." && pwd)
ROOT=$REPOSITORY/.analysers
BASE=${PYTHON:-python3.11}

tool() { # name: an environment of pinned packages, made once for one list of pins
    pins=$HERE/requirements-$1.txt
    cmp -s "$pins" "$ROOT/$1/.pins" && return
    echo "analyse: installing $1 into $ROOT/$1"
    rm -rf "${ROOT:?}/$1"
    "$BASE" -m venv "$ROOT/$1"
    grep -E '^setuptools==' "$pins" | xargs -r "$ROOT/$1/bin/pip" install -q --disable-pip-version-check
    "$ROOT/$1/bin/pip" install -q --disable-pip-version-check -r "$pins"
    cp "$pins" "$ROOT/$1/.pins"
}
mkdir -p "$ROOT/mythril-home"
tool mythril
tool vyper-guard
# The tools get no network, where the system can take it from them.
NETWORKLESS=
unshare -rn true 2>/dev/null && NETWORKLESS=1
export NETWORKLESS MYTHRIL_DIR="$ROOT/mythril-home"
export PATH="$ROOT/vyper-guard/bin:$PATH" MYTH="$ROOT/mythril/bin/myth" GUARD="$ROOT/vyper-guard/bin/vyper-guard"
export ACCEPTED="$HERE/accepted.txt"
exec nice "$REPOSITORY/.venv/bin/python" "$HERE/analyse.py" "$REPOSITORY/contracts" "$ROOT/out"
