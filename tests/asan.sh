#!/bin/bash
# Memory under AddressSanitizer: builds one SIMD level with it, proves that it is live, and runs tests.
#   tests/asan.sh [PYTEST ARGS...]      without arguments: 100,000 steps of test_random_lifetimes, hostile files
set -eo pipefail
cd "$(dirname "$0")/.."
build=${TENSORSMITH_ASAN_BUILD:-build/asan}
flags="-O1 -g1 -fsanitize=address -fno-omit-frame-pointer"
cmake -S . -B "$build" -G Ninja -DTENSORSMITH_LEVELS=baseline -DCMAKE_BUILD_TYPE=RelWithDebInfo \
  -DCMAKE_CXX_FLAGS_RELWITHDEBINFO="$flags" -DCMAKE_SHARED_LINKER_FLAGS=-fsanitize=address \
  -DCMAKE_MODULE_LINKER_FLAGS=-fsanitize=address -Dpybind11_DIR="$(python -m pybind11 --cmakedir)" \
  ${CMAKE_CXX_COMPILER_LAUNCHER:+-DCMAKE_CXX_COMPILER_LAUNCHER=$CMAKE_CXX_COMPILER_LAUNCHER} >/dev/null
ninja -C "$build" ${JOBS:+-j $JOBS} | tail -1
rm -rf "$build/tree" && mkdir -p "$build/tree"
cp -r python/tensorsmith "$build/tree/"
rm -f "$build"/tree/tensorsmith/_core*.so && cp "$build"/_core*.so "$build/tree/tensorsmith/"

export PYTHONPATH=$PWD/$build/tree PYTHONMALLOC=malloc TENSORSMITH_LIFETIME_STEPS=${TENSORSMITH_LIFETIME_STEPS:-100000}
# Python's own blocks live until the process ends; the tests count ours.
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=0
preload="$(${CXX:-g++} -print-file-name=libasan.so) $(${CXX:-g++} -print-file-name=libstdc++.so)"

# A byte past the end must be caught, or the rest proves nothing.
planted='import ctypes, tensorsmith as ts; x = ts.ones(16); ctypes.memset(x.__array_interface__["data"][0] + x.nbytes, 0, 1)'
if report=$(LD_PRELOAD=$preload python -c "$planted" 2>&1); then
  echo "asan: a write past the end of a tensor was not caught" && exit 1
fi
grep -q "AddressSanitizer" <<<"$report" || { echo "$report" && exit 1; }
echo "asan: the planted overrun was caught"
[ $# -gt 0 ] || set -- tests/test_exchange.py tests/test_npy.py tests/test_index.py tests/test_scatter.py
LD_PRELOAD=$preload exec python -m pytest -q -x -p no:cacheprovider "$@"
