#!/usr/bin/env bash
# Write constraints.txt and versions.yaml anew, from what is installed (`make pins`); versions.yaml keeps its names.
set -euo pipefail
cd "$(dirname "$0")/.."
installed=$(python -m pip freeze --all --exclude pip --exclude-editable | tr "[:upper:]_" "[:lower:]-" |
    sed -nE -e ":name" -e "s/^([^=.]*)\./\1-/" -e "t name" -e "s/^([a-z0-9-]+==[^+ ]+).*/\1/p" |
    grep -vE "^(nvidia-|cuda-|triton=)" | LC_ALL=C sort)
versions=$(sed -nE 's/^([a-z0-9-]+):.*/\1/p' versions.yaml | while read -r name; do
    grep "^$name==" <<<"$installed" || { echo "error: versions.yaml names $name, which is not installed" >&2; exit 1; }
done | sed -E 's/(.*)==(.*)/\1: "\2"/')
cat >constraints.txt <<END
# Every package that requirements*.txt bring along, for \`pip install -c\`. Written by \`make pins\`.
# What torch needs for a GPU is not here: torch names those versions itself.
$installed
END
cat >versions.yaml <<END
# What results were made with; dvc.yaml says which stages each can change. Written by \`make pins\`.
$versions
END
