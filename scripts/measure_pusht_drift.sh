#!/bin/sh
# The cells of results/realtime with 100 starts: shipped policies, and a Consistency Policy of the shipped EDM teacher
# with a tenth of its training. What is there already is kept. Usage: measure_pusht_drift.sh [WORKSPACE [PART]]
# PART: sync, executors, or slow (DDPM-100); default all.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
onedp=${ONEDP:-onedp}
python=${PYTHON:-python}
rows=${ROWS:-$root/results/realtime}
part=${2:-all}
mkdir -p "${1:-runs/pusht-drift}"
cd "${1:-runs/pusht-drift}"

drift="pusht-drift@speed=0 pusht-drift@speed=4"
students="pusht-keypoints-onedp-s pusht-keypoints-onedp-d consistency-policy"
few="consistency-policy@consistency:3 pusht-keypoints-ddpm@ddim:10"

cells() { # latencies, executors, policies; a new chunk every 0.4 s
    # shellcheck disable=SC2086
    "$python" "$root/benchmarks/latency_grid.py" --tasks $drift --latencies $1 --executors $2 --policies $3 --replan 4 \
        --starts 100 --workers 1 --folder "$rows"
}

[ -d consistency-policy/policy ] || "$onedp" distill pusht-keypoints-edm --method consistency-policy --steps 245 \
    --threads 1 --cpu --out consistency-policy
case "$part" in all | sync)
    cells "0 paper" sync "$students $few"
    cells "0.669" sync "pusht-keypoints-onedp-s pusht-keypoints-ddpm@ddim:10"
    ;;
esac
case "$part" in all | executors)
    cells paper "drop-late rtc ensemble" "$students $few"
    ;;
esac
case "$part" in all | slow)
    cells "0 paper" sync pusht-keypoints-ddpm@ddpm:100
    cells paper "drop-late ensemble rtc" pusht-keypoints-ddpm@ddpm:100
    ;;
esac
