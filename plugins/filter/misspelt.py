# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Names that are nearly those of variables."""

from __future__ import annotations

DOCUMENTATION = r"""
name: misspelt
short_description: Tell names that are nearly, but not quite, one of those that are known
version_added: 0.1.0
description:
  - Takes names, and returns those that differ from a known one by a letter or two, each with that one.
  - A known name with something behind it, such as C(mwan_links_of_berlin), is somebody's own.
  - The role refuses such variables before it does anything, since Ansible takes no notice of them.
positional: _input, known
options:
  _input:
    description: The names to look at.
    type: list
    elements: str
    required: true
  known:
    description: The names that are known.
    type: list
    elements: str
    required: true
author:
  - The multiwan.linux contributors (@multiwan)
"""

EXAMPLES = r"""
- name: Refuse variables that nobody reads
  ansible.builtin.assert:
    that: wrong | length == 0
    fail_msg: "{{ wrong | dict2items }}"
  vars:
    wrong: "{{ ['mwan_polices', 'mwan_links'] | multiwan.linux.misspelt(['mwan_links', 'mwan_policies']) }}"
"""

RETURN = r"""
_value:
  description: The known name by each that is near to it.
  type: dict
  sample: {mwan_polices: mwan_policies}
"""

import difflib
from collections.abc import Callable, Iterable

# of two strings: twice the letters they share over all they have
NEAR = 0.86


def misspelt(names: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """The known name by each that is near to it."""
    words = sorted(known)
    others = [name for name in names if name not in words and not name.startswith(tuple(word + "_" for word in words))]
    near = {name: difflib.get_close_matches(name, words, n=1, cutoff=NEAR) for name in others}
    return {name: found[0] for name, found in sorted(near.items()) if found}


class FilterModule:
    """What Ansible asks for the filter."""

    def filters(self) -> dict[str, Callable[..., object]]:
        return {"misspelt": misspelt}
