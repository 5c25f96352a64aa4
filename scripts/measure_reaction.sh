#!/bin/sh
# Thin grids of charged latency, 50 starts a cell, for the policies of scripts/manipulation_rows.py, which makes them first:
#   python scripts/manipulation_rows.py pose-reset --workspace WORKSPACE
#   scripts/measure_reaction.sh WORKSPACE pose-reset pose-reset@after=3
# Tasks: TASK or TASK@OPTIONS. Policies that are not there are left out, cells that are there already are kept.
# RESULTS: another folder than results/.
set -eu
# shellcheck source=scripts/paths.sh
. "$(dirname "$0")/paths.sh"
results=$(absolute "${RESULTS:-$root/results}")
cd "${1:?folder of the policies}"
shift

for task in "$@"; do
    name=${task%%@*}
    one_pass="" few="" slow=""
    for method in onedp-s onedp-d consistency-policy; do
        if [ -d "$name-$method" ]; then one_pass="$one_pass $name-$method"; fi
    done
    if [ -d "$name-ddpm" ]; then few="$name-ddpm@ddim:10" slow="$name-ddpm@ddpm:100"; fi
    if [ -d "$name-consistency-policy" ]; then few="$few $name-consistency-policy@consistency:3"; fi
    if [ -z "$one_pass$few" ]; then
        echo "$PWD holds no policy of $name. Make them: python scripts/manipulation_rows.py $name --workspace $PWD" >&2
        exit 2
    fi
    cells() { # latencies, executors, policies
        case $3 in *[!\ ]*) ;; *) return 0 ;; esac
        # shellcheck disable=SC2086
        "$python" "$root/benchmarks/latency_grid.py" --tasks "$task" --latencies $1 --executors $2 \
            --policies $3 --replan 8 --starts 50 --folder "$results/realtime-$name"
    }
    cells "paper 0" sync "$one_pass $few $slow"
    cells paper "drop-late rtc" "$few $slow"
    cells paper drop-late "$one_pass"
done
