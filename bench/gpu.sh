#!/usr/bin/env bash
# One command for a machine with a GPU: builds the core and the CUDA library, runs the GPU tests, then the bench
# against PyTorch, and writes $OUT/<gpu>-<date>.json, a Markdown table beside it, and the registers of every kernel.
#
#   bench/gpu.sh [build] [test] [bench] [conv] [wgmma] [attention] [models] [sanitize]   parts, in this order; the
#   first three without arguments
#
# Without a build nothing goes on; of the other parts, one that fails does not stop the next: every group of tests is a
# process, every case of the bench is on its own. The exit status is 1 where anything failed. On 16 cores and an H200
# test takes 40 seconds, bench two minutes; build is planned for four, sanitize for a run of its own. conv, a minute: the
# convolutions' tests and their speed in each mode beside cuDNN's, as in bench. wgmma, a minute: the products that only
# compute capability 9.0 has, their tests and their speed beside the other kernels' and cuBLAS's. attention, a minute: the
# kernel of attention that only compute capability 9.0 has, likewise, beside PyTorch's FlashAttention-2 and cuDNN's.
#
# Needs Python >= 3.10 with NumPy, pytest and PyTorch, CMake, Ninja or make, pybind11 (or PYBIND11_DIR), nvcc >= 12.4.
# No network. OUT (default bench/results), BUILD (build/gpu), ARCH (that of the GPU), JOBS (cores), PYTHON. LIMIT: seconds
# for everything; what a test or the bench is at by then is cut short (not a build).
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
# So many seconds, or what is left of LIMIT.
within() {
  local left=$((${LIMIT:-86400} - SECONDS))
  echo $(($1 < left ? $1 : left > 1 ? left : 1))
}

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
    test | bench | conv | wgmma | attention | models | sanitize)
      export PYTHONPATH="$PWD/python" TENSORSMITH_CUDA_LIBRARY="$(realpath "$build")/libtensorsmith_cuda.so"
      "$python" -c 'import tensorsmith as ts; print(ts.config()["cuda"])' | tee -a "$log"
      ;;&
    test)
      # The most telling first; each in a process of its own, for a fault in one kernel ends its process, and all at
      # once, for most of their time is the host's.
      rm -f "$out"/verified*.txt "$out"/test_*.txt
      groups=()
      while read -r name seconds arguments; do
        groups+=("$name")
        # The profiler that lists kernels would be in the way of recordings, and of errors that come late.
        case $name in jit | train) listed= ;; *) listed=$out/verified_$name.txt ;; esac
        eval "set -- $arguments"
        TENSORSMITH_VERIFIED=$listed OMP_NUM_THREADS=2 TENSORSMITH_NUM_THREADS=2 timeout "$(within "$seconds")" "$python" -m pytest -q \
          --durations 3 -p no:cacheprovider "$@" > "$out/test_$name.txt" 2>&1 &
      done <<- 'END'
		forward 120 tests/test_cuda.py -k test_forward
		attention 90 tests/test_attention.py -k low_precision
		gemm 120 tests/test_cuda_gemm.py
		wgmma 120 tests/test_cuda_wgmma.py
		attention_wgmma 120 tests/test_cuda_attention.py
		conv 120 tests/test_cuda_conv.py
		complex 120 tests/test_cuda_complex.py
		random 120 tests/test_cuda_random.py
		runtime 120 tests/test_cuda_runtime.py
		memory 120 tests/test_cuda_memory.py
		rest 120 tests/test_cuda.py tests/test_cuda_kernels.py -k "not test_forward and not next_wait"
		halves 120 tests/test_cuda_halves.py
		jit 120 tests/test_cuda_jit.py tests/test_cuda.py -k "jit or next_wait"
		train 120 tests/test_cuda_train.py
	END
      say "tests: ${groups[*]}"
      for _ in "${groups[@]}"; do wait -n || fail=1; done
      for name in "${groups[@]}"; do
        printf '%-16s %s\n' "$name" "$(tail -1 "$out/test_$name.txt")" | tee -a "$log"
        grep -E "^(FAILED|ERROR)" "$out/test_$name.txt" | cut -c1-240 | head -20 | tee -a "$log"
      done
      sort -u "$out"/verified_*.txt > "$out/verified.txt"
      "$python" bench/gpu.py --out "$out" --verified "$out/verified.txt" | tee -a "$log"
      ;;
    bench)
      say "bench against PyTorch"
      timeout "$(within $((${BENCH_SECONDS:-220} + 30)))" "$python" bench/gpu.py --out "$out" \
        --seconds "$(within "${BENCH_SECONDS:-220}")" 2>&1 | tee -a "$log" || fail=1
      ;;
    conv)
      say "tests: convolution, complex numbers"
      timeout "$(within 90)" "$python" -m pytest -q -p no:cacheprovider tests/test_cuda_conv.py tests/test_cuda_complex.py \
        > "$out/test_conv.txt" 2>&1 || fail=1
      grep -E "^(FAILED|ERROR)" "$out/test_conv.txt" | head -20 | tee -a "$log"
      tail -1 "$out/test_conv.txt" | tee -a "$log"
      say "bench: convolution, cross-entropy, complex"
      mkdir -p "$out/conv"
      timeout "$(within 90)" "$python" bench/gpu.py --out "$out/conv" --families kernels,conv --only "^(copy|cross_entropy|adamw|batch_norm|complex|fft|rfft|conv )" \
        --seconds 75 2>&1 | tee -a "$log" || fail=1
      ;;
    wgmma)
      say "tests: wgmma"
      timeout "$(within 60)" "$python" -m pytest -q -p no:cacheprovider tests/test_cuda_wgmma.py > "$out/test_wgmma.txt" 2>&1 || fail=1
      grep -E "^(FAILED|ERROR)" "$out/test_wgmma.txt" | head -20 | tee -a "$log"
      tail -1 "$out/test_wgmma.txt" | tee -a "$log"
      say "bench: products"
      mkdir -p "$out/wgmma"
      timeout "$(within 75)" "$python" bench/gpu.py --out "$out/wgmma" --families products --only "gemm (bfloat16|ieee|split)" \
        --seconds 45 2>&1 | tee -a "$log" || fail=1
      ;;
    attention)
      say "tests: attention by wgmma"
      timeout "$(within 90)" "$python" -m pytest -q -p no:cacheprovider tests/test_cuda_attention.py > "$out/test_attention_wgmma.txt" 2>&1 || fail=1
      grep -E "^(FAILED|ERROR)" "$out/test_attention_wgmma.txt" | head -20 | tee -a "$log"
      tail -1 "$out/test_attention_wgmma.txt" | tee -a "$log"
      say "bench: attention"
      mkdir -p "$out/attention"
      timeout "$(within 75)" "$python" bench/gpu.py --out "$out/attention" --families attention --only "attention .*bfloat16" \
        --seconds 60 2>&1 | tee -a "$log" || fail=1
      ;;
    models)
      say "training steps beside PyTorch"
      timeout "$(within "${MODELS_SECONDS:-150}")" "$python" bench/gpu_models.py --json "$out/models.json" ${MODELS:-} 2>&1 |
        tee "$out/models.txt" || fail=1
      ;;
    sanitize)
      if ! command -v compute-sanitizer > /dev/null; then
        say "no compute-sanitizer here"
        fail=1
        continue
      fi
      files="test_cuda_gemm test_cuda_conv test_cuda_attention test_cuda_halves test_cuda test_cuda_kernels"
      say "compute-sanitizer memcheck, racecheck: $files"
      for tool in memcheck racecheck; do
        for file in $files; do
          timeout "$(within "${SANITIZE_SECONDS:-200}")" compute-sanitizer --tool $tool --error-exitcode 9 "$python" -m pytest -q \
            -p no:cacheprovider "tests/$file.py" -k "test_forward or around_every_tile or test_bits or epilogue or exact_on_integers \
            or picks_a_key or batch_norm or halves or at_their_edges" > "$out/$tool-$file.txt" 2>&1 &
        done
      done
      for _ in $files $files; do wait -n || fail=1; done
      for tool in memcheck racecheck; do
        for file in $files; do
          printf '%s %s %s %s\n' $tool $file "$(grep -E "^=+ (ERROR SUMMARY|RACECHECK SUMMARY)" "$out/$tool-$file.txt" | tail -1)" \
            "$(tail -1 "$out/$tool-$file.txt")" | tee -a "$log"
        done
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
