#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
#
# Makes the site in docs/_build from docs/*.md and the documentation of the modules, filters and roles.
#
# A warning is an error: a link that leads nowhere, an image that is missing, a page that index.md does not name.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly stage=.cache/docs

rm -rf "$stage"
tools/export.sh "$stage" docs
mkdir "$stage/docs/reference"
antsibull-docs collection --use-current --squash-hierarchy --fail-on-error --no-add-antsibull-docs-version \
    --dest-dir "$stage/docs/reference" multiwan.linux

MWAN_CHECKOUT="$PWD" MWAN_VERSION="$(sed -n 's/^version: //p' galaxy.yml)" \
    sphinx-build --fail-on-warning --keep-going --quiet --fresh-env -d "$stage/doctrees" -b html "$stage/docs" docs/_build
echo "docs/_build/index.html"
