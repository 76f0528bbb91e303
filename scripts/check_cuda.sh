#!/usr/bin/env bash
# Check diffir on a machine with an NVIDIA GPU, within eight minutes: the tests marked `cuda`, then time, memory and
# share of the peak of two networks of the official sizes with random weights, which cost what trained ones do.
#
#   scripts/check_cuda.sh [FOLDER]     results go to FOLDER, ./cuda-results by default; older ones are replaced
#
# It needs the packages of '.[dev]' in the environment; PYTHON names another interpreter than `python`.
# Exit code: 0 all steps passed, 1 a step failed (the others are run all the same), 2 there is no GPU.
set -uo pipefail

folder=$(realpath -m "${1:-cuda-results}")
python=${PYTHON:-python}
cd "$(dirname "$0")/.." || exit 1

gpu='import torch; print(torch.cuda.get_device_name(0)) if torch.cuda.is_available() else exit(1)'
if ! name=$("$python" -c "$gpu"); then
  echo "error: there is no NVIDIA GPU that torch can use" >&2
  echo "hint: run nvidia-smi, and install a torch built for CUDA" >&2
  exit 2
fi
mkdir -p "$folder" || exit 1
echo "$name: results go to $folder"

failed=()

step() { # NAME, SECONDS, command …: what it prints on stdout goes to NAME.json, or to NAME.log for the tests
  local name=$1 limit=$2 output=$1.json code
  shift 2
  [ "$name" = tests ] && output=tests.log
  printf '\n== %s (%s s)\n' "$name" "$SECONDS"
  timeout --kill-after=10 "$limit" "$@" >"$folder/$output"
  code=$?
  if [ "$code" -ne 0 ]; then
    failed+=("$name")
    [ "$code" -eq 124 ] && echo "error: $name took longer than $limit s" >&2
    echo "error: $name failed with exit code $code" >&2
  fi
}

measure() { # NAME, WEIGHTS, SIZE
  rm -f "$folder/$1.md"
  step "$1" 150 "$python" -m diffir_cli benchmark --device cuda --precision bf16,fp32 --repeats 10 \
    --weights "$2" --input-size "$3" --json --markdown "$folder/$1.md"
  if [ -f "$folder/$1.md" ]; then cat "$folder/$1.md"; fi
}

step tests 160 "$python" -m pytest -n 0 -m cuda -ra --junitxml="$folder/tests.xml"
tail -n 15 "$folder/tests.log"
measure deblur deblur-gopro 1280x720
measure sr sr-x4 320x180

echo
if [ "${#failed[@]}" -gt 0 ]; then
  echo "error: these steps failed: ${failed[*]}" >&2
  exit 1
fi
echo "all steps passed in $SECONDS s"
