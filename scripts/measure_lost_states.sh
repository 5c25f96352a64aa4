#!/bin/sh
# What does a student gain from the states that it lost? results/lost-states (2,000 tuning starts) and the rows lost-N,
# lost950-0 and lost1200-0 of results/pusht-keypoints (2,000 test starts). What is there already is kept.
# Usage: measure_lost_states.sh WORKSPACE
# The rows that are there were made with the 26 episodes of src/onedp/shipped/pusht_lost_observations.npz: recorded by a
# script that onedp record replaced, in float32 and with the state after each episode's last action. So recording them
# anew does not give the same students to the last bit; distilling on the shipped file does, on a machine of that kind.
set -eu
# shellcheck source=scripts/paths.sh
. "$(dirname "$0")/paths.sh"
workspace=$(absolute "${1:?folder for runs}")
rows=$root/results
mkdir -p "$workspace" "$rows/lost-states"
cd "$workspace"

distill() { # name, seed, further options
    name=$1 seed=$2
    shift 2
    [ -d "$name/policy" ] || "$onedp" distill pusht-keypoints-ddpm --regression-lr 7e-4 --seed "$seed" "$@" \
        --threads 1 --cpu --out "$name"
}
evaluate() { # name, first seed, file, further options
    name=$1 first=$2 file=$3
    shift 3
    [ -e "$file" ] || "$onedp" evaluate "$name" "$@" --task pusht-keypoints --episodes 2000 --first-seed "$first" \
        --workers 1 --json "$file"
}

# A student without those states, what it loses, and from where.
distill s2400-1 1 --no-lost
evaluate s2400-1 200000 "$rows/lost-states/before.json"
evaluate s2400-1 200000 "$rows/lost-states/before-all-noise.json" --sampler one-step:65:1
[ -e lost.hdf5 ] || "$onedp" record s2400-1 --episodes 2000 --first-seed 2000 --lost-below 0.5 --workers 1 --out lost.hdf5

# Students with them, which the package ships. 950 steps are a tenth of the teacher's training.
for seed in 0 1 2; do
    distill "lost-$seed" "$seed"
    evaluate "lost-$seed" 100000 "$rows/pusht-keypoints/lost-$seed-own.json"
done
for steps in 950 1200; do
    distill "lost$steps-0" 0 --steps $steps
    evaluate "lost$steps-0" 100000 "$rows/pusht-keypoints/lost$steps-0-own.json"
done
evaluate lost-1 200000 "$rows/lost-states/after.json"

# Who gets away from where the first student was after 10 s of an episode that it lost?
[ -e "$rows/lost-recovery.json" ] || "$python" "$root/scripts/training_starts.py" --demonstrations lost.hdf5 \
    --step 100 --policies pusht-keypoints-ddpm@ddim:10 s2400-1 lost-1 --json "$rows/lost-recovery.json"

# How much of the lost episodes is where the other observations hardly are?
"$python" "$root/scripts/lost_corners.py"
