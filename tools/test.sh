# Runs the native tests at every instruction-set level and the C# tests, and counts test cases.

test_all() { # --native or --managed for one side
  local native=1 managed=1
  case "${1:-}" in
    "") ;;
    --native) managed=0 ;;
    --managed) native=0 ;;
    *) usage_error "test takes --native or --managed, not \"$1\"" ;;
  esac
  [ $# -le 1 ] || usage_error "test takes one option"
  require_packages test
  build_native
  [ $managed -eq 0 ] || build_managed
  start_counts test
  [ $native -eq 0 ] || test_native "$BUILD/native" ""
  [ $managed -eq 0 ] || test_managed
  finish_counts
}

# test_native FOLDER PREFIX [ctest arguments]: every entry of ctest is a suite. A GoogleTest entry writes its cases to
# FOLDER/test-results/NAME.xml; an entry without such a file counts as one test.
test_native() {
  local folder="$1" prefix="$2" log="$LOGS/ctest-$(basename "$1").log" name status
  shift 2
  rm -rf "$folder/test-results"
  mkdir -p "$folder/test-results" "$LOGS"
  ctest --test-dir "$folder" --output-on-failure --no-tests=error --timeout 1500 -j "$JOBS" \
    --output-junit "$folder/test-results/ctest.xml" "$@" >"$log" 2>&1 </dev/null || true
  if [ ! -f "$folder/test-results/ctest.xml" ]; then
    tail -n 40 "$log" >&2
    add_count "${prefix}ctest" 0 1 0
    return 0
  fi
  while IFS=$'\t' read -r name status; do
    count_native_suite "$folder/test-results/$name.xml" "$prefix$name" "$status"
  done < <(sed -nE 's/.*<testcase name="([^"]*)".* status="([^"]*)".*/\1\t\2/p' "$folder/test-results/ctest.xml")
  if grep -q '\*\*\*Failed\|\*\*\*Timeout\|\*\*\*Exception\|\*\*\*Not Run' "$log"; then
    grep -A 8 -E ': Failure$|^\[  FAILED  \]|ERROR: |WARNING: ThreadSanitizer|runtime error|\*\*\*' "$log" | head -n 200 >&2 || true
    printf 'error: native tests failed; the whole output is in %s\n' "${log#"$ROOT/"}" >&2
  fi
}

count_native_suite() { # results suite status
  local passed=0 failed=0 skipped=0
  if [ -f "$1" ]; then
    failed=$(sed -nE '/<testsuites /s/.* failures="([0-9]+)".*/\1/p' "$1")
    skipped=$(grep -cE '<testcase .*result="(skipped|suppressed)"' "$1" || true)
    passed=$(($(grep -cE '<testcase ' "$1" || true) - failed - skipped))
    # A program that fails although its cases pass (a leak found at exit) has failed.
    if [ "$3" != run ] && [ "$failed" -eq 0 ]; then failed=1; fi
  else
    case "$3" in
      run) passed=1 ;;
      notrun | disabled) skipped=1 ;;
      *) failed=1 ;;
    esac
  fi
  add_count "$2" "$passed" "$failed" "$skipped"
}

# test_managed [dotnet test arguments]
test_managed() {
  local results="$RESULTS/managed" log="$LOGS/dotnet-test.log" status=0 file name total executed passed failed sum_failed=0
  rm -rf "$results"
  mkdir -p "$results" "$LOGS"
  dotnet test CudaMoE.sln -c Release --no-build --nologo --logger trx --results-directory "$results" \
    --blame-hang-timeout 15m --blame-hang-dump-type none "$@" >"$log" 2>&1 </dev/null || status=$?
  while IFS= read -r -d '' file; do
    name=$(sed -nE '/ codeBase=/{s|.* codeBase="[^"]*/([^/"]*)\.dll".*|\1|p;q}' "$file")
    [ -n "$name" ] || continue # a project without tests names no assembly
    read -r total executed passed failed < <(sed -nE \
      's/.*<Counters total="([0-9]+)" executed="([0-9]+)" passed="([0-9]+)" failed="([0-9]+)".*/\1 \2 \3 \4/p' "$file")
    add_count "$name" "$passed" $((executed - passed)) $((total - executed))
    sum_failed=$((sum_failed + executed - passed))
  done < <(find "$results" -name '*.trx' -print0 | sort -z)
  if [ $status -ne 0 ]; then
    grep -vE '^\s*$|Passed!|^Results File' "$log" | head -n 200 >&2 || true
    printf 'error: dotnet test failed; the whole output is in %s\n' "${log#"$ROOT/"}" >&2
    # A test host that died may have written no failed case.
    [ $sum_failed -gt 0 ] || add_count "dotnet test" 0 1 0
  fi
}
