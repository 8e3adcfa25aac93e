#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# Run molecule scenarios.
#
#     tools/molecule.sh [SCENARIO [COMMAND [ARGUMENT...]]]
#
# Without a scenario, all are tested, two at once where the machine has the memory and the processors; what each prints is
# printed when it has ended, and kept in .cache/molecule/SCENARIO.log. The command is molecule's; the default is the whole
# test, which leaves no container behind, however it ends. `create`, `converge`, `verify`, `login --host router`... keep
# the containers; `destroy` removes them.
# Needs root: the cables between the containers are made from outside them.
set -euo pipefail

project=$(cd "$(dirname "$0")/.." && pwd)
scenario=${1:-}
command=${2:-test}
shift $(($# < 2 ? $# : 2))

cache=$project/.cache
work=$cache/molecule/$scenario
# One name for each scenario of each checkout: what a killed run left is found and removed by the next.
MWAN_MOLECULE_PREFIX=mwan-$scenario-$(echo "$project" | sha256sum | cut -c1-4)
export MWAN_MOLECULE_PREFIX
export MOLECULE_EPHEMERAL_DIRECTORY=$work/run
export MOLECULE_GLOB="molecule/*/molecule.yml"
# Where ours is installed: once for all scenarios, or for the one that is run.
export MWAN_MOLECULE_INSTALLED=${MWAN_MOLECULE_INSTALLED:-}
export ANSIBLE_HOME=$work/ansible
# What is printed is read in logs, where frames of 80 columns only break the lines.
export MOLECULE_COMMAND_BORDERS=false
[ -t 1 ] || export NO_COLOR=1
export PATH=$project/.venv/bin:$PATH

main() {
    cd "$project"
    check_machine
    mkdir -p "$work"
    fetch_connection_plugin
    if [ -z "$scenario" ]; then
        install_collection
        test_all
        return
    fi
    [ -f "molecule/$scenario/molecule.yml" ] || fail "there is no scenario $scenario, but: $(scenarios | xargs)"
    exec 8>"$work/lock"
    flock --nonblock 8 || fail "the scenario $scenario of this checkout is being run already"
    [ -n "$MWAN_MOLECULE_INSTALLED" ] || install_collection
    export ANSIBLE_COLLECTIONS_PATH=$MWAN_MOLECULE_INSTALLED:$cache/molecule/collections
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
    for tool in molecule podman ip nsenter flock; do
        command -v "$tool" >/dev/null || fail "$tool is missing; run tools/setup.sh venv and tools/setup.sh containers"
    done
}

# As its users have it: built into an archive, and installed from that. What lies on another path is no reason not to.
install_collection() {
    local scratch
    MWAN_MOLECULE_INSTALLED=$work/installed
    scratch=$(mktemp --directory --tmpdir="$cache/molecule")
    tools/export.sh "$scratch/source"
    rm -rf "$MWAN_MOLECULE_INSTALLED"
    if ! {
        ansible-galaxy collection build --output-path "$scratch" "$scratch/source" &&
            ANSIBLE_COLLECTIONS_PATH=$MWAN_MOLECULE_INSTALLED ansible-galaxy collection install --offline \
                --collections-path "$MWAN_MOLECULE_INSTALLED" "$scratch"/*.tar.gz
    } >"$scratch/log" 2>&1; then
        cat "$scratch/log" >&2
        rm -rf "$scratch"
        fail "the collection cannot be built and installed"
    fi
    rm -rf "$scratch"
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

scenarios() {
    local path
    for path in molecule/*/molecule.yml; do
        basename "$(dirname "$path")"
    done
}

test_all() {
    local name
    declare -A running=() begun=()
    results=() failed=0
    trap 'stop "${!running[@]}"; exit 130' INT TERM HUP
    for name in $(scenarios); do
        ((${#running[@]} < $(at_once))) || await_one
        echo "molecule: testing $name"
        "$0" "$name" </dev/null >"$work/$name.log" 2>&1 &
        running[$!]=$name
        begun[$!]=$SECONDS
    done
    while ((${#running[@]})); do
        await_one
    done
    printf '%s\n' "${results[@]}"
    [ "$failed" -eq 0 ] || fail "$failed of ${#results[@]} scenarios failed"
}

# A scenario is five hosts with systemd and one Ansible, a gigabyte at most.
at_once() {
    local available
    available=$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo)
    if (($(nproc) >= 2 && available >= 2)); then echo 2; else echo 1; fi
}

# Its output is printed at once and whole, so that those of two do not mix.
await_one() {
    local pid='' status=0 name result
    wait -n -p pid "${!running[@]}" || status=$?
    name=${running[$pid]}
    result="molecule: $name passed in $((SECONDS - begun[$pid])) s"
    if [ "$status" -ne 0 ]; then
        result="molecule: $name FAILED"
        failed=$((failed + 1))
    fi
    unset "running[$pid]"
    cat "$work/$name.log"
    echo "$result"
    results+=("$result")
}

run_molecule() {
    molecule --base-config .config/molecule/config.yml "$1" --scenario-name "$scenario" "${@:2}"
}

run_test() {
    # What an earlier run left that was killed
    remove_containers
    trap remove_containers EXIT
    trap 'stop "$child"; exit 130' INT TERM HUP
    in_background run_molecule test --destroy=never "$@" || {
        in_background molecule/shared/diagnostics.sh "$MWAN_MOLECULE_PREFIX"
        fail "the scenario $scenario failed; the state of its containers is printed above"
    }
    in_background run_molecule destroy
}

# In a process group of its own, so that a signal to this script, which `wait` lets through, ends it and all it started.
in_background() {
    set -m
    "$@" </dev/null 8>&- &
    child=$!
    set +m
    wait "$child"
}

stop() {
    local pid
    for pid in "$@"; do
        kill -TERM -- "-$pid" 2>/dev/null || kill -TERM "$pid" 2>/dev/null || true
    done
    wait "$@" || true
}

remove_containers() {
    podman ps --all --quiet --filter "label=mwan-molecule=$MWAN_MOLECULE_PREFIX" |
        xargs --no-run-if-empty podman rm --force --time 0 >/dev/null
    rm -rf "$MOLECULE_EPHEMERAL_DIRECTORY"
}

main "$@"
