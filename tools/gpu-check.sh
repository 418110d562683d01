# For a machine with a GPU: builds for it, runs the tests of every family on it, again at small sizes under compute-sanitizer, and measures every
# operation; one Markdown report. With --device simt everything but the sanitizers runs on the executor, at small sizes: that is how the path is
# tested where there is no GPU. With --no-build it takes what ./build.sh cuda and ./build.sh test have built, in a checkout that was copied with its
# build folder to a machine which has a GPU and no compilers.

. tools/run.sh

GPU_REPORT="$BUILD/gpu-check/report.md"
GPU_FAILED=0

gpu_check() { # --device SPEC --no-build
  local device=cuda build=1
  while [ $# -gt 0 ]; do
    case "$1" in
      --device)
        [ $# -gt 1 ] || usage_error "--device needs a device"
        device="$2"
        shift 2
        ;;
      --no-build)
        build=0
        shift
        ;;
      *) usage_error "gpu-check takes --device and --no-build, not \"$1\"" ;;
    esac
  done
  [[ "$device" = simt* || "$device" = cuda* ]] || usage_error "gpu-check takes a device of cuda or simt, not \"$device\""
  mkdir -p "$(dirname "$GPU_REPORT")" "$LOGS"
  [[ "$device" != cuda* ]] || require_gpu
  if [ $build -eq 1 ]; then
    if [[ "$device" = cuda* ]]; then build_for_gpu; fi
    require_packages test
    build_native
    step "build the benchmark" ninja -C "$BUILD/native" -j "$JOBS" cudamoe_device_bench
  fi
  require_built "$device"
  export LD_LIBRARY_PATH="$BUILD/native/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  {
    printf '# CudaMoE on %s\n\n' "$device"
    describe_machine "$device"
  } >"$GPU_REPORT"
  gpu_tests "$device"
  if [[ "$device" = cuda* ]]; then gpu_sanitize; fi
  gpu_measure "$device"
  gpu_models "$device"
  printf '%s\n' "${GPU_REPORT#"$ROOT/"}"
  [ $GPU_FAILED -eq 0 ] || die "$GPU_FAILED parts failed; the report names them"
}

# What nvidia-smi says of the first GPU.
query_gpu() { # fields
  nvidia-smi "--query-gpu=$1" --format=csv,noheader 2>/dev/null | head -n 1
}

require_gpu() {
  command -v nvidia-smi >/dev/null 2>&1 && [ -n "$(query_gpu name)" ] ||
    die "no usable GPU: nvidia-smi finds none. On the executor: ./build.sh gpu-check --device simt" 3
}

require_built() { # device
  local file files=(native/tests/cudamoe_tests native/bench/device/cudamoe_device_bench device-suites.txt "lib/libcudamoe_${1%%:*}.so")
  for file in "${files[@]}"; do
    [ -e "$BUILD/native/$file" ] || die "build/native/$file is missing; ./build.sh gpu-check without --no-build builds it" 3
  done
}

# Only for the GPU that is there: a build for all takes minutes.
build_for_gpu() {
  local nvcc capability
  nvcc="$(find_nvcc)" || exit 3
  capability="$(query_gpu compute_cap)"
  capability="${capability/./}"
  [ "$capability" != 90 ] || capability=90a
  require_packages build
  build_cuda "$nvcc" "-DCUDAMOE_CUDA_CODE=arch=compute_$capability,code=sm_$capability"
}

describe_machine() { # device
  printf -- '- source: %s\n- date: %s\n' "$(git describe --always --dirty 2>/dev/null || printf unknown)" "$(date -u +%F)"
  if [[ "$1" = cuda* ]]; then
    printf -- '- GPU, driver, memory, clocks, power limit: %s\n' "$(query_gpu name,driver_version,memory.total,clocks.sm,clocks.mem,power.limit)"
  else
    printf -- '- the executor, not a GPU: times mean nothing\n'
  fi
}

# run_parts TITLE SECONDS COMMAND...: the tests of every family, each in a process of its own that COMMAND starts, as many at once as there are
# processors; a line of the report for each, its output in a log. A family without a line that says "passed" counts as failed.
run_parts() {
  local title="$1" family families part
  shift
  rm -f "$GPU_REPORT".*.part
  # A pattern is no name of a file.
  IFS=: read -r -a families <<<"$(cat "$BUILD/native/device-suites.txt")"
  for family in "${families[@]}"; do
    # How a family ended is read from its line.
    while [ "$(jobs -pr | wc -l)" -ge "$JOBS" ]; do wait -n || true; done
    run_part "$title" "$family" "$@" &
  done
  wait
  for family in "${families[@]}"; do
    part="$GPU_REPORT.${family//[^A-Za-z]/}.part"
    [ -s "$part" ] || printf '| %s | %s | **ended without a result** | | |\n' "$title" "${family//[^A-Za-z]/}" >"$part"
    grep -q '| passed |' "$part" || GPU_FAILED=$((GPU_FAILED + 1))
    cat "$part" >>"$GPU_REPORT"
    rm -f "$part"
  done
}

run_part() { # title family seconds command...
  local title="$1" family="$2" seconds="$3" name started=$SECONDS status=0 log said result=passed
  shift 3
  name="${family//[^A-Za-z]/}"
  log="$LOGS/gpu-${title//[^A-Za-z]/-}-$name.log"
  timeout "$seconds" "$@" "$BUILD/native/native/tests/cudamoe_tests" --gtest_brief=1 "--gtest_filter=$family" >"$log" 2>&1 </dev/null || status=$?
  # A pattern that fits no test runs none and ends well.
  if [ $status -eq 0 ] && ! grep -qE '^\[  PASSED  \] [1-9]' "$log"; then status=1; fi
  if [ $status -ne 0 ]; then
    result="**failed ($status)**"
    tail -n 20 "$log" >&2
  fi
  said="$(grep -E '^\[  (PASSED|FAILED)  \]|ERROR SUMMARY|rror:' "$log" | tail -n 2 | tr '|\n' '  ' || true)"
  printf '| %s | %s | %s | %d s | %s |\n' "$title" "$name" "$result" $((SECONDS - started)) "$said" >"$GPU_REPORT.$name.part"
  printf '%-28s %-12s %4d s\n' "$title" "$name" $((SECONDS - started))
}

gpu_tests() { # device
  printf '\n## Tests\n\n| part | family | result | time | |\n| --- | --- | --- | ---: | --- |\n' >>"$GPU_REPORT"
  run_parts "tests" 240 env "CUDAMOE_TEST_DEVICE=$1"
}

gpu_sanitize() {
  local sanitizer tool nvcc
  sanitizer="$(command -v compute-sanitizer || true)"
  if [ -z "$sanitizer" ] && nvcc="$(find_nvcc 2>/dev/null)"; then sanitizer="$(dirname "$nvcc")/compute-sanitizer"; fi
  if [ ! -x "$sanitizer" ]; then
    printf '| compute-sanitizer | | left out: it is not installed | | |\n' >>"$GPU_REPORT"
    return 0
  fi
  for tool in memcheck synccheck racecheck; do
    run_parts "$tool" 120 env CUDAMOE_TEST_DEVICE=cuda CUDAMOE_TEST_SMALL=1 "$sanitizer" --tool $tool --error-exitcode 9
  done
}

gpu_measure() { # device
  local options=(--batch 65536,8192 --seconds 0.3) log="$LOGS/gpu-measure.log" status=0
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

# Whole models: training steps and forward passes of the tool, beside PyTorch where an interpreter has it. A GPU only: on the executor they take hours.
gpu_models() { # device
  local python="${CUDAMOE_PEER_PYTHON:-python3}" device="$1" config batch precision
  printf '\n## Models\n\n' >>"$GPU_REPORT"
  if [[ "$device" != cuda* ]]; then
    printf 'Left out on the executor.\n' >>"$GPU_REPORT"
    return 0
  fi
  if ! command -v dotnet >/dev/null 2>&1 || [ ! -f "$TOOL" ]; then
    printf 'Left out: there is no dotnet, or the tool is not built.\n' >>"$GPU_REPORT"
    return 0
  fi
  if ! "$python" -c 'import torch; assert torch.cuda.is_available()' >/dev/null 2>&1; then
    printf 'PyTorch is left out: %s has none that sees the GPU (CUDAMOE_PEER_PYTHON names another interpreter).\n\n' "$python" >>"$GPU_REPORT"
    python=""
  fi
  printf '| configuration | batch | precision | CudaMoE us | PyTorch us | ratio | PyTorch, TF32, us | ratio |\n| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |\n' >>"$GPU_REPORT"
  for config in mmoe moe-top2 moe-top2-wide; do
    for batch in 65536 8192; do
      model_row "$device" "$python" "$config" training $batch f32
      [ $config != mmoe ] || model_row "$device" "$python" "$config" training $batch bf16
    done
  done
  for config in embedding-onehot embedding-bag20; do model_row "$device" "$python" "$config" training 65536 f32; done
  for batch in 1 256 4096; do model_row "$device" "$python" mmoe inference $batch f32 --captured; done
  cat >>"$GPU_REPORT" <<'TEXT'

Medians of a step or a forward pass, copies of the batch to the GPU included; training steps queued eight at a time, forward passes from CUDA graphs,
waited for one by one. The f32 products of CudaMoE are split into three TF32 products and as exact as f32 ones. A ratio above 1: CudaMoE is faster.
TEXT
}

model_row() { # device python configuration mode batch precision [--captured]
  local device="$1" python="$2" config="$3" mode="$4" batch="$5" precision="$6" own exact="" tf32=""
  shift 6
  own="$(median_of gpu-model dotnet "$TOOL" bench model --device "$device" --config "benchmarks/configs/$config.json" --mode "$mode" --batch "$batch" --precision "$precision" --seconds 1 "$@")"
  if [ -z "$own" ]; then GPU_FAILED=$((GPU_FAILED + 1)); fi
  if [ -n "$python" ]; then
    set -- "$python" benchmarks/peers/pytorch_peer.py --device cuda --config "benchmarks/configs/$config.json" --mode "$mode" --batch "$batch" --precision "$precision" --seconds 1 "$@"
    exact="$(median_of gpu-peer "$@")"
    exact="${exact:-failed}"
    if [ "$precision" != bf16 ]; then
      tf32="$(median_of gpu-peer "$@" --tf32)"
      tf32="${tf32:-failed}"
    fi
  fi
  printf '| %s, %s | %s | %s | %s | %s | %s | %s | %s |\n' "$config" "$mode" "$batch" "$precision" "${own:-**failed**}" "${exact:-}" "$(ratio_of "$exact" "$own")" \
    "${tf32:-}" "$(ratio_of "$tf32" "$own")" >>"$GPU_REPORT"
  printf '%-28s %s %s %s: %s us, PyTorch %s us, TF32 %s us\n' "$config" "$mode" "$batch" "$precision" "${own:-failed}" "${exact:--}" "${tf32:--}"
}

# The median of a benchmark's line of JSON, microseconds; nothing, and what it said in a log, when it fails: the row says so then.
median_of() { # log command...
  local log="$LOGS/$1.log"
  shift
  timeout 90 "$@" 2>>"$log" </dev/null | sed -nE 's/.*"median_microseconds": ?([0-9.]+).*/\1/p' | awk '{ printf "%.0f", $1 }' || true
}

ratio_of() { # slower faster
  [[ ! "$1" =~ ^[0-9]+$ || ! "$2" =~ ^[0-9]+$ ]] || awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'
}
