#!/bin/sh
# Does it help to distil on the states that the student itself visits? results/visited-states, on 1,000 tuning starts.
# The workspace keeps what is done already; call it again to go on. The rows that are there were made of states in float32
# with the one after each episode's last action, by a script that onedp record replaced.
set -eu
# shellcheck source=scripts/paths.sh
. "$(dirname "$0")/paths.sh"
workspace=$(absolute "${1:?folder for runs}")
cd "$root"
rows=results/visited-states
mkdir -p "$workspace" "$rows"

evaluate() { # policy, sampler ("own": the policy's), file
    [ -e "$rows/$3" ] || "$onedp" evaluate "$1" $([ "$2" = own ] || echo "--sampler $2") --episodes 1000 \
        --first-seed 200000 --workers 1 --json "$rows/$3"
}

evaluate pusht-keypoints-ddpm ddim:10 teacher.json
evaluate pusht-keypoints-onedp-s own shipped-onedp-s.json
[ -e "$workspace/visited.hdf5" ] || "$onedp" record pusht-keypoints-onedp-s --episodes 250 --first-seed 2000 \
    --workers 1 --out "$workspace/visited.hdf5"
[ -e "$workspace/visited/policy" ] || "$onedp" distill pusht-keypoints-ddpm \
    --no-lost --beside "$workspace/visited.hdf5" --threads 1 --out "$workspace/visited"
evaluate "$workspace/visited" own visited.json
