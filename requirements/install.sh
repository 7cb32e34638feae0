#!/bin/sh
# Installs what the pins name into one virtual environment; run again, it goes on where it was interrupted.
# usage: requirements/install.sh <folder of the environment's executables>
set -eu
python="$1/python"
here=$(dirname "$0")
torch=$(sed -n 's/^torch==//p' "$here/core.txt")

install() {
    "$python" -m pip install -qq --disable-pip-version-check --progress-bar off "$@"
}

say() {
    echo "  $*"
}

install_torch() {
    if "$python" -m pip list --disable-pip-version-check 2>/dev/null | grep -qE "^torch +$torch(\+|$)"; then
        return
    elif [ -e /dev/nvidiactl ]; then
        install "torch==$torch"
    else
        # The build without CUDA, where pip's own settings lead to one; else the ordinary build, which is larger.
        install "torch==$torch+cpu" 2>/dev/null || install "torch==$torch"
    fi
}

say "torch $torch"
install_torch
say 'libraries (PyBullet may have to be compiled, which takes some minutes)'
install -r "$here/core.txt" || {
    say 'if PyBullet could not be compiled: apt-get install build-essential python3-dev' >&2
    exit 1
}
if [ -n "${ROS_DISTRO:-}" ]; then
    say "ROS 2 $ROS_DISTRO is there already"
else
    say 'ROS 2'
    install -r "$here/ros.txt"
fi
say 'environments and test tools'
install -r "$here/gym.txt" -r "$here/minari.txt" -r "$here/solver.txt" -r "$here/test.txt"
say 'this package'
install --no-deps --no-build-isolation --editable "$here/.."
