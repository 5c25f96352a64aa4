#!/bin/sh
# results/realtime-lift from nothing: demonstrations, teacher, student, the choice of re-planning, and the cells.
# What is there already is kept, so it goes on where it was. Usage: measure_lift_moving.sh [WORKSPACE]
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
onedp=${ONEDP:-onedp}
python=${PYTHON:-python}
mkdir -p "${1:-runs/lift-moving}"
cd "${1:-runs/lift-moving}"

varied=lift-moving@speed=0.1,slowest=0
[ -e lift-moving.hdf5 ] || "$onedp" collect $varied --episodes 500 --workers 1 --out lift-moving.hdf5
[ -d teacher/policy ] || "$onedp" train --task $varied --data lift-moving.hdf5 --process ddpm --network unet-small \
    --steps 6000 --batch-size 64 --threads 1 --cpu --out teacher
[ -d onedp-s/policy ] || "$onedp" distill teacher --method onedp-s --data lift-moving.hdf5 --steps 600 --threads 1 --cpu \
    --out onedp-s
mkdir -p tuning
for steps in 8 4; do # 0.64 and 0.92 of 25 starts
    [ -e tuning/teacher-0.08-replan$steps.json ] || "$onedp" evaluate teacher --sampler ddim:10 \
        --task lift-moving@speed=0.08 --episodes 25 --first-seed 200000 --replan $steps --workers 1 \
        --json tuning/teacher-0.08-replan$steps.json
done

cells() { # speed, latencies, executors, policy, steps between chunks
    "$python" "$root/benchmarks/latency_grid.py" --tasks "lift-moving@speed=$1" --latencies $2 --executors $3 \
        --policies "$4" --replan "$5" --starts "${STARTS:-25}" --folder "$root/results/realtime-lift"
}
STARTS=100 cells 0.04 0.016 sync onedp-s 4
for speed in 0 0.04 0.08; do
    cells $speed "0 0.075" sync teacher@ddim:10 4
    cells $speed "0 0.669" sync teacher@ddim:10 8
    cells $speed "0 0.016" sync onedp-s 4
    cells $speed "0 0.669" sync onedp-s 8
    cells $speed 0.669 "drop-late rtc" teacher@ddim:10 8
    cells $speed 0.669 sync teacher@ddpm:100 8
done
cells 0.04 0.669 drop-late onedp-s 8
cells 0.04 0 sync teacher@ddpm:100 8
