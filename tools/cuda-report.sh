# Holds what nvcc made of the kernels, and what the kernels move, against what was accepted: kernels/report.tsv, kernels/costs.tsv. Writes
# docs/cuda-report.md with --update.
#
# Three sources, none of them a list that somebody keeps: cuobjdump's text of libcudamoe_cuda; the launches that the tests of the executor
# make (which kernels, how many threads, how much dynamic shared memory); the bytes and operations that the executor counts while it runs
# every operation at two batch sizes.

REPORT="$BUILD/cuda-report"
COUNT_BATCHES=(1024 2048)

cuda_report() { # --update: writes the report and what is accepted
  local nvcc update=()
  case "${1:-}" in
    "") ;;
    --update) update=(--update) ;;
    *) usage_error "cuda-report takes --update, not \"$1\"" ;;
  esac
  [ $# -le 1 ] || usage_error "cuda-report takes one option"
  nvcc="$(find_nvcc)" || exit 3
  require_packages test
  build_cuda "$nvcc"
  build_native
  step "build the report's programs" ninja -C "$BUILD/native" -j "$JOBS" cudamoe_device_bench
  step "build the report" dotnet build tools/CudaReport -c Release -v quiet --nologo
  mkdir -p "$REPORT"
  log_launches
  step "count bytes" count_costs
  dotnet tools/CudaReport/bin/Release/net10.0/CudaReport.dll check --cuobjdump "$(dirname "$nvcc")/cuobjdump" \
    --library "$BUILD/cuda/lib/libcudamoe_cuda.so" --launches "$LAUNCHES" --executor "$BUILD/native/lib/libcudamoe_simt.so" \
    --costs "$REPORT/costs.tsv" --batch 65536 --expected kernels/report.tsv --expected-costs kernels/costs.tsv --report docs/cuda-report.md \
    "${update[@]}"
}

# LAUNCHES: what the tests of the executor launched since it and they were built; they are run when that is not known.
log_launches() {
  LAUNCHES="$BUILD/native/test-results/launches.tsv"
  [ "$LAUNCHES" -nt "$BUILD/native/lib/libcudamoe_simt.so" ] && [ "$LAUNCHES" -nt "$BUILD/native/native/tests/cudamoe_tests" ] && return 0
  mkdir -p "$BUILD/native/test-results"
  rm -f "$LAUNCHES"
  step "run the executor's tests" ctest --test-dir "$BUILD/native" -R '^native_simt$' --output-on-failure --timeout 1500
}

# Both batch sizes at once, each in a process of its own.
count_costs() {
  local program="$BUILD/native/native/bench/device/cudamoe_device_bench" batch pids=() pid
  for batch in "${COUNT_BATCHES[@]}"; do
    "$program" --count --batch "$batch" >"$REPORT/costs-$batch.tsv" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || return 1; done
  : >"$REPORT/costs.tsv"
  for batch in "${COUNT_BATCHES[@]}"; do cat "$REPORT/costs-$batch.tsv" >>"$REPORT/costs.tsv"; done
}
