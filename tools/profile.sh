# Writes what to run under Nsight Compute and Nsight Systems: build/profile/ncu.sh, one line for each operation, and build/profile/nsys.sh. It runs nothing
# itself; docs/profiling.md says what to look for.

profile() {
  local folder="$BUILD/profile" bench="build/native/native/bench/device/cudamoe_device_bench" operation name
  [ $# -eq 0 ] || usage_error "profile takes no arguments"
  require_packages test
  build_native
  step "build the benchmark" ninja -C "$BUILD/native" -j "$JOBS" cudamoe_device_bench
  mkdir -p "$folder"
  {
    printf '#!/usr/bin/env bash\n# Each operation once under Nsight Compute; reports beside this file. From the root of the repository.\nset -eu\n'
    "$BUILD/native/native/bench/device/cudamoe_device_bench" --list | while IFS= read -r operation; do
      name="$(tr -cs 'A-Za-z0-9' '-' <<<"$operation" | sed 's/-*$//')"
      printf 'ncu --set full --import-source yes --launch-count 16 --force-overwrite -o build/profile/%s %s --device cuda --seconds 0 --filter "%s"\n' \
        "$name" "$bench" "$operation"
    done
  } >"$folder/ncu.sh"
  cat >"$folder/nsys.sh" <<'TEXT'
#!/usr/bin/env bash
# Whole training steps on a time line. From the root of the repository.
set -eu
nsys profile --trace=cuda,nvtx,osrt --cuda-graph-trace=node --force-overwrite=true -o build/profile/train \
  dotnet src/CudaMoE.Cli/bin/Release/net10.0/CudaMoE.Cli.dll bench model --config benchmarks/configs/moe-top2.json --device cuda --seconds 2
nsys stats --report cuda_gpu_kern_sum,cuda_api_sum,nvtx_sum build/profile/train.nsys-rep
TEXT
  chmod +x "$folder"/*.sh
  printf '%s\n' "${folder#"$ROOT/"}/ncu.sh" "${folder#"$ROOT/"}/nsys.sh"
}
