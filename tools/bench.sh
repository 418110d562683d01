# Measures: the kernels (native micro-benchmarks), whole models (the tool, one configuration after the other), the C# layer; and, when asked for,
# whole models beside PyTorch and ONNX Runtime.

. tools/run.sh
. tools/bench-peers.sh

bench() { # --native, --model, --managed or --peers for one of them, and arguments for it
  local what=all
  case "${1:-}" in
    --peers)
      shift
      bench_peers "$@"
      return
      ;;
    --native | --model | --managed)
      what="${1#--}"
      shift
      ;;
    "") ;;
    *) usage_error "bench takes --native, --model, --managed or --peers first, not \"$1\"" ;;
  esac
  require_packages bench
  build_native -DCUDAMOE_BENCHMARKS=ON
  [ $what = native ] || build_managed
  case $what in all | native) bench_native "$@" ;; esac
  case $what in all | model) bench_models "$@" ;; esac
  case $what in all | managed) bench_managed "$@" ;; esac
}

bench_native() {
  "$BUILD/native/native/bench/cudamoe_bench" "$@"
}

bench_models() {
  local config
  for config in benchmarks/configs/*.json; do
    dotnet "$TOOL" bench model --config "$config" "$@"
  done
}

bench_managed() {
  [ $# -gt 0 ] || set -- --filter '*'
  dotnet run --project benchmarks/CudaMoE.Benchmarks -c Release --no-build -- "$@"
}
