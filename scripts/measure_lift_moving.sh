#!/bin/sh
# results/realtime-lift from nothing: demonstrations, teachers, students, and the cells, 100 starts each.
# What is there already is kept, so it goes on where it was. Usage: measure_lift_moving.sh [WORKSPACE [PART]]
# PART: policies, latencies, executors, noises (held, and warm from the chunk before), going-on, whole-chunks, or
# measured; default all. ROWS: another folder for the cells.
set -eu
# shellcheck source=scripts/paths.sh
. "$(dirname "$0")/paths.sh"
rows=$(absolute "${ROWS:-$root/results/realtime-lift}")
part=${2:-all}
mkdir -p "${1:-runs/lift-moving}"
cd "${1:-runs/lift-moving}"

varied=lift-moving@speed=0.1,slowest=0
noises=fresh
speeds="lift-moving@speed=0 lift-moving@speed=0.04 lift-moving@speed=0.08"

train() { # process
    if [ -e "$1/run.json" ] && [ ! -d "$1/policy" ]; then "$onedp" train --resume "$1"; fi
    [ -d "$1/policy" ] || "$onedp" train --task $varied --data lift-moving.hdf5 --process "$1" --network mlp \
        --mixed-precision bf16 --steps 6000 --batch-size 256 --lr 1e-3 --threads 1 --cpu --out "$1"
}
distill() { # teacher, method, steps
    if [ -e "$2/run.json" ] && [ ! -d "$2/policy" ]; then "$onedp" distill --resume "$2"; fi
    [ -d "$2/policy" ] || "$onedp" distill "$1" --method "$2" --data lift-moving.hdf5 --mixed-precision bf16 \
        --steps "$3" --threads 1 --cpu --out "$2"
}
cells() { # latencies, executors, policies; a new chunk every 8 steps
    # shellcheck disable=SC2086
    "$python" "$root/benchmarks/latency_grid.py" --tasks $speeds --latencies $1 --executors $2 --policies $3 --replan 8 \
        --noises $noises --starts 100 --folder "$rows"
}

case "$part" in all | policies)
    [ -e lift-moving.hdf5 ] || "$onedp" collect $varied --episodes 500 --noise 0.5 --workers 1 --out lift-moving.hdf5
    train ddpm
    train edm
    distill ddpm onedp-s 450
    distill ddpm onedp-d 450
    distill ddpm going-on 900
    distill edm consistency-policy 600
    ;;
esac
paper="ddpm@ddpm:100 ddpm@ddim:10 consistency-policy@consistency:3 consistency-policy onedp-s onedp-d"
case "$part" in all | latencies)
    cells "paper 0" sync "$paper"
    cells "0.016 0.2 0.35 0.669" sync ddpm@ddim:10
    cells "0.075 0.2 0.35 0.669" sync "onedp-s onedp-d"
    ;;
esac
case "$part" in all | executors)
    cells paper "drop-late rtc ensemble" "$paper"
    ;;
esac
case "$part" in all | noises)
    noises="held warm"
    cells paper drop-late onedp-s
    noises=fresh
    ;;
esac
case "$part" in all | going-on)
    cells "0 paper" sync going-on
    cells paper "drop-late rtc" going-on
    ;;
esac
# How old an action may be: more of each chunk executed with nothing charged, on tuning starts.
case "$part" in all | whole-chunks)
    mkdir -p "$rows/whole-chunks"
    for replan in 8 16 28; do
        file=$rows/whole-chunks/replan$replan.json
        [ -e "$file" ] || "$onedp" evaluate ddpm --sampler ddpm:100 --task lift-moving@speed=0 --episodes 50 \
            --first-seed 200000 --workers 1 --latency 0 --executor sync --replan "$replan" --json "$file"
    done
    ;;
esac
# Measured here (results/lift-moving-latency.json, `onedp latency`, nothing beside it): DDPM-100 takes 7 ticks, DDIM-10's
# 32 ms are one, as the 16 ms of latencies. All others take one tick, as with the paper's latencies.
case "$part" in all | measured)
    cells 0.016 "drop-late rtc ensemble" ddpm@ddim:10
    cells 0.313 "sync drop-late rtc ensemble" ddpm@ddpm:100
    ;;
esac
