#!/bin/sh
# Makes the environment of `make bench-peers`: the peers alone, on top of the project's own environment, whose torch they share.
# A peer that cannot be installed is left out; the benchmark says so in its table.
# usage: bench/install.sh <folder of the peers' environment> <folder of the project's environment>
set -eu
peers=$1
project=$(cd "$2" && pwd)
here=$(dirname "$0")

"$project/bin/python" -m venv --clear "$peers"
packages=$("$peers/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
shared=$("$project/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "import site; site.addsitedir('$shared')" > "$packages/project.pth"
sed -e 's/#.*//' -e '/^ *$/d' "$here/../requirements/peers.txt" | while read -r peer; do
    echo "  $peer"
    "$peers/bin/python" -m pip install -qq --disable-pip-version-check --progress-bar off --no-deps "$peer" \
        || echo "  $peer could not be installed" >&2
done
