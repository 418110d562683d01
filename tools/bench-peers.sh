# Measures whole models beside PyTorch (the distribution's python3-torch) and ONNX Runtime (the npm package onnxruntime-node, which has the
# library inside), in turns: every row runs the engine and its peers several rounds one after the other. A peer that cannot be had is named, and its rows
# are left out.
#
# A row is MODE/CONFIGURATION/THREADS/PRECISION/BATCH, for example training/mmoe/2/f32/4096; arguments are the beginnings of the rows to run. Besides:
# onnxruntime/CONFIGURATION/THREADS   inference at batch 1, 16, 256, 4096 in one process, which also checks that both engines give the same logits
# balancer/mmoe                       the training step with MultiBalance beside the one with equal weights, in pairs
# busy/mmoe                           the training step on two cores, one of which runs a busy loop, beside the undisturbed one
#
# A table states the median of the rounds' ratios and the ratio of the least times, which other programs disturb less, and how much of the machine's processor
# time other programs took while the row ran: above a few per cent the row is to be measured again.
#
# CUDAMOE_PEER_PYTHON        Python interpreters with PyTorch, separated by colons, in place of the distribution's
# CUDAMOE_PEER_ONNXRUNTIME   path of libonnxruntime in place of the npm package's

ONNXRUNTIME_VERSION=1.30.0
PEERS="$BUILD/peers"
PEER_RESULTS="$PEERS/results.tsv"
PEER_ROUNDS=3
PEER_SECONDS=2 # a .NET process still compiles its methods in its first second
BUSY_SECONDS=3
BALANCER_PAIRS=9

PEER_ROWS=(
  training/mmoe/2/f32/4096 training/moe-top2/2/f32/4096 training/moe-top2-wide/2/f32/4096 training/mmoe/2/bf16/4096
  training/mmoe/1/f32/4096 training/moe-top2/1/f32/4096 training/moe-top2-wide/1/f32/4096
  training/embedding-onehot/2/f32/4096 training/embedding-bag20/2/f32/4096 training/embedding-bag20-uniform/2/f32/4096 training/embedding-large/2/f32/4096
  inference/mmoe/2/f32/1 inference/mmoe/2/f32/16 inference/mmoe/2/f32/256 inference/mmoe/2/f32/4096
  inference/moe-top2/2/f32/256 inference/moe-top2/2/f32/4096 inference/moe-top2-wide/2/f32/256 inference/moe-top2-wide/2/f32/4096
)
ONNXRUNTIME_ROWS=(onnxruntime/mmoe/2 onnxruntime/mmoe/1 onnxruntime/moe-top2/2 onnxruntime/moe-top2/1 onnxruntime/moe-top2-wide/2 onnxruntime/moe-top2-wide/1)

bench_peers() { # [--no-build] beginnings of rows
  local build=1
  if [ "${1:-}" = --no-build ]; then
    build=0
    shift
  fi
  FILTERS=("$@")
  find_pytorch
  find_onnxruntime
  if [ $build -eq 1 ]; then
    require_packages build
    build_native
    build_managed
    [ -z "$ONNXRUNTIME" ] || step "build the ONNX Runtime peer" dotnet build benchmarks/peers/OnnxRuntimePeer -c Release -v quiet --nologo
  fi
  mkdir -p "$PEERS"
  : >"$PEER_RESULTS"

  printf '\nMachine: %s x%d, %s\n\n' "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)" "$(date -u +%F)"
  compare_with_pytorch
  compare_with_onnxruntime
  compare_balancers
  compare_busy
}

wanted() { # row
  local filter
  [ ${#FILTERS[@]} -gt 0 ] || return 0
  for filter in "${FILTERS[@]}"; do
    case "$1" in "$filter"*) return 0 ;; esac
  done
  return 1
}

unavailable() { # peer reason
  printf 'peer %s: cannot be had, its rows are left out: %s\n' "$1" "$2"
}

has_torch() { # interpreter
  python_for_torch "$1" -c 'import torch' >/dev/null 2>&1
}

# Fills PYTHONS; a peer that cannot be installed is printed as such and left out, and the others run. Debian's PyTorch takes the OpenMP build of OpenBLAS: with the other one two pools of threads share the cores.
find_pytorch() {
  PYTHONS=()
  local python candidates
  IFS=: read -r -a candidates <<<"${CUDAMOE_PEER_PYTHON:-/usr/bin/python3}"
  if [ -z "${CUDAMOE_PEER_PYTHON:-}" ] && ! has_torch /usr/bin/python3; then
    (install_packages python3-torch libopenblas0-openmp) || true
  fi
  for python in "${candidates[@]}"; do
    if has_torch "$python"; then
      PYTHONS+=("$python")
      printf 'peer PyTorch %s: %s\n' "$(python_for_torch "$python" -c 'import torch; print(torch.__version__)' 2>/dev/null)" "$python"
    else
      unavailable PyTorch "$python cannot import torch (on Debian: apt-get install python3-torch libopenblas0-openmp)"
    fi
  done
}

# Runs Python as PyTorch runs fastest on a CPU: memory stays with the process, OpenBLAS shares the threads of OpenMP, and where this OpenBLAS is older than
# the processor (it would take kernels for SSE3 then) it is told which kernels to take.
python_for_torch() { # interpreter arguments
  local python="$1" core=Haswell libraries
  shift
  if grep -q avx512f /proc/cpuinfo; then core=SkylakeX; fi
  libraries="$(dirname "$(ls -d /usr/lib/*/openblas-openmp/libblas.so.3 2>/dev/null | head -n 1)" 2>/dev/null || true)"
  env -u OPENBLAS_L2_SIZE OPENBLAS_CORETYPE=$core LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" MALLOC_MMAP_MAX_=0 \
    MALLOC_TRIM_THRESHOLD_=2000000000 MALLOC_TOP_PAD_=268435456 "$python" "$@"
}

find_onnxruntime() {
  local package="$PEERS/node_modules/onnxruntime-node"
  ONNXRUNTIME="${CUDAMOE_PEER_ONNXRUNTIME:-$package/bin/napi-v6/linux/x64/libonnxruntime.so.1}"
  if [ ! -f "$ONNXRUNTIME" ] && [ -z "${CUDAMOE_PEER_ONNXRUNTIME:-}" ] && command -v npm >/dev/null 2>&1; then
    mkdir -p "$PEERS"
    step "install onnxruntime-node $ONNXRUNTIME_VERSION" npm install --prefix "$PEERS" --ignore-scripts --no-save "onnxruntime-node@$ONNXRUNTIME_VERSION" || true
  fi
  if [ -f "$ONNXRUNTIME" ]; then
    printf 'peer ONNX Runtime: %s\n' "${ONNXRUNTIME#"$ROOT/"}"
  else
    unavailable "ONNX Runtime" "$ONNXRUNTIME is missing (the npm package onnxruntime-node $ONNXRUNTIME_VERSION has it)"
    ONNXRUNTIME=""
  fi
}

# record KEY ENGINE: appends "key, engine, median, minimum, 99th percentile" in microseconds for each JSON line of the standard input.
record() {
  local line engine
  while IFS= read -r line; do
    engine="$(field engine "$line")"
    printf '%s\t%s\t%s\t%s\t%s\n' "$1/$(field batch "$line")" "${2:-$engine}" "$(field median_microseconds "$line")" \
      "$(field minimum_microseconds "$line")" "$(field p99_microseconds "$line")" >>"$PEER_RESULTS"
  done
}

field() { # name JSON
  sed -nE "s/.*\"$1\": ?\"?([^\",}]*).*/\\1/p" <<<"$2"
}

# start_row and end_row stand around a row: they note how much processor time went to programs other than this script's.
start_row() {
  processor_times
  ROW_CLOCK=$CLOCK ROW_MACHINE=$MACHINE ROW_OWN=$OWN
}

end_row() { # key
  processor_times
  printf '%s\tothers\t%d\n' "$1" $((100 * (MACHINE - ROW_MACHINE - OWN + ROW_OWN) / ((CLOCK - ROW_CLOCK) * $(nproc)))) >>"$PEER_RESULTS"
}

# Hundredths of a second: the time of day, the processor time of all programs, and that of this script and its finished children.
processor_times() {
  times >"$PEERS/times" # a pipe would run it in a shell without children
  OWN=$(tr 'ms' '  ' <"$PEERS/times" | awk '{ seconds += ($1 + $3) * 60 + $2 + $4 } END { printf "%d", seconds * 100 }')
  MACHINE=$(awk '/^cpu / { print $2 + $3 + $4 + $7 + $8 + $9 }' /proc/stat)
  CLOCK=$(($(date +%s%N) / 10000000))
}

engine_turn() { # key configuration threads arguments
  local key="$1" configuration="$2" threads="$3"
  shift 3
  dotnet "$TOOL" bench model --config "benchmarks/configs/$configuration.json" --device "cpu:threads=$threads" --seconds $PEER_SECONDS "$@" | record "$key" CudaMoE
}

pytorch_turns() { # key configuration threads arguments
  local key="$1" configuration="$2" threads="$3" python
  shift 3
  for python in "${PYTHONS[@]}"; do
    if python_for_torch "$python" benchmarks/peers/pytorch_peer.py --config "benchmarks/configs/$configuration.json" --threads "$threads" \
      --seconds $PEER_SECONDS "$@" >"$PEERS/turn" 2>"$PEERS/errors"; then
      record "$key" <"$PEERS/turn"
    else
      printf 'peer %s failed on %s: %s\n' "$python" "$key" "$(tail -n 1 "$PEERS/errors")" >&2
    fi
  done
}

compare_with_pytorch() {
  local row mode configuration threads precision batch round
  [ ${#PYTHONS[@]} -gt 0 ] || return 0
  for row in "${PEER_ROWS[@]}"; do
    wanted "$row" || continue
    IFS=/ read -r mode configuration threads precision batch <<<"$row"
    start_row
    for ((round = 0; round < PEER_ROUNDS; round++)); do
      engine_turn "${row%/*}" "$configuration" "$threads" --mode "$mode" --precision "$precision" --batch "$batch"
      pytorch_turns "${row%/*}" "$configuration" "$threads" --mode "$mode" --precision "$precision" --batch "$batch"
    done
    end_row "$row"
  done
  table '^(training|inference)/'
}

compare_with_onnxruntime() {
  local row configuration threads
  [ -n "$ONNXRUNTIME" ] || return 0
  for row in "${ONNXRUNTIME_ROWS[@]}"; do
    wanted "$row" || continue
    IFS=/ read -r _ configuration threads <<<"$row"
    start_row
    dotnet benchmarks/peers/OnnxRuntimePeer/bin/Release/net10.0/OnnxRuntimePeer.dll --library "$ONNXRUNTIME" \
      --config "benchmarks/configs/$configuration.json" --threads "$threads" | record "$row"
    end_row "$row"
  done
  table '^onnxruntime/'
}

compare_balancers() {
  local pair
  wanted balancer/mmoe || return 0
  start_row
  for ((pair = 0; pair < BALANCER_PAIRS; pair++)); do
    engine_turn balancer/mmoe mmoe 2 --balancer equal
    dotnet "$TOOL" bench model --config benchmarks/configs/mmoe.json --device cpu:threads=2 --seconds $PEER_SECONDS --balancer multi_balance |
      record balancer/mmoe "CudaMoE, multi_balance"
  done
  end_row balancer/mmoe
  table '^balancer/'
}

# Both engines on two processors; the loop is pinned on the second one. Longer turns than elsewhere: the system's own turns take milliseconds.
compare_busy() {
  wanted busy/mmoe || return 0
  local PEER_SECONDS=$BUSY_SECONDS processors round loop first second
  processors="$(taskset -cp $$ | sed 's/.*: //' | tr ',' '\n' | awk -F- '{ for (i = $1; i <= ($2 == "" ? $1 : $2); i++) print i }')"
  first="$(sed -n 1p <<<"$processors")" second="$(sed -n 2p <<<"$processors")"
  [ -n "$second" ] || die "the busy loop needs two processors" 3
  start_row
  for ((round = 0; round < PEER_ROUNDS; round++)); do
    on_two_processors engine_turn busy/mmoe mmoe 2
    on_two_processors pytorch_turns busy/mmoe mmoe 2
    taskset -c "$second" timeout 60 sh -c 'while :; do :; done' &
    loop=$!
    on_two_processors engine_turn busy/mmoe+loop mmoe 2
    on_two_processors pytorch_turns busy/mmoe+loop mmoe 2
    kill $loop
    wait $loop 2>/dev/null || true
  done
  end_row busy/mmoe
  busy_table
}

on_two_processors() { # function arguments
  (taskset -cp "$first,$second" "$BASHPID" >/dev/null && "$@")
}

# Ratios of one round to the next move with the machine: the median of the rounds' ratios is stated, and the least and greatest.
STATISTICS='
  function sorted(text, values,   n, i, j, t) {
    n = split(text, values, " ")
    for (i = 2; i <= n; i++) for (j = i; j > 1 && values[j - 1] + 0 > values[j] + 0; j--) { t = values[j]; values[j] = values[j - 1]; values[j - 1] = t }
    return n
  }
  function median(text,   v, n) { n = sorted(text, v); return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2 }
  function least(text,   v) { sorted(text, v); return v[1] }
  function greatest(text,   v, n) { n = sorted(text, v); return v[n] }
  function ratios(a, b,   x, y, n, i, r) { n = split(a, x, " "); split(b, y, " "); for (i = 1; i <= n; i++) r = r " " x[i] / y[i]; return r }
  function time(us) { return us < 1000 ? sprintf("%.1f us", us) : sprintf("%.2f ms", us / 1000) }
  function spread(r,   v) { return sorted(r, v) == 1 ? sprintf("%.2f", v[1]) : sprintf("%.2f (%.2f to %.2f)", median(r), least(r), greatest(r)) }'

table() { # pattern of keys
  awk -F '\t' -v pattern="$1" "$STATISTICS"'
    $1 !~ pattern { next }
    $2 == "others" { others[$1] = $3; next }
    {
      if (!($1 in seen)) { seen[$1] = 1; keys[++count] = $1 }
      if ($2 != "CudaMoE" && !(($1, $2) in medians)) peers[$1] = peers[$1] "\t" $2
      medians[$1, $2] = medians[$1, $2] " " $3; minima[$1, $2] = minima[$1, $2] " " $4; tails[$1, $2] = tails[$1, $2] " " $5
    }
    function times(key, engine) { return time(median(medians[key, engine])) " / " time(least(minima[key, engine])) " / " time(median(tails[key, engine])) }
    END {
      if (!count) exit
      print "| row | CudaMoE: median / least / p99 | beside | its median / least / p99 | ratio of medians (least to greatest of the rounds) | ratio of least | others |"
      print "| --- | ---: | --- | ---: | ---: | ---: | ---: |"
      for (k = 1; k <= count; k++) {
        key = keys[k]; n = split(peers[key], names, "\t")
        row = key in others ? key : substr(key, 1, length(key) - length(key_end(key)))
        for (p = 2; p <= n; p++)
          printf "| %s | %s | %s | %s | %s | %.2f | %d %% |\n", key, times(key, "CudaMoE"), names[p], times(key, names[p]),
            spread(ratios(medians[key, names[p]], medians[key, "CudaMoE"])), least(minima[key, names[p]]) / least(minima[key, "CudaMoE"]), others[row]
      }
      print ""
    }
    function key_end(key,   parts, n) { n = split(key, parts, "/"); return "/" parts[n] }' "$PEER_RESULTS"
}

busy_table() {
  awk -F '\t' "$STATISTICS"'
    $1 !~ /^busy/ { next }
    $2 == "others" { others = $3; next }
    {
      if (!($2 in seen)) { seen[$2] = 1; names[++count] = $2 }
      if ($1 ~ /loop/) { busy[$2] = busy[$2] " " $3; busy_least[$2] = busy_least[$2] " " $4 }
      else { quiet[$2] = quiet[$2] " " $3; quiet_least[$2] = quiet_least[$2] " " $4 }
    }
    END {
      print "| training step of mmoe, 2 threads | undisturbed: median / least | beside a busy loop: median / least | ratio of medians (least to greatest of the rounds) | ratio of least | others |"
      print "| --- | ---: | ---: | ---: | ---: | ---: |"
      for (i = 1; i <= count; i++) {
        name = names[i]
        printf "| %s | %s / %s | %s / %s | %s | %.2f | %d %% |\n", name, time(median(quiet[name])), time(least(quiet_least[name])), time(median(busy[name])),
          time(least(busy_least[name])), spread(ratios(busy[name], quiet[name])), least(busy_least[name]) / least(quiet_least[name]), others
      }
      print ""
    }' "$PEER_RESULTS"
}
