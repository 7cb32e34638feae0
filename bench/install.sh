#!/bin/sh
# Makes the environment of a comparison with others: those alone, on top of the project's own environment, whose torch they share.
# One that cannot be installed is left out; the comparison says so.
# usage: bench/install.sh <folder of the new environment> <folder of the project's environment> <file of requirements>
set -eu
peers=$1
project=$(cd "$2" && pwd)
requirements=$3

"$project/bin/python" -m venv --clear "$peers"
packages=$("$peers/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
shared=$("$project/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "import site; site.addsitedir('$shared')" > "$packages/project.pth"
sed -e 's/#.*//' -e '/^ *$/d' "$requirements" | while read -r peer; do
    echo "  $peer"
    "$peers/bin/python" -m pip install -qq --disable-pip-version-check --progress-bar off --no-deps "$peer" \
        || echo "  $peer could not be installed" >&2
done
