# Runs all tests instrumented and prints which share of the lines they reach: native/ by gcov and gcovr, src/ by coverlet.

. tools/test.sh

coverage() {
  require_packages coverage
  local folder="$BUILD/coverage"
  configure "$folder" -DCUDAMOE_COVERAGE=ON
  step "build coverage" ninja -C "$folder" -j "$JOBS"
  find "$folder" -name '*.gcda' -delete
  build_native
  build_managed
  start_counts coverage
  test_native "$folder" "coverage "
  test_managed --collect "XPlat Code Coverage"
  step "gcovr" gcovr --root "$ROOT" --filter 'native/(core|cpu)/' --object-directory "$folder" --gcov-ignore-parse-errors \
    --exclude-unreachable-branches --cobertura "$folder/native.xml" --html-details "$folder/native.html" "$folder"
  printf '\n%-44s %9s %9s %7s\n' "lines" covered all share
  print_coverage "$ROOT/" "$folder/native.xml"
  local reports=()
  while IFS= read -r -d '' file; do reports+=("$file"); done < <(find "$RESULTS/managed" -name coverage.cobertura.xml -print0)
  [ ${#reports[@]} -eq 0 ] || print_coverage "$ROOT/" "${reports[@]}"
  printf '\nLine by line: %s\n' "${folder#"$ROOT/"}/native.html"
  finish_counts
}

# print_coverage ROOT COBERTURA...: a line covered in any of the reports counts once; one output line a folder.
print_coverage() {
  local root="$1"
  shift
  awk -v root="$root" -v RS='>' '
    function attribute(name) {
      if (!match($0, " " name "=\"[^\"]*\"")) return ""
      return substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 4)
    }
    /<\/source$/ { source = $0; sub(/<\/source$/, "", source); if (source !~ /\/$/) source = source "/" }
    /<class / {
      file = attribute("filename")
      if (file !~ /^\// && source ~ /^\//) file = source file
      if (index(file, root) == 1) file = substr(file, length(root) + 1)
      generated = file ~ /\/obj\//
    }
    /<line / && !generated { hits[file ":" attribute("number")] += attribute("hits") }
    END {
      for (key in hits) {
        folder = key
        sub(/\/[^\/]*$/, "", folder)
        all[folder]++
        total++
        if (hits[key] > 0) { covered[folder]++; total_covered++ }
      }
      for (folder in all) printf "%-44s %9d %9d %6.1f%%\n", folder, covered[folder], all[folder], 100 * covered[folder] / all[folder] | "sort"
      close("sort")
      printf "%-44s %9d %9d %6.1f%%\n", "total", total_covered, total, total ? 100 * total_covered / total : 0
    }' "$@"
}
