#!/bin/sh
# The cells of results/realtime with 100 starts: shipped policies, a Consistency Policy of the shipped EDM teacher with a
# tenth of its training in counted passes (245 steps), and a student that learned to go on from chunks. What is there
# already is kept. Usage: measure_pusht_drift.sh [WORKSPACE [PART]]; PART: sync, executors, noises (held, and warm from
# the chunk before), going-on, measured (latencies of this machine), nudged (the T is pushed aside every 4 s on average),
# slow (DDPM-100), reset or reset-slow (results/realtime-pusht-reset: the T is put elsewhere once, 50 starts), default
# all. ROWS: another folder for the cells.
set -eu
# shellcheck source=scripts/paths.sh
. "$(dirname "$0")/paths.sh"
rows=$(absolute "${ROWS:-$root/results/realtime}")
part=${2:-all}
mkdir -p "${1:-runs/pusht-drift}"
cd "${1:-runs/pusht-drift}"

tasks="pusht-drift@speed=0 pusht-drift@speed=4"
starts=100
noises=fresh
students="pusht-keypoints-onedp-s pusht-keypoints-onedp-d consistency-policy"
few="consistency-policy@consistency:3 pusht-keypoints-ddpm@ddim:10"

distill() { # teacher, method, steps
    [ -d "$2/policy" ] || "$onedp" distill "$1" --method "$2" --steps "$3" --no-lost --threads 1 --cpu --out "$2"
}
cells() { # latencies, executors, policies; a new chunk every 0.4 s
    # shellcheck disable=SC2086
    "$python" "$root/benchmarks/latency_grid.py" --tasks $tasks --latencies $1 --executors $2 --policies $3 --replan 4 \
        --noises $noises --starts $starts --workers 1 --folder "$rows"
}

case "$part" in all | sync)
    distill pusht-keypoints-edm consistency-policy 245
    cells "0 paper" sync "$students $few"
    cells "0.669" sync "pusht-keypoints-onedp-s pusht-keypoints-ddpm@ddim:10"
    ;;
esac
case "$part" in all | executors)
    distill pusht-keypoints-edm consistency-policy 245
    cells paper "drop-late rtc ensemble" "$students $few"
    ;;
esac
case "$part" in all | noises)
    noises="held warm"
    cells paper drop-late pusht-keypoints-onedp-s
    noises=fresh
    ;;
esac
case "$part" in all | going-on)
    distill pusht-keypoints-ddpm going-on 1200
    cells paper "sync drop-late rtc" going-on
    ;;
esac
# Measured here (results/pusht-keypoints-latency.json): DDIM-10 100 ms, which are 5 ticks, DDPM-100 1.026 s. One pass is
# one tick, as on the paper's V100.
case "$part" in all | measured)
    cells 0.1 "sync drop-late rtc ensemble" pusht-keypoints-ddpm@ddim:10
    cells 1.026 sync pusht-keypoints-ddpm@ddpm:100
    ;;
esac
case "$part" in all | nudged)
    tasks="pusht-drift@speed=0,nudge=30,every=4"
    cells "0 paper 0.669" sync "pusht-keypoints-onedp-s pusht-keypoints-ddpm@ddim:10"
    tasks="pusht-drift@speed=0 pusht-drift@speed=4"
    ;;
esac
case "$part" in all | slow)
    cells "0 paper" sync pusht-keypoints-ddpm@ddpm:100
    cells paper "drop-late ensemble rtc" pusht-keypoints-ddpm@ddpm:100
    ;;
esac
tasks="pusht-reset pusht-reset@after=30"
starts=50
[ -n "${ROWS:-}" ] || rows=$root/results/realtime-pusht-reset
case "$part" in all | reset)
    distill pusht-keypoints-edm consistency-policy 245
    cells "0 paper" sync "$students $few"
    cells paper "drop-late rtc" "$students $few"
    ;;
esac
case "$part" in all | reset-slow)
    cells "0 paper" sync pusht-keypoints-ddpm@ddpm:100
    cells paper "drop-late rtc" pusht-keypoints-ddpm@ddpm:100
    ;;
esac
