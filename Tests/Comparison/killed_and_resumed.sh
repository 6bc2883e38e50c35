#!/bin/bash
# Kills a run at random moments and compares what it becomes with an unbroken one, bit for bit.
#   killed_and_resumed.sh SWIFTLET FOLDER STEPS MODEL OPTION...
# OPTIONs are those of `swiftlet tune`, beside the number of steps, what is saved and where. Every second step is saved; the
# run is killed three times (kill -9), each time some steps after it began, up to a second later, so that saves are hit too.
# Prints one line of JSON; exits 1 where a file differs.
set -euo pipefail
swiftlet=$1 folder=$2 steps=$3
shift 3
mkdir -p "$folder"
train() {
  "$swiftlet" tune "${@:2}" --output "$folder/$1" --max-steps "$steps" --save-steps 2 --save-limit 1 --no-tensorboard \
    --logging-steps 1 --quiet
}
lines() { if [ -f "$1" ]; then wc -l <"$1"; else echo 0; fi; }

train whole "$@" >/dev/null
killed=()
for round in 1 2 3; do
  metrics=$folder/parts/metrics.jsonl
  moment=$(((round - 1) * steps / 3 + RANDOM % (steps / 3) + 1))
  resume=()
  [ "$round" = 1 ] || resume=(--resume)
  train parts "$@" "${resume[@]}" >/dev/null 2>&1 &
  child=$!
  while kill -0 $child 2>/dev/null && [ "$(lines "$metrics")" -lt "$moment" ]; do sleep 0.01; done
  sleep "0.$((RANDOM % 10))"
  program=$(pgrep -P $child || echo $child)
  kill -9 $program $child 2>/dev/null || { echo "the run was over before it was killed" >&2; exit 1; }
  wait $child 2>/dev/null || true
  saved=$(readlink "$folder/parts/latest" || echo none)
  killed+=("\"after step $(lines "$metrics"), saved: $(basename "$saved")\"")
done
train parts "$@" --resume >/dev/null

cd "$folder"
different=()
count=0
while read -r file; do
  count=$((count + 1))
  cmp -s "whole/$file" "parts/$file" || different+=("\"$file\"")
done < <(cd whole && find . -name '*.safetensors' -o -name trainer_state.json | sort)
join() { local IFS=,; echo "$*"; }
printf '{"steps": %s, "killed": [%s], "files": %s, "different": [%s]}\n' "$steps" "$(join "${killed[@]}")" "$count" \
  "$(join "${different[@]}")"
[ ${#different[@]} = 0 ] && [ "$count" -gt 0 ]
