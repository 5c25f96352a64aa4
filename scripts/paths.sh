# shellcheck shell=sh disable=SC2034
# Sourced first by scripts that change folder, so that what the caller gave relative to his own still means it.
# Sets root (of the checkout), onedp and python ($ONEDP and $PYTHON, paths or names of commands) and defines absolute.

absolute() { # PATH: from the folder where the script was called
    case $1 in /*) printf '%s\n' "$1" ;; *) printf '%s\n' "$PWD/$1" ;; esac
}

callable() { # COMMAND: a name without a slash is looked up in PATH, from wherever
    case $1 in */*) absolute "$1" ;; *) printf '%s\n' "$1" ;; esac
}

root=$(cd "$(dirname "$0")/.." && pwd)
onedp=$(callable "${ONEDP:-onedp}")
python=$(callable "${PYTHON:-python}")
