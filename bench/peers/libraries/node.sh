#!/usr/bin/env bash
# The Node that npm has installed beside the libraries.
set -euo pipefail
home=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)/target/peers/node
for node in "$home"/node_modules/node-linux-*/bin/node; do
    exec "$node" "$@"
done
