# Builds the native library and its tests (CMake and Ninja) and the C# solution.

# configure FOLDER OPTIONS...: runs CMake when the folder is new, was made for another place or had other options.
configure() {
  local folder="$1" recorded="$1/.options"
  shift
  local options=(-G Ninja "$@")
  if command -v ccache >/dev/null 2>&1; then options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
  local text="$ROOT ${options[*]}"
  if [ -f "$folder/build.ninja" ] && [ "$(cat "$recorded" 2>/dev/null)" = "$text" ]; then return 0; fi
  if [ -f "$folder/CMakeCache.txt" ] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$ROOT" "$folder/CMakeCache.txt"; then
    rm -rf "$folder"
  fi
  step "configure $(basename "$folder")" cmake -S "$ROOT" -B "$folder" "${options[@]}"
  printf '%s' "$text" >"$recorded"
}

build_native() { # CMake options
  local nvcc nvtx=()
  if nvcc="$(find_nvcc 2>/dev/null)"; then nvtx=("-DCUDAMOE_NVTX=$(dirname "$nvcc")/../include"); fi
  configure "$BUILD/native" -DCUDAMOE_TESTS=ON "${nvtx[@]}" "$@"
  step "build native" ninja -C "$BUILD/native" -j "$JOBS"
}

build_managed() {
  step "build managed" dotnet build CudaMoE.sln -c Release -v quiet --nologo
}
