#!/bin/sh
# results/pusht-image: a teacher with a camera on the human demonstrations, its one-step student, 200 test starts each.
# Resumable: call it again. bf16 needs a processor with bf16 units; without them leave the option out, it is slower then.
set -eu
# shellcheck source=scripts/paths.sh
. "$(dirname "$0")/paths.sh"
data=${1:?the demonstrations, pusht_cchi_v7_replay.zarr.zip} workspace=${2:?folder for runs}
rows=$root/results/pusht-image
data=$(realpath "$data")
mkdir -p "$workspace" "$rows"
cd "$workspace"

if [ -e pusht-image-ddpm/checkpoint ] && [ ! -e pusht-image-ddpm/policy ]; then
    "$onedp" train --resume pusht-image-ddpm
elif [ ! -e pusht-image-ddpm ]; then
    "$onedp" train --task pusht-image --data "$data" --process ddpm --network unet-slim --encoder light --mirror --steps 12000 \
        --batch-size 64 --noise-draws 2 --lr 6e-4 --mixed-precision bf16 --threads 1 --loader-threads 1 --cpu \
        --checkpoint-every 500 --out pusht-image-ddpm
fi
[ -e pusht-image-onedp-s/policy ] || "$onedp" distill pusht-image-ddpm --method onedp-s --data "$data" --steps 700 \
    --mixed-precision bf16 --threads 1 --loader-threads 1 --cpu --out pusht-image-onedp-s
[ -e "$rows/pusht-image-ddpm-ddim10.json" ] || "$onedp" evaluate pusht-image-ddpm --sampler ddim:10 --episodes 200 \
    --first-seed 100000 --workers 1 --json "$rows/pusht-image-ddpm-ddim10.json"
[ -e "$rows/pusht-image-onedp-s.json" ] || "$onedp" evaluate pusht-image-onedp-s --episodes 200 --first-seed 100000 \
    --workers 1 --json "$rows/pusht-image-onedp-s.json"
