#!/bin/sh
# Compile the core's own test for AArch64 and run it under emulation, next to the same test on this machine: both must
# pass and end with the digest that core/tests/digests.txt records for every kernel.
#
#   tools/test_aarch64.sh             check
#   tools/test_aarch64.sh --record    after a change of the test: write what these runs ended with to digests.txt
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
build=$root/build/core-tests
record=$root/core/tests/digests.txt

missing=
need() {  # command, the package of Debian and Ubuntu that has it
    command -v "$1" > /dev/null || missing="$missing $2"
}
need cmake cmake
need make make
need c++ g++
need aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
need qemu-aarch64 qemu-user
if [ -n "$missing" ]; then
    echo "Something is missing here. Install it with:  sudo apt-get install$missing" >&2
    exit 2
fi

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

digest=$(echo "$native" | tail -n 1)
if [ "$digest" != "$(echo "$emulated" | tail -n 1)" ]; then
    echo "the two machines disagree" >&2
    exit 1
fi
found=$(printf '%s\n%s\n' "$native" "$emulated" | sed -n "s/ checked\$/ ${digest#digest }/p" | sort -u)
if [ "${1:-}" = --record ]; then
    { sed -n '/^#/p' "$record"; echo "$found"; } > "$record.new" && mv "$record.new" "$record"
elif [ "$(echo "$found" | grep -vxFf "$record" | wc -l)" -gt 0 ]; then
    echo "$record records other digests; if the test was changed on purpose, run this with --record" >&2
    exit 1
fi
