# Builds libcudamoe_cuda with nvcc where there is one.

# The first nvcc of the usual places that is 12.4 or newer; says on stderr why there is none.
find_nvcc() {
  local nvcc version
  for nvcc in "${CUDACXX:-}" "$(command -v nvcc || true)" "${CUDA_PATH:+$CUDA_PATH/bin/nvcc}" "${CUDA_PREFIX:+$CUDA_PREFIX/bin/nvcc}" \
    /usr/local/cuda/bin/nvcc /opt/cuda-12.4/bin/nvcc "$HOME/.local/cuda-12.4/bin/nvcc"; do
    [ -n "$nvcc" ] && [ -x "$nvcc" ] || continue
    version="$("$nvcc" --version 2>/dev/null | sed -nE 's/.*release ([0-9.]+),.*/\1/p')"
    if [ "$(printf '%s\n12.4\n' "$version" | sort -V | head -n 1)" = 12.4 ]; then
      readlink -f "$nvcc" # nvcc looks for its headers beside itself
      return 0
    fi
    printf '%s is of CUDA %s; 12.4 is the least\n' "$nvcc" "${version:-unknown}" >&2
  done
  printf 'no nvcc of CUDA 12.4 or newer was found; tools/install-cuda-toolchain.sh installs one\n' >&2
  return 1
}

# The newest compiler that nvcc 12.4 takes.
cuda_host_compiler() {
  local candidate
  for candidate in "${CUDAHOSTCXX:-}" g++-12 g++-13 g++; do
    [ -n "$candidate" ] && command -v "$candidate" && return 0
  done
  return 1
}

# build_cuda NVCC [CMake options]: build/cuda, and the library beside the others.
build_cuda() {
  local nvcc="$1" host
  shift
  host="$(cuda_host_compiler)" || die "nvcc needs a host compiler: g++-12 or g++-13" 3
  configure "$BUILD/cuda" -DCUDAMOE_CUDA=ON -DCUDAMOE_TESTS=OFF "-DCMAKE_CUDA_COMPILER=$nvcc" "-DCMAKE_CUDA_HOST_COMPILER=$host" "$@"
  step "build cuda" ninja -C "$BUILD/cuda" -j "$JOBS" cudamoe_cuda cudamoe_cuda_wrappers
  mkdir -p "$BUILD/native/lib"
  cp "$BUILD/cuda/lib/libcudamoe_cuda.so" "$BUILD/native/lib/"
}

# As part of a build of everything: without a toolkit, says that it is left out.
build_cuda_if_possible() {
  local nvcc
  if nvcc="$(find_nvcc 2>/dev/null)"; then
    build_cuda "$nvcc"
  else
    printf 'build cuda                   left out: %s\n' "$(find_nvcc 2>&1 | tail -n 1)"
  fi
}

cuda_command() { # --install: install the toolkit when it is missing
  local nvcc
  case "${1:-}" in
    "") ;;
    --install) find_nvcc >/dev/null 2>&1 || step "install the CUDA toolchain" tools/install-cuda-toolchain.sh ;;
    *) usage_error "cuda takes --install, not \"$1\"" ;;
  esac
  [ $# -le 1 ] || usage_error "cuda takes one option"
  nvcc="$(find_nvcc)" || exit 3
  require_packages build
  build_cuda "$nvcc"
  printf '%s\n' "${BUILD#"$ROOT/"}/native/lib/libcudamoe_cuda.so"
}
