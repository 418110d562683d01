# Trains for a given time and checks that the resident memory of the process stays flat.
#
# Memory is sampled once a second. The first quarter of the time is warm-up (just-in-time compilation, pools, caches); a straight line is
# fitted to the rest by least squares. What the line gains from its begin to its end must be below 2 % of the mean plus 8 MiB.

. tools/run.sh

soak() { # --seconds N
  local seconds=600
  if [ $# -gt 0 ]; then
    [ "$1" = --seconds ] && [ $# -eq 2 ] && [[ "$2" =~ ^[0-9]+$ ]] && [ "$2" -ge 20 ] || usage_error "soak takes --seconds N with N >= 20"
    seconds="$2"
  fi
  local samples="$BUILD/soak/memory.tsv" log="$BUILD/soak/train.log"
  rm -rf "$BUILD/soak"
  mkdir -p "$BUILD/soak"
  soak_process "$seconds" "$samples" "$log" dotnet "$TOOL" train models/census-mmoe.json --runs "$BUILD/soak/runs" \
    --epochs 1000000 --set training.early_stopping=null --no-report
  judge_memory "$samples"
}

# soak_process SECONDS SAMPLES LOG COMMAND...: runs the command, samples its memory, interrupts it when the time is over.
soak_process() {
  local seconds="$1" samples="$2" log="$3" process started=$SECONDS kib status=0
  shift 3
  # A process in the background ignores an interrupt, unless it is told otherwise.
  env --default-signal=INT "$@" >"$log" 2>&1 </dev/null &
  process=$!
  trap 'kill "$process" 2>/dev/null' EXIT
  while [ $((SECONDS - started)) -lt "$seconds" ]; do
    sleep 1
    kib=$(sed -nE 's/^VmRSS:\s+([0-9]+) kB/\1/p' "/proc/$process/status" 2>/dev/null || true)
    if [ -z "$kib" ]; then
      tail -n 40 "$log" >&2
      die "the process ended after $((SECONDS - started)) of $seconds seconds"
    fi
    printf '%d\t%d\n' $((SECONDS - started)) "$kib" >>"$samples"
  done
  kill -INT "$process"
  wait "$process" || status=$?
  trap - EXIT
  [ $status -eq 130 ] || {
    tail -n 40 "$log" >&2
    die "the interrupted process ended with exit code $status; it must save and end with 130"
  }
}

judge_memory() { # samples
  awk -F '\t' '
    { time[NR] = $1; memory[NR] = $2 / 1024 }
    END {
      first = int(NR / 4) + 1
      n = NR - first + 1
      if (n < 10) { print "error: too few samples: " n > "/dev/stderr"; exit 1 }
      for (i = first; i <= NR; i++) { mean_t += time[i] / n; mean_m += memory[i] / n }
      for (i = first; i <= NR; i++) { covariance += (time[i] - mean_t) * (memory[i] - mean_m); variance += (time[i] - mean_t) ^ 2 }
      slope = covariance / variance
      gain = slope * (time[NR] - time[first])
      limit = 0.02 * mean_m + 8
      printf "memory: mean %.1f MiB, %+.3f MiB a minute, %+.1f MiB over the last %d s (limit %.1f)\n", mean_m, slope * 60, gain, time[NR] - time[first], limit
      exit gain > limit
    }' "$1" || die "memory grows; the samples are in ${1#"$ROOT/"}"
}
