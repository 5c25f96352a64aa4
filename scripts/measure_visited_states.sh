#!/bin/sh
# Does it help to distil on the states that the student itself visits? results/visited-states, on 1,000 tuning starts.
# The workspace keeps what is done already; call it again to go on.
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
[ -e "$workspace/both.npz" ] || "$python" scripts/record_observations.py --policies pusht-keypoints-onedp-s \
    --episodes 250 --first-seed 2000 --beside src/onedp/shipped/pusht_observations.npz --out "$workspace/both.npz"
[ -e "$workspace/visited/policy" ] || "$onedp" distill pusht-keypoints-ddpm --data "$workspace/both.npz" --threads 1 \
    --out "$workspace/visited"
evaluate "$workspace/visited" own visited.json
