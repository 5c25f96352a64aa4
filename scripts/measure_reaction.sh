#!/bin/sh
# Thin grids of charged latency, 50 starts a cell, for the policies of scripts/manipulation_rows.py, which makes them first:
#   python scripts/manipulation_rows.py pose-reset --workspace WORKSPACE
#   scripts/measure_reaction.sh WORKSPACE pose-reset pose-reset@after=3
# Tasks: TASK or TASK@OPTIONS. What is there already is kept.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python}
cd "${1:?folder of the policies}"
shift

for task in "$@"; do
    name=${task%%@*}
    cells() { # latencies, executors, policies
        # shellcheck disable=SC2086
        "$python" "$root/benchmarks/latency_grid.py" --tasks "$task" --latencies $1 --executors $2 --policies $3 \
            --replan 8 --starts 50 --folder "$root/results/realtime-$name"
    }
    cells "paper 0" sync "$name-onedp-s $name-ddpm@ddim:10 $name-ddpm@ddpm:100"
    cells paper "drop-late rtc" "$name-ddpm@ddpm:100"
done
