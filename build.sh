#!/usr/bin/env bash
# Builds, runs and tests CudaMoE on Linux. `./build.sh help` lists the commands; docs/building.md explains them.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)"
cd "$ROOT"
. tools/common.sh
. tools/prerequisites.sh
. tools/compile.sh
. tools/cuda.sh

usage() {
  cat <<'TEXT'
Usage: ./build.sh <command> [options]

  run [arguments]     build, then train and evaluate a mixture of experts on the census data;
                      arguments are passed on to the tool instead (`./build.sh run devices`)
  build               build the native library, the C# projects and the tool; where there is nvcc, the CUDA library too
  cuda [--install]    build libcudamoe_cuda for GPUs; --install installs the CUDA toolchain when it is missing
  cuda-report [--update]
                      compare registers, instructions and bytes of every kernel with what was accepted;
                      --update writes that and docs/cuda-report.md
  cuda-ptx            write a PTX file for each kernel, with classic instructions only; another fails
  gpu-check [--device SPEC] [--no-build]
                      on a machine with a GPU: test, sanitize and measure everything on it; one report;
                      --no-build takes what was built elsewhere
  profile             write the command lines for Nsight Compute and Nsight Systems
  test [--native|--managed]
                      run all tests (or one side) and print their number
  bench [--native|--model|--managed|--peers] [arguments]
                      measure the kernels, the model configurations and the C# layer; with --peers
                      whole models beside PyTorch and ONNX Runtime
  sanitize [address|thread]
                      run the native tests under ASan + UBSan, then under TSan (or one of the two)
  coverage            run all tests instrumented and print the covered lines of native/ and src/
  soak [--seconds N]  train for N seconds (default 600) and check that memory stays flat
  format [--check]    format C++ and C#; --check only says what is not formatted
  clean               delete everything that this script has built
  help                print this text

What is missing is installed from the distribution's packages (apt-get, as root or with sudo).
Exit codes: 0 done, 1 failed, 2 usage, 3 the machine lacks something, 130 interrupted.
TEXT
}

# Build outputs only: downloads of the package managers and results under runs/ stay.
clean() {
  rm -rf build
  find src tests benchmarks samples -type d \( -name bin -o -name obj -o -name TestResults \) -prune -exec rm -rf {} +
}

command="${1:-help}"
[ $# -eq 0 ] || shift
case "$command" in
  run)
    require_packages build
    build_native
    build_managed
    . tools/run.sh
    run_tool "$@"
    ;;
  build)
    [ $# -eq 0 ] || usage_error "build takes no arguments"
    require_packages build
    build_native
    build_cuda_if_possible
    build_managed
    ;;
  cuda) cuda_command "$@" ;;
  cuda-report)
    . tools/cuda-report.sh
    cuda_report "$@"
    ;;
  cuda-ptx)
    . tools/cuda-ptx.sh
    cuda_ptx "$@"
    ;;
  gpu-check)
    . tools/gpu-check.sh
    gpu_check "$@"
    ;;
  profile)
    . tools/profile.sh
    profile "$@"
    ;;
  test)
    . tools/test.sh
    test_all "$@"
    ;;
  bench)
    . tools/bench.sh
    bench "$@"
    ;;
  sanitize)
    . tools/sanitize.sh
    sanitize "$@"
    ;;
  coverage)
    [ $# -eq 0 ] || usage_error "coverage takes no arguments"
    . tools/coverage.sh
    coverage
    ;;
  soak)
    require_packages build
    build_native
    build_managed
    . tools/soak.sh
    soak "$@"
    ;;
  format)
    . tools/format.sh
    format_sources "$@"
    ;;
  clean)
    [ $# -eq 0 ] || usage_error "clean takes no arguments"
    clean
    ;;
  help | -h | --help) usage ;;
  *) usage_error "\"$command\" is not a command" ;;
esac
