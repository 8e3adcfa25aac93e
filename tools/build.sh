#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
#
# Builds the collection's archive from the last commit into .cache/build, and lists what is in it.
#
# From a clean export, because ansible-galaxy packs whatever lies in the directory.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export_tree="$(mktemp -d)"
trap 'rm -rf "$export_tree"' EXIT

git archive HEAD | tar --extract --directory="$export_tree"
rm -rf .cache/build
.venv/bin/ansible-galaxy collection build --output-path .cache/build "$export_tree"
tar --list --file .cache/build/multiwan-linux-*.tar.gz
