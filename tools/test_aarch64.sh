#!/bin/sh
# Compile the core's own test for AArch64 and run it under emulation, next to the same test on this machine: both must
# pass and end with the same digest.
#
# On Debian or Ubuntu it needs: cmake make g++ g++-aarch64-linux-gnu qemu-user
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-$root/build/core-tests}

for tool in cmake aarch64-linux-gnu-g++ qemu-aarch64; do
    command -v "$tool" > /dev/null || {
        echo "$tool is missing; install: cmake make g++ g++-aarch64-linux-gnu qemu-user" >&2
        exit 2
    }
done

mkdir -p "$build"
compile() {  # directory, further options of cmake
    directory=$1
    shift
    { cmake -S "$root/core/tests" -B "$directory" "$@" && cmake --build "$directory" --parallel 2; } \
        > "$build/log" 2>&1 || { cat "$build/log" >&2; exit 1; }
}
compile "$build/native"
compile "$build/aarch64" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
    -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DCMAKE_EXE_LINKER_FLAGS=-static

native=$("$build/native/core_test") || { echo "$native"; exit 1; }
echo "this machine:"
echo "$native"
emulated=$(qemu-aarch64 "$build/aarch64/core_test") || { echo "$emulated"; exit 1; }
echo "AArch64 (emulated):"
echo "$emulated"

if [ "$(echo "$native" | tail -n 1)" != "$(echo "$emulated" | tail -n 1)" ]; then
    echo "the two machines disagree" >&2
    exit 1
fi
