# Formats C++ by .clang-format and the white space of C# by .editorconfig; the build itself checks the style of C#.

format_sources() { # --check: change nothing, fail when something is not formatted
  local check=0
  case "${1:-}" in
    "") ;;
    --check) check=1 ;;
    *) usage_error "format takes --check, not \"$1\"" ;;
  esac
  require_packages format
  local sources=()
  while IFS= read -r -d '' file; do sources+=("$file"); done < <(
    git ls-files -z --cached --others --exclude-standard -- '*.cpp' '*.h' '*.c' '*.cu' '*.cuh'
  )
  if [ $check -eq 1 ]; then
    step "check format of C++" clang-format-14 --dry-run -Werror "${sources[@]}"
    step "check format of C#" dotnet format whitespace CudaMoE.sln --verify-no-changes --verbosity minimal
  else
    step "format C++" clang-format-14 -i "${sources[@]}"
    step "format C#" dotnet format whitespace CudaMoE.sln
  fi
}
