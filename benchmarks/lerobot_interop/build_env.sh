#!/bin/bash
# build_env.sh ENV [TORCH REQUIREMENTS...]: a virtual environment ENV with lerobot 0.4.4 and gym-pusht, and no onedp.
# With requirements, e.g. "torch==2.14.1 torchvision==0.29.1", those are taken instead of what LeRobot asks for, and
# what evaluating a policy never imports (video decoding, viewers, keyboards) is left out.
set -euo pipefail
environment=${1:?"usage: build_env.sh ENV [TORCH REQUIREMENTS...]"}
shift
python3 -m venv "$environment"
pip="$environment/bin/pip"
if [ $# -eq 0 ]; then
    "$pip" install -q 'lerobot[pusht]==0.4.4'
    exit
fi
"$pip" install -q "$@"
"$pip" install -q --no-deps lerobot==0.4.4
"$pip" install -q packaging
"$environment/bin/python" - >"$environment/requirements.txt" <<'EOF'
from importlib.metadata import requires

from packaging.requirements import Requirement

LEFT_OUT = {"torch", "torchvision", "torchcodec", "pynput", "rerun-sdk", "cmake"}
for each in map(Requirement, requires("lerobot")):
    wanted = each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in ("", "pusht"))
    if wanted and each.name not in LEFT_OUT:
        each.marker = None
        print(each)
EOF
"$pip" install -q -r "$environment/requirements.txt" "$@"
