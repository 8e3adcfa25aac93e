#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
#
# Copies what git would commit, as it is in the working tree.
#
# Usage: tools/export.sh DIRECTORY [PATH...]

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mkdir -p "$1"
git ls-files -z --cached --others --exclude-standard --deduplicate -- "${@:2}" |
    while IFS= read -rd '' file; do [[ ! -e $file && ! -L $file ]] || printf '%s\0' "$file"; done |
    tar --create --null --files-from=- | tar --extract --directory="$1"
