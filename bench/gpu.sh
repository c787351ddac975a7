#!/usr/bin/env bash
# One command for a machine with a GPU: builds the core and the CUDA library, runs the GPU tests, then the bench
# against PyTorch, and writes $OUT/<gpu>-<date>.json, a Markdown table beside it, and the registers of every kernel.
#
#   bench/gpu.sh [build] [test] [bench] [sanitize]      parts, in this order; all but sanitize without arguments
#
# Needs Python >= 3.10 with NumPy, pytest and PyTorch, CMake, Ninja or make, pybind11 (or PYBIND11_DIR), nvcc >= 12.4.
# No network. OUT (default bench/results), BUILD (build/gpu), ARCH (that of the GPU), JOBS (cores), PYTHON.
# HOST_CUDA=1 runs the same parts without a GPU, through tests/cuda_host: a check of this script, no figures.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3} jobs=${JOBS:-$(nproc)} build=${BUILD:-build/gpu} out=${OUT:-bench/results}
parts=${*:-build test bench}
mkdir -p "$build" "$out"
log="$out/gpu.log"
: > "$log"
fail=0
say() { printf '== %s (%d s)\n' "$*" "$SECONDS" | tee -a "$log"; }

if [ "${HOST_CUDA:-0}" = 1 ]; then
  arch=host
else
  arch=${ARCH:-$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .)}
  [ "$arch" = 90 ] && arch=90a
fi

for part in $parts; do
  case $part in
    build)
      say "build for $arch with $jobs jobs"
      cuda=(-DTENSORSMITH_CUDA=ON "-DTENSORSMITH_CUDA_ARCHITECTURES=$arch-real" -DTENSORSMITH_CUDA_REPORT=ON)
      [ "$arch" = host ] && cuda=()
      cmake -S . -B "$build" "${cuda[@]}" -DCMAKE_BUILD_TYPE=Release "-DTENSORSMITH_LEVELS=${LEVELS:-avx2;avx512}" \
        "-Dpybind11_DIR=${PYBIND11_DIR:-$("$python" -m pybind11 --cmakedir)}" \
        "-DPython_EXECUTABLE=$(command -v "$python")" >> "$log" 2>&1 || { tail -20 "$log"; exit 1; }
      cmake --build "$build" -j "$jobs" > "$build/build.log" 2>&1 || { grep -E "error|FAILED" "$build/build.log" | head -20; exit 1; }
      ln -sf "$(realpath "$build")"/_core*.so python/tensorsmith/
      if [ "$arch" = host ]; then
        "$python" tests/cuda_host/build.py "$build/libtensorsmith_cuda.so" --jobs "$jobs" >> "$log" || exit 1
      else
        "$python" bench/gpu_registers.py "$build/build.log" > "$out/registers-sm_$arch.txt"
        tail -3 "$out/registers-sm_$arch.txt" | tee -a "$log"
      fi
      ;;
    test | bench | sanitize)
      export PYTHONPATH="$PWD/python" TENSORSMITH_CUDA_LIBRARY="$(realpath "$build")/libtensorsmith_cuda.so"
      "$python" -c 'import tensorsmith as ts; print(ts.config()["cuda"])' | tee -a "$log"
      ;;&
    test)
      say "tests on the GPU"
      timeout "${TEST_SECONDS:-150}" "$python" -m pytest -q -p no:cacheprovider tests/test_cuda.py > "$out/test_cuda.txt" 2>&1 || fail=1
      grep -E "^(FAILED|ERROR)" "$out/test_cuda.txt" | head -20 | tee -a "$log"
      tail -1 "$out/test_cuda.txt" | tee -a "$log"
      ;;
    bench)
      say "bench against PyTorch"
      timeout "${BENCH_SECONDS:-200}" "$python" bench/gpu.py --out "$out" 2>&1 | tee -a "$log" || fail=1
      ;;
    sanitize)
      for tool in memcheck racecheck; do
        say "compute-sanitizer $tool"
        timeout 200 compute-sanitizer --tool $tool --error-exitcode 9 "$python" -m pytest -q -p no:cacheprovider \
          tests/test_cuda.py -k "test_forward or around_every_tile" > "$out/$tool.txt" 2>&1 || fail=1
        tail -2 "$out/$tool.txt" | tee -a "$log"
      done
      ;;
    *)
      echo "bench/gpu.sh: no part named $part" >&2
      exit 2
      ;;
  esac
done
say "done"
exit $fail
