#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# Run a molecule scenario.
#
#     tools/molecule.sh [SCENARIO [COMMAND [ARGUMENT...]]]
#
# The command is molecule's; the default is the whole test of the scenario `default`, which leaves no container behind,
# however it ends. `create`, `converge`, `verify`, `login --host router`... keep the containers; `destroy` removes them.
# Needs root: the cables between the containers are made from outside them.
set -euo pipefail

project=$(cd "$(dirname "$0")/.." && pwd)
scenario=${1:-default}
command=${2:-test}
shift $(($# < 2 ? $# : 2))

cache=$project/.cache
work=$cache/molecule/$scenario
# One name for each scenario of each checkout: what a killed run left is found and removed by the next.
MWAN_MOLECULE_PREFIX=mwan-$scenario-$(echo "$project" | sha256sum | cut -c1-4)
export MWAN_MOLECULE_PREFIX
export MOLECULE_EPHEMERAL_DIRECTORY=$work/run
export MOLECULE_GLOB="molecule/*/molecule.yml"
export ANSIBLE_COLLECTIONS_PATH=$cache/collections:$cache/molecule/collections
export ANSIBLE_HOME=$work/ansible
# What is printed is read in logs, where frames of 80 columns only break the lines.
export MOLECULE_COMMAND_BORDERS=false
[ -t 1 ] || export NO_COLOR=1
export PATH=$project/.venv/bin:$PATH

main() {
    check_machine
    mkdir -p "$work"
    exec 8>"$work/lock"
    flock --nonblock 8 || fail "the scenario $scenario of this checkout is being run already"
    fetch_connection_plugin
    cd "$project"
    if [ "$command" = test ]; then
        run_test "$@"
    else
        run_molecule "$command" "$@"
    fi
}

fail() {
    echo "molecule.sh: $*" >&2
    exit 1
}

check_machine() {
    local tool
    [ "$(id -u)" -eq 0 ] || fail "must be run as root"
    [ -f "$project/molecule/$scenario/molecule.yml" ] || fail "there is no scenario $scenario"
    for tool in molecule podman ip nsenter flock; do
        command -v "$tool" >/dev/null || fail "$tool is missing; run tools/setup.sh venv and tools/setup.sh containers"
    done
    # Where the playbooks find this checkout as the collection it is
    [ -d "$cache/collections/ansible_collections/multiwan/linux/playbooks" ] || fail "run tools/setup.sh venv first"
}

fetch_connection_plugin() {
    local target=$cache/molecule/collections list=$project/molecule/shared/collections.txt download
    exec 7>"$cache/molecule/collections.lock"
    flock 7
    cmp --silent "$list" "$target/collections.txt" || {
        download=$(mktemp --directory --tmpdir="$cache/molecule")
        # Only files are taken from the wheel, none is run: it may ask for a newer Python than this one.
        python3 -m pip download --quiet --no-deps --ignore-requires-python --dest "$download" --requirement "$list"
        rm -rf "$target"
        mkdir -p "$target"
        python3 - "$download"/*.whl "$target" <<'PYTHON'
import sys
import zipfile

with zipfile.ZipFile(sys.argv[1]) as wheel:
    prefix = "ansible_collections/containers/podman/"
    wheel.extractall(sys.argv[2], [name for name in wheel.namelist() if name.startswith(prefix)])
PYTHON
        rm -rf "$download"
        cp "$list" "$target/collections.txt"
    }
    exec 7>&-
}

run_molecule() {
    molecule --base-config .config/molecule/config.yml "$1" --scenario-name "$scenario" "${@:2}"
}

run_test() {
    # What an earlier run left that was killed
    remove_containers
    trap remove_containers EXIT
    trap 'stop_molecule; exit 130' INT TERM HUP
    run_in_background test --destroy=never "$@" || {
        molecule/shared/diagnostics.sh "$MWAN_MOLECULE_PREFIX"
        fail "the scenario $scenario failed; the state of its containers is printed above"
    }
    run_in_background destroy
}

# In the background and in a process group of its own, so that a signal to this script ends molecule and all it started.
run_in_background() {
    set -m
    run_molecule "$@" </dev/null 8>&- &
    molecule_pid=$!
    set +m
    wait "$molecule_pid"
}

stop_molecule() {
    kill -TERM -- "-$molecule_pid" 2>/dev/null || true
    wait "$molecule_pid" || true
}

remove_containers() {
    podman ps --all --quiet --filter "label=mwan-molecule=$MWAN_MOLECULE_PREFIX" |
        xargs --no-run-if-empty podman rm --force --time 0 >/dev/null
    rm -rf "$MOLECULE_EPHEMERAL_DIRECTORY"
}

main "$@"
