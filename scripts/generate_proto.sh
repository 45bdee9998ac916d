#!/usr/bin/env bash
# Generate the modules of proto/*.proto in src/worldmodel; with --check, only compare with what is there.
set -euo pipefail
cd "$(dirname "$0")/.."
fresh=$(mktemp -d) || { echo "error: no room for temporary files; set TMPDIR to a folder that has" >&2; exit 1; }
trap 'rm -rf "$fresh"' EXIT
python -m grpc_tools.protoc -Iproto --python_out="$fresh" --pyi_out="$fresh" proto/*.proto
for file in {worldmodel,open_inference}_pb2.py{,i}; do
    if [ "${1:-}" = --check ]; then
        cmp -s "$fresh/$file" "src/worldmodel/$file" || {
            echo "error: src/worldmodel/$file does not belong to proto/${file%_pb2*}.proto; run make proto" >&2
            exit 1
        }
    else
        cp "$fresh/$file" "src/worldmodel/$file"
    fi
done
