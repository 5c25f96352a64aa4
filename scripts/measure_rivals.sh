#!/bin/sh
# Rivals on Push-T, 500 test starts each, one training seed where nothing else is said: results/pusht-bench (students of
# the shipped EDM teacher for a tenth of its training) and its folders. The workspace keeps what is done already; call
# it again to go on.
# Usage: measure_rivals.sh DEMONSTRATIONS [WORKSPACE [PART]]; PART: students, seeds (the rows of it that matter, three
# training seeds), without-teacher (trained on the demonstrations for the teacher's whole budget; samplers of the
# teacher beside them), flow-students (one pass of the flow policy of without-teacher), flow-seeds (flow policies of two
# other training seeds, and one pass of each), variants (other networks, an annealed limit, the paper's recipe),
# converged (five times the tenth), noise (some of them with less noise), rates (another one), default all. ROWS: another
# folder for the results. ONLY_FINISHED=1: train nothing for the tables, write them of what is there. Each row of
# without-teacher takes 20 to 60 minutes of a core. One table of all: scripts/rivals_table.py.
set -eu
# shellcheck source=scripts/paths.sh
. "$(dirname "$0")/paths.sh"
demonstrations=$(absolute "${1:?demonstrations of Push-T (zarr or its zip)}")
rows=$(absolute "${ROWS:-$root/results/pusht-bench}")
part=${3:-all}
seeds=1
mkdir -p "${2:-runs/rivals}"
cd "${2:-runs/rivals}"

bench() { # part, folder of results, methods, budget...
    name=$1 results=$2 methods=$3
    shift 3
    # shellcheck disable=SC2086
    "$onedp" bench pusht-keypoints --methods "$methods" --budget "$@" --seeds "$seeds" --episodes 500 \
        --first-seed 100000 --workers 1 --demonstrations "$demonstrations" --out "$name" ${ONLY_FINISHED:+--only-finished}
    mkdir -p "$results"
    for each in table.md results.json plots evaluations; do
        [ ! -e "$name/$each" ] || cp -R "$name/$each" "$results"
    done
}

case "$part" in all | students)
    few="edm/onedp,edm/onedp-s,edm/regression-fine,edm/consistency-policy,edm/consistency-policy@consistency:3"
    more="edm/onedp-d,edm/regression,edm/consistency,edm/sid,edm/progressive,edm/onedp-s-normalized"
    bench students "$rows" "$few,$more,edm/onedp-s-adversarial,edm/gaussian" 0.1
    ;;
esac
case "$part" in all | seeds)
    three="edm/onedp-s,edm/regression,edm/regression-fine,edm/consistency-policy,edm/consistency-policy@consistency:3"
    (seeds=3 && bench seeds "$rows/seeds" "$three" 0.1)
    ;;
esac
case "$part" in all | without-teacher)
    bench without-teacher "$rows/without-teacher" \
        edm/heun:10,edm/heun:1,edm/heun:18,edm/mip,edm/cloning,edm/flow-matching,edm/meanflow 1
    ;;
esac
row() { # name
    [ -e "$rows/flow-students/$1.json" ] || "$onedp" evaluate "$1" --episodes 500 --first-seed 100000 --workers 1 \
        --json "$rows/flow-students/$1.json"
}
student() { # name, options of distill...
    name=$1
    shift
    if [ -e "$name/run.json" ] && [ ! -d "$name/policy" ]; then "$onedp" distill --resume "$name"; fi
    [ -d "$name/policy" ] || "$onedp" distill "$@" --threads 1 --cpu --out "$name"
    row "$name"
}
case "$part" in all | flow-*) mkdir -p "$rows/flow-students" ;; esac
case "$part" in all | flow-students)
    for teacher in without-teacher/runs/edm-flow-matching-0-*/policy; do
        [ -d "$teacher" ] || continue
        student flow-student "$teacher" --steps 640
        student flow-onedp "$teacher"
    done
    ;;
esac
case "$part" in all | flow-seeds)
    for seed in 1 2; do
        if [ -e flow-$seed/run.json ] && [ ! -d flow-$seed/policy ]; then "$onedp" train --resume flow-$seed; fi
        [ -d flow-$seed/policy ] || "$onedp" train --task pusht-keypoints --data "$demonstrations" --mirror \
            --method flow-matching --network unet-slim --steps 8000 --seed $seed --threads 1 --cpu --out flow-$seed
        row flow-$seed
        student flow-onedp-$seed flow-$seed --seed $seed
    done
    ;;
esac
case "$part" in all | variants)
    bench variants "$rows/variants" \
        edm/onedp-s+unet-small,edm/onedp-s+mlp,edm/onedp-d-annealed,edm/onedp-s:paper 0.1
    ;;
esac
case "$part" in all | converged)
    bench converged "$rows/converged" edm/consistency-policy,edm/consistency-policy@consistency:3 0.5
    ;;
esac
less() { # name, policy, sampler with a factor on the noise
    [ ! -d "$2" ] || [ -e "$rows/noise/$1.json" ] || "$onedp" evaluate "$2" --sampler "$3" --task pusht-keypoints \
        --episodes 500 --first-seed 100000 --workers 1 --json "$rows/noise/$1.json"
}
case "$part" in all | noise)
    mkdir -p "$rows/noise"
    for policy in without-teacher/runs/edm-meanflow-0-*/policy; do less meanflow-x0.75 "$policy" consistency:1:0.75; done
    for policy in converged/runs/edm-consistency-policy-0-*/policy; do
        less cp-half-3-x0.5 "$policy" consistency:3:0.5
    done
    for policy in seeds/runs/edm-regression-fine-0-*/policy; do
        less regression-fine-x0.5 "$policy" one-step:2.5:0.5
    done
    ;;
esac
case "$part" in all | rates)
    mkdir -p "$rows/rates"
    [ -d cp-x3-0/policy ] || "$onedp" distill pusht-keypoints-edm --method consistency-policy --lr 9e-4 --steps 273 \
        --threads 1 --cpu --out cp-x3-0
    [ -e "$rows/rates/cp-x3-0.json" ] || "$onedp" evaluate cp-x3-0 --episodes 500 --first-seed 100000 --workers 1 \
        --json "$rows/rates/cp-x3-0.json"
    ;;
esac
