# Writes one readable PTX file for each kernel of sm_80, for programs that compare or interpret PTX: build/ptx/FILE.KERNEL.ptx. Asynchronous copies
# are plain ones there, and functions that are approximated are calls of one external function (CUDAMOE_PLAIN in kernels/common); another
# instruction than those of tools/CudaReport/ClassicInstructions.cs fails. A file begins with a launch of the kernel at a small shape, as the tests of
# the executor make it: grid, block, shared memory, parameters.

. tools/cuda-report.sh

cuda_ptx() {
  local nvcc host folder="$BUILD/ptx"
  [ $# -eq 0 ] || usage_error "cuda-ptx takes no arguments"
  nvcc="$(find_nvcc)" || exit 3
  host="$(cuda_host_compiler)" || die "nvcc needs a host compiler: g++-12 or g++-13" 3
  require_packages test
  build_native
  step "build the report" dotnet build tools/CudaReport -c Release -v quiet --nologo
  log_launches
  rm -rf "$folder"
  mkdir -p "$folder/modules"
  step "compile to PTX" compile_modules "$nvcc" "$host" "$folder/modules"
  dotnet tools/CudaReport/bin/Release/net10.0/CudaReport.dll ptx --input "$folder/modules" --output "$folder" --launches "$LAUNCHES" \
    --executor "$BUILD/native/lib/libcudamoe_simt.so" || exit 1
  step "assemble each file" assemble_files "$(dirname "$nvcc")/ptxas" "$folder"
}

# Each is whole; what it becomes is of no interest, and -O0 takes a third of the time.
assemble_files() { # ptxas folder
  find "$2" -maxdepth 1 -name '*.ptx' -print0 | xargs -0 -P "$JOBS" -I {} "$1" -c -O0 -arch=sm_80 {} -o /dev/null
}

# -rdc=true: the external function is defined elsewhere.
compile_modules() { # nvcc host folder
  local source
  for source in kernels/*/*.cu; do
    printf '%s\0%s\0' "$source" "$3/$(sed 's|kernels/||; s|/|-|; s|\.cu$||' <<<"$source").ptx"
  done | xargs -0 -n 2 -P "$JOBS" sh -c '"$0" -ccbin "$1" -ptx -arch=compute_80 -rdc=true -std=c++20 -O3 -fmad=false -DCUDAMOE_PLAIN -Ikernels "$2" -o "$3"' \
    "$1" "$2"
}
