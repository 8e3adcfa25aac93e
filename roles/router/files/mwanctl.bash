# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Completion of mwanctl's commands, options and links for bash; needs nothing but bash.

_mwanctl() {
    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]} word
    local commands="status events explain drain undrain failback drill use diff check-config restore rules show links"
    local -A options=(
        [status]="--watch --check --drift" [events]="--number --follow --link"
        [explain]="--to --from --in --protocol --port --source-port --dscp --mark --mac --local --user --group --cgroup
            --at --down"
        [drain]="--why --force --dry-run" [drill]="--seconds --wait --spare --force --dry-run"
        [undrain]="--dry-run" [failback]="" [use]="--" [diff]="" [check-config]="" [restore]="" [rules]="" [show]="" [links]=""
    )
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "$commands --help" -- "$current")
        return
    fi
    # what follows "--" is a command of its own
    if [ "$command" = use ]; then
        for word in "${COMP_WORDS[@]:2:COMP_CWORD-2}"; do
            if [ "$word" = -- ] && [ "$before" = -- ]; then
                mapfile -t COMPREPLY < <(compgen -c -- "$current")
                return
            elif [ "$word" = -- ]; then
                compopt -o filenames
                mapfile -t COMPREPLY < <(compgen -f -- "$current")
                return
            fi
        done
    fi
    case $command:$before in
        events:--link | explain:--down | drain:drain | undrain:undrain | failback:failback | drill:drill | use:use | \
            drain:--force)
            mapfile -t COMPREPLY < <(compgen -W "$(mwanctl links 2>/dev/null)" -- "$current") ;;
        explain:--in)
            mapfile -t COMPREPLY < <(compgen -W "$(cd /sys/class/net 2>/dev/null && echo *)" -- "$current") ;;
        explain:--protocol)
            mapfile -t COMPREPLY < <(compgen -W "tcp udp icmp dccp sctp gre esp" -- "$current") ;;
        explain:--user)
            mapfile -t COMPREPLY < <(compgen -u -- "$current") ;;
        explain:--group)
            mapfile -t COMPREPLY < <(compgen -g -- "$current") ;;
        explain:--to | explain:--from | explain:--port | explain:--source-port | explain:--dscp | explain:--mark) ;;
        explain:--mac | explain:--cgroup | explain:--at | drain:--why | events:--number | drill:--seconds | drill:--wait | \
            drill:--spare) ;;
        check-config:check-config)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
        *)
            mapfile -t COMPREPLY < <(compgen -W "${options[$command]-} --json --help" -- "$current") ;;
    esac
}

complete -F _mwanctl mwanctl
