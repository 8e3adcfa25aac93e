#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
#
# Writes constraints.txt: the newest versions that fit of everything requirements-dev.txt does not name itself.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

sed '/^-c /d' requirements-dev.txt >"$scratch/requirements.txt"
.venv/bin/python -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --disable-pip-version-check --quiet -r "$scratch/requirements.txt"
"$scratch/venv/bin/pip" freeze --disable-pip-version-check >"$scratch/frozen.txt"
sed -n 's/^\([A-Za-z0-9._-]*\)\(\[.*\]\)\{0,1\}==.*/^\1==/p' requirements-dev.txt >"$scratch/direct.txt"
{
    sed -n '/^#/!q; p' constraints.txt
    grep --ignore-case --invert-match --file="$scratch/direct.txt" "$scratch/frozen.txt"
} >"$scratch/constraints.txt"
mv "$scratch/constraints.txt" constraints.txt
