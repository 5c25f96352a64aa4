#!/bin/sh
# Make or refresh .venv: the pins of requirements/lock.txt and this project, editable. Does nothing when nothing changed.
#
#   scripts/venv.sh             make .venv; exit code 2 and one apt line if the system lacks something
#   scripts/venv.sh --missing   only print the system packages that are missing, one a line
#
# Environment: PYTHON             the interpreter to use (3.11 or 3.12)
#              ONEDP_TORCH_INDEX  one more package index, for example one with CPU-only builds of PyTorch; read when .venv
#                                 is made, so `make clean` first to change it
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
venv=$root/.venv
wanted="3.12 3.11" # newest first; other versions lack a wheel for some pin of the lock

python=
version=
packages= # missing Debian packages
problems= # one line for each thing that is missing

add_problem() { # PACKAGES TEXT
    packages=$packages${1:+${packages:+ }$1}
    problems="$problems
  - $2"
}

run_python() { # CODE: run it in $python; empty output if that is no Python
    "$python" -c "$1" 2>/dev/null || true
}

is_wanted() {
    case " $wanted " in *" $1 "*) return 0 ;; *) return 1 ;; esac
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else set -- python3 python3.12 python3.11; fi
    seen=
    for python in "$@"; do
        version=$(run_python 'import sys; print("%d.%d" % sys.version_info[:2])')
        if [ -n "$version" ] && is_wanted "$version"; then return; fi
        seen="$seen${seen:+, }$python is ${version:-not there}"
    done
    python=
    version=
    for try in $wanted; do # does this system's apt have one?
        if [ -n "${PYTHON:-}" ] && [ "$PYTHON" != "python$try" ]; then continue; fi
        if apt-cache show "python$try-venv" >/dev/null 2>&1; then
            add_problem "python$try python$try-venv" "Python 3.11 or 3.12 ($seen)"
            return
        fi
    done
    add_problem "" "Python 3.11 or 3.12 ($seen). Get one with uv, pyenv or conda, then: make venv PYTHON=/path/to/python3.12
    (only the torch-free core, 'pip install .', runs on Python 3.10 to 3.13)"
}

check_ensurepip() {
    if [ -z "$python" ] || [ -n "$(run_python 'import ensurepip, venv; print("ok")')" ]; then return; fi
    real=$(run_python 'import os, sys; print(os.path.realpath(sys.executable))')
    case $real in
        "$(readlink -f /usr/bin/python3)") package=python3-venv ;;
        /usr/bin/*) package=python$version-venv ;;
        *) package= ;;
    esac
    add_problem "$package" "${package:-a Python with ensurepip: $real was built without it}${package:+: virtual environments (ensurepip) for $python}"
}

check_library() { # PACKAGE SONAME
    if [ -n "$python" ]; then
        found=$(run_python "import ctypes; ctypes.CDLL('$2'); print('ok')")
    else
        found=$(PATH="$PATH:/usr/sbin:/sbin" ldconfig -p 2>/dev/null | grep -F "$2" || true)
    fi
    if [ -z "$found" ]; then add_problem "$1" "$1: $2, for OpenCV, which the Push-T simulator imports"; fi
}

check_system() {
    find_python
    check_ensurepip
    if [ "$(uname -s)" = Linux ]; then
        check_library libgl1 libGL.so.1
        check_library libglib2.0-0 libgthread-2.0.so.0
    fi
}

report_problems() {
    {
        echo "onedp: .venv cannot be made yet. Missing on this system:$problems"
        if [ -n "$packages" ] && command -v apt-get >/dev/null 2>&1; then
            sudo=sudo
            if [ "$(id -u)" = 0 ]; then sudo=; fi
            echo
            echo "Install with:"
            echo
            echo "    ${sudo:+$sudo }apt-get update && ${sudo:+$sudo }apt-get install -y $packages"
            echo
        elif [ -n "$packages" ]; then
            echo "Install them with your system's package manager (the names are Debian's)."
        fi
        echo "Then run it again."
    } >&2
    exit 2
}

# Each of the two steps leaves a stamp that says what it was done for. It is taken away first and written last: a step that
# was interrupted has none, and is done again from its start.
lock_stamp=$venv/.onedp-lock
project_stamp=$venv/.onedp-project

interpreter_state() { # where, and which interpreter
    printf '%s\n' "$root"
    if [ -n "${PYTHON:-}" ]; then
        "$PYTHON" -c 'import sys; print(sys.base_prefix, sys.version.split()[0])' 2>/dev/null || true
    else
        sed -n 2p "$lock_stamp" 2>/dev/null || true # none asked for: the one that .venv has
    fi
}

lock_state() {
    interpreter_state
    cksum <"$root/requirements/lock.txt"
}

project_state() { cksum <"$root/pyproject.toml"; }

is_stamped() { # STAMP STATE
    [ -x "$venv/bin/python" ] && [ -f "$1" ] && [ "$2" = "$(cat "$1")" ]
}

write_stamp() { # STAMP STATE
    printf '%s\n' "$2" >"$1.new"
    mv "$1.new" "$1"
}

fail() {
    echo "onedp: $1" >&2
    exit 1
}

make_environment() {
    rm -rf "$venv"
    "$python" -m venv "$venv" || fail "'$python -m venv .venv' failed; the reason is above."
}

install_lock() {
    "$venv/bin/python" -m pip install ${ONEDP_TORCH_INDEX:+--extra-index-url "$ONEDP_TORCH_INDEX"} -r "$root/requirements/lock.txt" ||
        fail "pip could not install requirements/lock.txt; the reason is above. Mend it (network? disk full?) and run it again."
}

check_imports() {
    PYGAME_HIDE_SUPPORT_PROMPT=1 SDL_VIDEODRIVER=dummy "$venv/bin/python" -W ignore -c 'import cv2, gym_pusht, torch' ||
        fail "the installed packages do not import; the reason is above (a system library that is missing?)."
}

install_project() {
    "$venv/bin/python" -m pip install --quiet --no-build-isolation --no-deps --editable "$root" ||
        fail "pip could not install this project into .venv; the reason is above."
}

if [ "${1:-}" = --missing ]; then
    check_system
    if [ -n "$packages" ]; then echo "$packages" | tr ' ' '\n'; fi
    exit 0
fi

if ! is_stamped "$lock_stamp" "$(lock_state)"; then
    check_system
    if [ -n "$problems" ]; then report_problems; fi
    PYTHON=$python
    if [ ! -f "$lock_stamp" ] || [ ! -x "$venv/bin/python" ] || [ "$(interpreter_state)" != "$(head -n 2 "$lock_stamp")" ]; then
        make_environment # unless only the pins changed
    fi
    rm -f "$lock_stamp"
    install_lock
    check_imports
    write_stamp "$lock_stamp" "$(lock_state)"
fi
if ! is_stamped "$project_stamp" "$(project_state)"; then
    rm -f "$project_stamp"
    install_project
    write_stamp "$project_stamp" "$(project_state)"
    echo "onedp: .venv is ready"
fi
