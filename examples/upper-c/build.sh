#!/usr/bin/env bash
# Builds the module with Debian's packages `clang` and `lld`: no SDK, no C library, no other tools.
# It lands where the other examples do; another place can be given as the only argument.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
output=${1:-"$root/target/wasm32-unknown-unknown/guest/example_upper_c.wasm"}
mkdir -p "$(dirname "$output")"
# -I is where `.incbin` finds the world's binary form.
clang --target=wasm32 -std=c11 -O3 -Wall -Wextra -Wno-unused-parameter -Werror \
    -ffreestanding -nostdlib -Wl,--no-entry -Wl,--strip-debug -Wl,-z,stack-size=65536 \
    -I "$root/guest-sdk/guest/component-types" \
    -o "$output" "$here/upper.c"
