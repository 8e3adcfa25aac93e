# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""How Sphinx makes the site of make docs; tools/docs.sh stages what it reads.

The pages are written for readers of the repository too, so they are plain Markdown. Two things are made here of what
is there: index.md's sections and links become the site's menu, and links that lead out of docs/ become links to the
repository or, for modules and the role, to their page.
"""

from __future__ import annotations

import os
import re

from docutils.nodes import reference

REPOSITORY = "https://github.com/multiwan/linux/blob/main/"
CHECKOUT = os.environ["MWAN_CHECKOUT"]

project = "multiwan.linux"
author = "The multiwan.linux contributors"
version = release = os.environ["MWAN_VERSION"]

extensions = ["myst_parser", "sphinx_antsibull_ext"]
nitpicky = True
# Addresses of anchors as git hosts make them
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"multiwan.linux {release}"
html_copy_source = False
html_show_sphinx = False

# Where a page of the site shows what the repository has elsewhere
PAGES = [
    (re.compile(r"\.\./plugins/(?:modules|filter)/?"), "reference/index.rst"),
    (re.compile(r"\.\./plugins/modules/(\w+)\.py"), r"reference/\1_module.rst"),
    (re.compile(r"\.\./plugins/filter/(\w+)\.py"), r"reference/\1_filter.rst"),
    (re.compile(r"\.\./roles/(\w+)(?:/README\.md|/meta/argument_specs\.yml|/)?"), r"reference/\1_role.rst"),
]
# What the generated pages refer to in Ansible's own documentation
ANSIBLE = {
    "ansible_configuration_settings": "https://docs.ansible.com/ansible/latest/reference_appendices/config.html",
    "common_return_values": "https://docs.ansible.com/ansible/latest/reference_appendices/common_return_values.html",
}
OUTWARD = re.compile(r"\]\((\.\./[^)#\s]*)(#[^)\s]*)?\)")
SECTION = re.compile(r"^## ", re.MULTILINE)
# of the generated pages only the first, which has the others
ENTRY = re.compile(r"\]\(((?!\w+:|reference/\w+_)[^)#\s]+)\.(?:md|rst)\)")


def inward(match):
    """A link out of docs/, as one that works on the site."""
    path, anchor = match[1], match[2] or ""
    if not os.path.exists(os.path.join(CHECKOUT, "docs", path)):
        # Left alone, so that the parser warns
        return match[0]
    for pattern, page in PAGES:
        if pattern.fullmatch(path):
            return f"]({pattern.sub(page, path)})"
    return f"]({REPOSITORY}{path[3:]}{anchor})"


def with_menu(section):
    """A section of index.md and, unseen, the part of the menu that its links make."""
    entries = dict.fromkeys(ENTRY.findall(section))
    if not entries:
        return section
    caption = section.split("\n", 1)[0]
    return "\n".join([section, "```{toctree}", ":hidden:", f":caption: {caption}", "", *entries, "```", ""])


def read(_app, docname, source):
    """Sphinx's event source-read: changes the text of a page in place."""
    if docname.startswith("reference/"):
        return
    text = OUTWARD.sub(inward, source[0])
    if docname == "index":
        first, *sections = SECTION.split(text)
        text = "## ".join([first, *map(with_menu, sections)])
    source[0] = text


def resolve(_app, _env, node, content):
    """Sphinx's event missing-reference."""
    address = ANSIBLE.get(node["reftarget"])
    return reference("", "", content, refuri=address, internal=False) if address else None


def setup(app):
    """Called by Sphinx."""
    app.connect("source-read", read)
    app.connect("missing-reference", resolve)
