#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
#
# Installs what the tests and the demo need and this machine lacks. A second run finds everything and does nothing.
#
# Usage: tools/setup.sh venv | core VERSION | linters | promtool | network | servers | rivals | containers
#   venv        .venv from requirements-dev.txt, with a Python that Ansible supports, and what building it takes;
#               .cache/collections, where Ansible finds this checkout as multiwan.linux
#   core 2.18   .cache/core/2.18, another ansible-core than .venv has, from tools/cores.txt
#   linters     what make lint runs beside that
#   promtool    .cache/promtool, which checks docs/monitoring
#   network     what the lab's network namespaces and the router in them use
#   servers     Squid and nginx, which tests run in lab hosts; the machine itself does not run them
#   rivals      what the benchmarks measure beside our own
#   containers  what molecule's containers take
#
# System packages are installed as root by apt-get or dnf; for other users, the command to run is printed.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PATH:/usr/sbin:/sbin"

readonly venv=.venv
readonly oldest_python=11 # 3.11: the oldest that ansible-core 2.19 runs on
readonly pip_options=(--disable-pip-version-check --progress-bar off)

main() {
    case "${1:-}" in
        venv)
            make_venv
            link_collection
            ;;
        core) make_core_venv "${2:?which ansible-core?}" ;;
        linters) need_commands git shellcheck ;;
        promtool) provide_promtool ;;
        network) need_commands ip nft iptables conntrack sysctl ;;
        servers) provide_servers squid nginx ;;
        rivals) need_commands ping fping ;;
        containers) need_commands podman runc mmdebstrap ip ;;
        *)
            sed -n 's/^# \{0,1\}//; /^Usage/,/^ *containers/p' "${BASH_SOURCE[0]}" >&2
            exit 2
            ;;
    esac
}

make_venv() {
    local python stamp
    # The stamp is written last, and holds the path because the scripts in .venv/bin do.
    stamp="$PWD $(cat requirements-dev.txt constraints.txt | sha256sum)"
    if [[ -x $venv/bin/python && "$(cat $venv/.requirements 2>/dev/null)" == "$stamp" ]] && $venv/bin/python -c ''; then
        return
    fi
    [[ ! -L $venv ]] || fail "$venv is a symbolic link, and what it leads to would be cleared; remove it"
    need_commands cc
    python="$(find_python)" || {
        install_python
        python="$(find_python)" || fail "found no Python 3.$oldest_python or newer that can make virtual environments"
    }
    has_headers "$python" || install_headers "$python"
    echo "setup: $venv from requirements-dev.txt, $("$python" --version)"
    quietly "$python" -m venv --clear $venv
    quietly $venv/bin/python -m pip install "${pip_options[@]}" -r requirements-dev.txt
    echo "$stamp" >$venv/.requirements
}

make_core_venv() {
    local core="$1" oldest=$oldest_python target=".cache/core/$1" pin python stamp
    pin="$(grep "^ansible-core==${core//./\\.}\\." tools/cores.txt)" || fail "tools/cores.txt has no ansible-core $core"
    stamp="$PWD $pin $(sha256sum <constraints.txt)"
    if [[ "$(cat "$target/.requirements" 2>/dev/null)" == "$stamp" ]] && "$target/bin/python" -c ''; then
        return
    fi
    ((${core#2.} < 20)) || oldest=12
    python="$(find_python $oldest)" || fail "ansible-core $core needs Python 3.$oldest or newer, and there is none"
    echo "setup: $target with $pin, $("$python" --version)"
    quietly "$python" -m venv --clear "$target"
    # ansible-core 2.18 wants another resolvelib than .venv has
    grep --invert-match '^resolvelib==' constraints.txt >"$target/constraints.txt"
    quietly "$target/bin/python" -m pip install "${pip_options[@]}" -c "$target/constraints.txt" "$pin"
    echo "$stamp" >"$target/.requirements"
}

link_collection() {
    mkdir -p .cache/collections/ansible_collections/multiwan
    ln -sfn ../../../.. .cache/collections/ansible_collections/multiwan/linux
}

# The system's own python3 comes first: its headers and its venv module are the ones most likely to be there.
# Argument: the oldest minor version of Python 3 that does.
find_python() {
    local oldest="${1:-$oldest_python}" name
    for name in python3 /usr/bin/python3 python3.13 python3.12 python3.11 python3.14 \
        "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python; do
        if is_usable "$name" "$oldest"; then
            command -v "$name"
            return
        fi
    done
    return 1
}

# Runs it: a name on the PATH may be a pyenv shim without a Python behind it, and Debian's python3 may lack ensurepip.
is_usable() {
    "$1" -c "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, $2))" 2>/dev/null
}

# python-iptables is built from source.
has_headers() {
    "$1" -c "import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path('include') + '/Python.h'))"
}

install_python() {
    if /usr/bin/python3 -c "import sys; sys.exit(sys.version_info < (3, $oldest_python))" 2>/dev/null; then
        install_packages python3-venv python3-dev
    elif has_apt; then
        install_packages python3.11 python3.11-venv python3.11-dev # Ubuntu 22.04, whose python3 is 3.10
    else
        install_packages python3.11 python3.11-devel
    fi
}

install_headers() {
    local version
    version="$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
    if has_apt; then
        install_packages "python$version-dev"
    else
        install_packages "python$version-devel"
    fi
}

# Only the one program is taken out of the package, which would start a server if it were installed.
provide_promtool() (
    if [[ -x .cache/promtool ]] || command -v promtool >/dev/null; then
        return
    fi
    if ! has_apt; then
        echo "setup: no promtool, so docs/monitoring is not checked; it comes with Prometheus"
        return
    fi
    echo "setup: promtool, out of the package prometheus"
    scratch="$(mktemp -d)"
    trap 'rm -rf "$scratch"' EXIT
    download_package prometheus "$scratch"
    dpkg-deb --fsys-tarfile "$scratch"/prometheus_*.deb | tar --extract --directory="$scratch" ./usr/bin/promtool
    mkdir -p .cache
    mv "$scratch/usr/bin/promtool" .cache/promtool
)

# The lists of packages may be missing, or too old.
download_package() (
    cd "$2"
    if ! apt-get download "$1" &>/dev/null; then
        [[ $EUID -eq 0 ]] || fail "cannot download the package $1; please run: sudo apt-get update"
        update_lists
        quietly apt-get download "$1"
    fi
)

# The packages would start their services, and enable them. A policy that is there already stays the machine's own.
provide_servers() (
    missing=()
    for name in "$@"; do
        command -v "$name" >/dev/null || missing+=("$name")
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    policy=/usr/sbin/policy-rc.d
    if [[ $EUID -eq 0 && ! -e $policy ]] && has_apt; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 0755 $policy
        trap 'rm -f $policy' EXIT
    fi
    install_packages "${missing[@]}"
    ! command -v systemctl >/dev/null || quietly systemctl disable "${missing[@]}"
)

need_commands() {
    local missing=() command
    for command in "$@"; do
        command -v "$command" >/dev/null || missing+=("$(package_of "$command")")
    done
    [[ ${#missing[@]} -eq 0 ]] || install_packages "${missing[@]}"
}

# The package that brings a command, by distribution family.
package_of() {
    case "$1:$(has_apt && echo apt || echo dnf)" in
        ip:apt) echo iproute2 ;;
        ip:dnf) echo iproute ;;
        nft:*) echo nftables ;;
        conntrack:dnf) echo conntrack-tools ;;
        ping:apt) echo iputils-ping ;;
        ping:dnf) echo iputils ;;
        sysctl:apt) echo procps ;;
        sysctl:dnf) echo procps-ng ;;
        cc:apt) echo gcc libc6-dev ;;
        cc:dnf) echo gcc ;;
        shellcheck:dnf) echo ShellCheck ;;
        mmdebstrap:apt) echo mmdebstrap debian-archive-keyring ;;
        *) echo "$1" ;;
    esac
}

has_apt() {
    command -v apt-get >/dev/null
}

# Some entries name two packages, hence the splitting.
install_packages() {
    local packages install
    read -ra packages <<<"$*"
    if has_apt; then
        install=(apt-get -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends)
    elif command -v dnf >/dev/null; then
        install=(dnf install --assumeyes)
    else
        fail "please install: ${packages[*]}"
    fi
    [[ $EUID -eq 0 ]] || fail "not root; please run: sudo ${install[*]} ${packages[*]}"
    echo "setup: ${install[0]} install ${packages[*]}"
    if has_apt; then
        export DEBIAN_FRONTEND=noninteractive
        update_lists
    fi
    quietly "${install[@]}" "${packages[@]}"
}

# apt-get does not wait for who holds the lists of packages, as a machine that has just started does.
update_lists() {
    local delay
    for delay in 10 20; do
        if quietly apt-get update; then return; fi
        sleep "$delay"
    done
    quietly apt-get update
}

# Shows what a command printed only when it failed.
quietly() {
    local log status=0
    log="$(mktemp)"
    "$@" >"$log" 2>&1 </dev/null || status=$?
    if [[ $status -ne 0 ]]; then
        cat "$log" >&2
        echo "setup: failed ($status): $*" >&2
    fi
    rm -f "$log"
    return "$status"
}

fail() {
    echo "setup: $*" >&2
    exit 1
}

main "$@"
