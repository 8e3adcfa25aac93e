#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
#
# Runs ansible-test sanity on what git would commit, with every Python from 3.9 on that this machine has.
#
# Usage: [CORE=2.18] tools/sanity.sh [ansible-test sanity arguments, such as --test pylint]
#
# CORE is another ansible-core than .venv's, one of those in tools/cores.txt.
#
# ansible-test insists on a checkout at .../ansible_collections/multiwan/linux that is no symbolic link, so it gets a
# copy. It keeps its virtual environments in the home directory, so it gets one of those too.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv="$PWD/.venv"
[[ -z ${CORE:-} ]] || venv="$PWD/.cache/core/$CORE"
readonly venv
readonly home="$PWD/.cache/ansible-test"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

main() {
    local checkout="$scratch/ansible_collections/multiwan/linux"
    copy_tree "$checkout"
    link_pythons "$scratch/bin"
    provide_pip
    cd "$checkout"
    # the directory a script is in is where Python looks for modules first: not the /tmp of all
    mkdir "$scratch/tmp"
    TMPDIR="$scratch/tmp" HOME="$home" PATH="$scratch/bin:$venv/bin:/usr/local/bin:/usr/bin:/bin" ansible-test sanity --color no "$@" |
        sed --unbuffered --regexp-extended "/$pip_chatter/d"
}

readonly pip_chatter='^(Looking in|Processing|Collecting|Installing collected|Successfully installed|Using cached|  )'

# ansible-test asks git which files there are: a scratch repository that stages the copy answers.
copy_tree() {
    tools/export.sh "$1"
    git -C "$1" init --quiet
    git -C "$1" add --all
}

# By their real paths: ansible-test refuses a pyenv shim, and a shim may have no Python behind it.
link_pythons() {
    local minor name path
    mkdir -p "$1"
    for minor in 9 10 11 12 13 14; do
        for name in "$venv/bin/python3.$minor" "python3.$minor" "${PYENV_ROOT:-$HOME/.pyenv}/versions/3.$minor".*/bin/python; do
            if path="$("$name" -c 'import ensurepip, os, sys, venv; print(os.path.realpath(sys.executable))' 2>/dev/null)"; then
                ln -s "$path" "$1/python3.$minor"
                break
            fi
        done
    done
}

# ansible-test downloads get-pip.py from a server of the Ansible project. Python's own ensurepip does as well and needs
# no network; it is put where ansible-test keeps its downloads. The pip that comes this way then installs from the usual
# package index.
provide_pip() {
    local cache="$home/.ansible/test/cache" version
    mkdir -p "$cache"
    version="$("$venv/bin/python" -c '
from types import SimpleNamespace
from ansible_test._internal.python_requirements import get_venv_packages
print(get_venv_packages(SimpleNamespace(version="3.11"))["pip"].replace(".", "_"))')"
    echo 'import ensurepip; ensurepip.bootstrap(upgrade=True, default_pip=True)' >"$cache/get_pip_$version.py"
}

main "$@"
