# For a machine with a GPU: builds for it, runs the tests of every family on it, again at small sizes under compute-sanitizer, and measures every
# operation; one Markdown report. With --device simt everything but the sanitizers runs on the executor, at small sizes: that is how the path is
# tested where there is no GPU.

GPU_REPORT="$BUILD/gpu-check/report.md"
GPU_FAILED=0

gpu_check() { # --device SPEC
  local device=cuda
  case "${1:-}" in
    "") ;;
    --device) device="${2:?}" ;;
    *) usage_error "gpu-check takes --device, not \"$1\"" ;;
  esac
  [[ "$device" = simt* || "$device" = cuda* ]] || usage_error "gpu-check takes a device of cuda or simt, not \"$device\""
  mkdir -p "$(dirname "$GPU_REPORT")" "$LOGS"
  if [[ "$device" = cuda* ]]; then build_for_gpu; fi
  require_packages test
  build_native
  step "build the benchmark" ninja -C "$BUILD/native" -j "$JOBS" cudamoe_device_bench
  {
    printf '# CudaMoE on %s\n\n' "$device"
    describe_machine "$device"
  } >"$GPU_REPORT"
  gpu_tests "$device"
  if [[ "$device" = cuda* ]]; then gpu_sanitize; fi
  gpu_measure "$device"
  printf '%s\n' "${GPU_REPORT#"$ROOT/"}"
  [ $GPU_FAILED -eq 0 ] || die "$GPU_FAILED parts failed; the report names them"
}

# Only for the GPU that is there: a build for all takes minutes.
build_for_gpu() {
  local nvcc capability
  command -v nvidia-smi >/dev/null 2>&1 && capability="$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1)" &&
    [ -n "$capability" ] || die "no usable GPU: nvidia-smi finds none. On the executor: ./build.sh gpu-check --device simt" 3
  nvcc="$(find_nvcc)" || exit 3
  capability="${capability/./}"
  [ "$capability" != 90 ] || capability=90a
  require_packages build
  build_cuda "$nvcc" "-DCUDAMOE_CUDA_ARCHITECTURES=$capability-real"
}

describe_machine() { # device
  printf -- '- source: %s\n- date: %s\n' "$(git describe --always --dirty 2>/dev/null || printf unknown)" "$(date -u +%F)"
  if [[ "$1" = cuda* ]]; then
    nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,power.limit --format=csv,noheader |
      sed 's/^/- GPU, driver, clocks, power limit: /'
  else
    printf -- '- the executor, not a GPU: times mean nothing\n'
  fi
}

# run_part NAME SECONDS COMMAND...: a line of the report, its output in a log.
run_part() {
  local name="$1" seconds="$2" log started=$SECONDS status=0
  shift 2
  log="$LOGS/gpu-${name//[^A-Za-z0-9]/-}.log"
  timeout "$seconds" "$@" >"$log" 2>&1 </dev/null || status=$?
  if [ $status -eq 0 ]; then
    printf '| %s | passed | %d s | %s |\n' "$name" $((SECONDS - started)) "$(grep -E '^\[  PASSED  \]|ERROR SUMMARY' "$log" | tail -n 1 | tr -d '|')" >>"$GPU_REPORT"
  else
    GPU_FAILED=$((GPU_FAILED + 1))
    printf '| %s | **failed (%d)** | %d s | %s |\n' "$name" $status $((SECONDS - started)) "$(grep -E '^\[  FAILED  \]|ERROR SUMMARY|rror' "$log" | tail -n 1 | tr -d '|')" >>"$GPU_REPORT"
    tail -n 20 "$log" >&2
  fi
  printf '%-28s %4d s\n' "$name" $((SECONDS - started))
}

gpu_tests() { # device
  printf '\n## Tests\n\n| part | result | time | |\n| --- | --- | ---: | --- |\n' >>"$GPU_REPORT"
  run_part "tests" 400 env "CUDAMOE_TEST_DEVICE=$1" "$BUILD/native/native/tests/cudamoe_tests" --gtest_brief=1 \
    --gtest_filter="$(cat "$BUILD/native/device-suites.txt")"
}

gpu_sanitize() {
  local sanitizer tool
  sanitizer="$(command -v compute-sanitizer || true)"
  [ -n "$sanitizer" ] || sanitizer="$(dirname "$(find_nvcc)")/compute-sanitizer"
  if [ ! -x "$sanitizer" ]; then
    printf '| compute-sanitizer | left out: it is not installed | | |\n' >>"$GPU_REPORT"
    return 0
  fi
  for tool in memcheck synccheck racecheck; do
    run_part "compute-sanitizer $tool" 100 env CUDAMOE_TEST_DEVICE=cuda CUDAMOE_TEST_SMALL=1 "$sanitizer" --tool $tool --error-exitcode 9 \
      "$BUILD/native/native/tests/cudamoe_tests" --gtest_brief=1 --gtest_filter="$(cat "$BUILD/native/device-suites.txt")"
  done
}

gpu_measure() { # device
  local options=(--batch 65536,8192 --seconds 0.6) log="$LOGS/gpu-measure.log" status=0
  if [[ "$1" = simt* ]]; then options=(--batch 1024 --seconds 0 --filter "step"); fi
  printf '\n## Operations\n\n' >>"$GPU_REPORT"
  timeout 200 "$BUILD/native/native/bench/device/cudamoe_device_bench" --device "$1" --markdown "${options[@]}" >"$log" 2>&1 || status=$?
  cat "$log" >>"$GPU_REPORT"
  if [ $status -ne 0 ]; then
    GPU_FAILED=$((GPU_FAILED + 1))
    printf '\n**The benchmark ended with exit code %d.**\n' $status >>"$GPU_REPORT"
  fi
  printf '\nBytes are those of the floor: read and written once. Cold: the cache is flushed before each run.\n' >>"$GPU_REPORT"
}
