#!/bin/sh
# Every row of results/pusht-keypoints and results/pusht-state, each by the command that stands in its JSON.
# A row that is there already is not measured again: remove its file first. Run nothing else meanwhile.
# WORKERS=1 leaves a core to something else; scores do not depend on it, latencies may.
set -eu
# shellcheck source=scripts/paths.sh
. "$(dirname "$0")/paths.sh"
cd "$root"

row() { # task, policy, sampler ("own": the policy's), starts
    label=$(echo "$3" | sed 's/://; s/:/-x/')
    json="results/$1/$(basename "$2")-$label.json"
    [ -e "$json" ] && return
    sampler="--sampler $3"
    [ "$3" = own ] && sampler=""
    # shellcheck disable=SC2086
    "$onedp" evaluate "$2" $sampler --task "$1" --episodes "$4" --first-seed 100000 \
        ${WORKERS:+--workers "$WORKERS"} --json "$json"
}

case "${1:-all}" in
all | ddpm)
    row pusht-keypoints pusht-keypoints-ddpm ddim:10 2000
    row pusht-keypoints pusht-keypoints-onedp-s own 2000
    row pusht-keypoints pusht-keypoints-onedp-d own 2000
    row pusht-keypoints pusht-keypoints-ddpm one-step 500
    row pusht-keypoints pusht-keypoints-ddpm ddim:1 500
    row pusht-keypoints pusht-keypoints-ddpm ddim:2 500
    row pusht-keypoints pusht-keypoints-ddpm ddim:4 500
    row pusht-keypoints pusht-keypoints-ddpm ddim:20 500
    row pusht-keypoints pusht-keypoints-ddpm ddpm:100 500
    ;;
esac
case "${1:-all}" in
all | noise)
    row pusht-keypoints pusht-keypoints-ddpm ddim:10:0.75 2000
    row pusht-keypoints pusht-keypoints-onedp-s one-step:65:1 500
    row pusht-keypoints pusht-keypoints-edm heun:10:0.5 500
    row pusht-keypoints pusht-keypoints-edm-onedp-s one-step:2.5:1 500
    ;;
esac
case "${1:-all}" in
all | edm)
    row pusht-keypoints pusht-keypoints-edm heun:10 2000
    row pusht-keypoints pusht-keypoints-edm-onedp-s own 2000
    row pusht-keypoints pusht-keypoints-edm heun:1 500
    row pusht-keypoints pusht-keypoints-edm heun:18 500
    row pusht-keypoints pusht-keypoints-edm one-step 500
    ;;
esac
