# What all scripts in this folder share: messages, logged steps, test counts. Sourced by build.sh in the root of the repository.

BUILD="$ROOT/build"
LOGS="$BUILD/logs"
RESULTS="$BUILD/test-results"
JOBS="$(nproc)"

export DOTNET_NOLOGO=1 DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_CLI_UI_LANGUAGE=en LC_ALL=C.UTF-8
if [ -n "${CI:-}" ]; then
  # No build servers that outlive this script.
  export MSBUILDDISABLENODEREUSE=1 UseSharedCompilation=false
fi

die() { # message: what failed, and what to do
  printf 'error: %s\n' "$1" >&2
  exit "${2:-1}"
}

usage_error() {
  printf 'error: %s\n\n' "$1" >&2
  usage >&2
  exit 2
}

# step LABEL COMMAND...: runs a command with its output in a log file; prints one line, and the end of the log when it fails.
step() {
  local label="$1" log started=$SECONDS status=0
  shift
  mkdir -p "$LOGS"
  log="$LOGS/${label//[^A-Za-z0-9]/-}.log"
  "$@" >"$log" 2>&1 </dev/null || status=$?
  if [ $status -ne 0 ]; then
    tail -n 60 "$log" >&2
    printf 'error: %s failed with exit code %d; the whole output is in %s\n' "$label" "$status" "${log#"$ROOT/"}" >&2
    return $status
  fi
  printf '%-28s %4d s\n' "$label" $((SECONDS - started))
}

# Test counts: one line a suite, "suite<TAB>passed<TAB>failed<TAB>skipped", in $COUNTS.
COUNTS=""

start_counts() { # file
  mkdir -p "$RESULTS"
  COUNTS="$RESULTS/$1.tsv"
  : >"$COUNTS"
}

add_count() { # suite passed failed skipped
  printf '%s\t%d\t%d\t%d\n' "$1" "$2" "$3" "$4" >>"$COUNTS"
  printf '%-28s %6d passed, %d failed, %d skipped\n' "$1" "$2" "$3" "$4"
}

# Prints the sum of all suites as the last line; fails when a test failed or none ran.
finish_counts() {
  awk -F '\t' '{ p += $2; f += $3; s += $4 } END { printf "%d passed, %d failed, %d skipped\n", p, f, s; exit f > 0 || p == 0 }' "$COUNTS"
}
