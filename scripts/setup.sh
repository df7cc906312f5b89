#!/bin/sh
# Makes or updates a virtual environment from a hashed lock and, when told so, installs Conveyor into it in editable form.
# usage: scripts/setup.sh VENV LOCK [--project]     PYTHON=… names the interpreter, 3.11 or newer
set -eu
cd "$(dirname "$0")/.."
venv=$1
lock=$2
project=${3:-}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHON:-python3 python python3.13 python3.12 python3.11}; do
        if new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

if command -v uv >/dev/null 2>&1; then uv=yes; else uv=; fi

if ! new_enough "$venv/bin/python"; then
    python=$(find_python) || {
        echo "setup: no Python 3.11 or newer found (tried ${PYTHON:-python3 and its versions}); install one or name it: make setup PYTHON=/path/to/python3.11" >&2
        exit 1
    }
    rm -rf "$venv"
    if [ "$uv" ]; then
        uv venv --quiet --python "$python" "$venv"
    else
        "$python" -m venv "$venv" || {
            echo "setup: $python cannot make a virtual environment; install its venv module (Debian: python3-venv) or uv" >&2
            exit 1
        }
    fi
fi

# One name for the two installers: the locks serve both.
install() {
    if [ "$uv" ]; then
        uv pip install --quiet --compile-bytecode --python "$venv/bin/python" "$@"
    else
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
    fi
}

# An environment that uv once made has no pip of its own.
[ "$uv" ] || "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip >/dev/null

echo "setup: installing $lock into $venv"
# A lock is complete: nothing is left to resolve, and pip's resolver stumbles over extras under hashes.
install --no-deps --require-hashes --requirement "$lock"
if [ "$project" ]; then
    install --no-deps --no-build-isolation --editable .
    # Commands start a third sooner, also where PYTHONDONTWRITEBYTECODE is set.
    "$venv/bin/python" -m compileall -q src
fi
