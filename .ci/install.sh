#!/bin/sh
# Makes a virtual environment fit and installs the gateway into it, or says in one line why that cannot be.
#
#   .ci/install.sh VENV NAME EXTRAS [newest]
#
# NAME is that of the stamp in VENV, which says what was installed; EXTRAS are those of pyproject.toml. All comes
# at the versions of constraints.txt, or, with `newest`, at the newest that pyproject.toml allows. PYTHON, when it
# is set, is the interpreter to use; else it is the first one on the PATH that fits.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
venv=$1 name=$2 extras=$3 newest=${4:-}
python=${PYTHON:-}

# One line: whether it fits, its version, where it lives. It has to run on whatever calls itself Python.
facts='
import sys
version = "%d.%d.%d" % tuple(sys.version_info[:3])
name = getattr(getattr(sys, "implementation", None), "name", "cpython")
state = "fits"
if sys.version_info < (3, 11):
    state = "old"
elif name != "cpython":
    state = name
else:
    try:
        import ensurepip, venv
    except ImportError:
        state = "no-venv"
print("%s %s %s" % (state, version, getattr(sys, "base_prefix", sys.prefix)))
'

fail() {
    echo "error: $*" >&2
    exit 1
}

look() { # INTERPRETER: sets state, version and base
    line=$("$1" -E -c "$facts" 2>/dev/null) || line=
    state=${line%% *} rest=${line#* }
    version=${rest%% *} base=${rest#* }
    [ -n "$line" ] || state=broken
}

told() { # INTERPRETER: what `look` found, for the message
    path=$(command -v "$1") || path=$1
    case $state in
    old) echo "$path is Python $version" ;;
    broken) echo "$path does not run" ;;
    no-venv)
        package=python${version%.*}-venv
        echo "$path (Python $version) has no venv module (Debian, Ubuntu: sudo apt install $package)" ;;
    *) echo "$path is $state, which is not CPython" ;;
    esac
}

choose() { # sets python: the interpreter to make the environment with
    found='there is no python3 on the PATH' best=0
    if [ -n "$python" ]; then
        command -v "$python" >/dev/null 2>&1 || fail "PYTHON=$python is no program. $wanted"
        look "$python"
        [ "$state" = fits ] && return
        fail "$(told "$python"). $wanted"
    fi
    for python in python3.11 python3.12 python3.13 python3.14 python3 python; do
        command -v "$python" >/dev/null 2>&1 || continue
        look "$python"
        [ "$state" = fits ] && return
        case $state in no-venv) rank=3 ;; broken) rank=1 ;; *) rank=2 ;; esac
        if [ $rank -gt $best ]; then best=$rank found=$(told "$python"); fi
    done
    fail "$found. $wanted"
}
wanted="Python 3.11 or newer is needed: install it, or name it: make PYTHON=/path/to/python3.11 $name"

unusable() { # prints why the environment that is there cannot be used; nothing when it can
    if [ ! -x "$venv/bin/python" ]; then echo "its Python is gone"; return; fi
    look "$venv/bin/python"
    case $state in
    fits | no-venv) ;;
    broken) echo "its Python does not run"; return ;;
    *) echo "it is of Python $version ($state)"; return ;;
    esac
    if [ -n "$python" ]; then
        has="$version $base"
        look "$python"
        if [ "$has" != "$version $base" ]; then echo "it is of Python $has, not of $python"; return; fi
    fi
    # A folder that was moved or copied runs the programs of the old one: they name their interpreter.
    case $venv in /*) home=$venv ;; *) home=$(pwd -P)/$venv ;; esac
    if ! head -n 3 "$venv/bin/pip" 2>/dev/null | grep -qF "$home/bin/"; then
        echo "it has no pip, or was moved or copied here"
    elif [ -e "$venv/.installing" ]; then
        echo "its installation was interrupted"
    fi
}

# Two makes at once: the second one waits, and then finds all done.
if command -v flock >/dev/null 2>&1; then exec 9<.ci/install.sh && flock 9; fi

[ -z "$python" ] || choose
if [ -e "$venv" ] || [ -L "$venv" ]; then
    why=$(unusable)
    if [ -n "$why" ]; then
        [ -d "$venv" ] || [ -L "$venv" ] || fail "$venv is in the way: it is not a folder"
        choose
        echo "Replacing $venv: $why."
        rm -rf -- "$venv"
    fi
else
    choose
fi

content=$(cat pyproject.toml constraints.txt | cksum)
stamp="$(pwd -P) $extras $content"
if [ -z "$newest" ] && [ "$(cat "$venv/.$name" 2>/dev/null)" = "$stamp" ]; then
    exit
fi
if [ ! -d "$venv" ] && ! "$python" -m venv "$venv"; then
    rm -rf -- "$venv"
    fail "$python cannot make $venv (see above)"
fi
echo "Installing the gateway with its $extras packages into $venv (once, about half a minute) ..."
rm -f "$venv/.up" "$venv/.test"
: >"$venv/.installing"
# By environment, so that what builds the wheel is pinned too: pip up to 25.2 takes PIP_CONSTRAINT for that, later
# ones PIP_BUILD_CONSTRAINT. They split it at spaces: no absolute path.
if [ -z "$newest" ]; then
    set --
    export PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt
else
    set -- --upgrade --upgrade-strategy eager
    unset PIP_CONSTRAINT PIP_BUILD_CONSTRAINT
fi
PIP_USER=0 "$venv/bin/python" -m pip install -qq --disable-pip-version-check "$@" --editable ".[$extras]" ||
    fail "the packages could not be installed (see above); the next make begins anew"
echo "$stamp" >"$venv/.$name"
[ "$name" != test ] || echo "$(pwd -P) backends $content" >"$venv/.up"
rm -f "$venv/.installing"
