#!/usr/bin/env bash
# Checks an NVIDIA card in under five minutes: every operation against the same in f64, the demo models against the CPU, and how long a
# step and a picture take at real sizes, with PyTorch beside where python3 has it.
#
#   cargo build --release -p forge-cli --features cuda        (cuda,vulkan: Vulkan beside it)
#   bash bench/gpu.sh [target/release/forge]
#
# Needs the card's driver, the CUDA toolkit, python3 with numpy, and 8 GB for files of random weights.
set -u
cd "$(dirname "$0")/.."
forge=$(realpath "${1:-target/release/forge}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Kernels that were compiled before don't count: the first process is one without a cache.
export XDG_CACHE_HOME=$work/cache

# Runs a command as JSON lines and prints what it took.
timed() {
  local name=$1 memory
  shift
  (while nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits 2>/dev/null; do sleep 0.1; done > "$work/memory") &
  local watch=$!
  timeout 90 "$forge" txt2img "$@" --seed 1 --json --output "$work/$name.png" > "$work/$name.jsonl" 2> "$work/$name.err"
  local code=$?
  kill $watch 2>/dev/null
  wait $watch 2>/dev/null
  memory=$(sort -n "$work/memory" | tail -1)
  python3 bench/gpu/told.py "$name" $code "${memory:-?}" "$work/$name.jsonl"
  head -c 600 "$work/$name.err"
}

"$forge" devices --check || exit 1

echo "== the demo models, on the card and on the CPU"
for model in flux sd; do
  for compute in f32 tf32 f16 bf16; do
    "$forge" txt2img --config $model.toml --seed 7 --backend cuda --compute $compute --output "$work/$model-$compute.png" > /dev/null
  done
  "$forge" txt2img --config $model.toml --seed 7 --backend cpu --compute f32 --output "$work/$model-cpu.png" > /dev/null
  python3 bench/gpu/alike.py "$work/$model"-{cpu,f32,tf32,f16,bf16}.png
done

# Where the build has `vulkan` as well, and the loader knows a card.
vulkan=$("$forge" devices | grep -c '^vulkan:[0-9]')
if [ "$vulkan" -gt 0 ]; then
  echo "== the demo models on Vulkan"
  for model in flux sd; do
    for compute in f32 f16; do
      "$forge" txt2img --config $model.toml --seed 7 --backend vulkan --compute $compute --output "$work/$model-vulkan-$compute.png" > /dev/null
    done
    python3 bench/gpu/alike.py "$work/$model"-{cpu,vulkan-f32,vulkan-f16}.png
  done
fi

echo "== real sizes"
python3 bench/gpu/weights.py flux "$work/flux.safetensors" &
python3 bench/gpu/weights.py fixtures/keys/flux-ae.bfl.txt "$work/ae.safetensors"
python3 bench/gpu/weights.py fixtures/keys/sd15.ldm.txt "$work/sd.safetensors"
wait %1
cat > "$work/flux.toml" <<T
[model]
transformer = "$work/flux.safetensors"
clip = "$PWD/fixtures/models/clip.safetensors"
t5 = "$PWD/fixtures/models/t5.safetensors"
vae = "$work/ae.safetensors"
[device]
backend = "cuda:0"
T
cat > "$work/sd.toml" <<T
[model]
checkpoint = "$work/sd.safetensors"
[device]
backend = "cuda:0"
T
python3 bench/gpu/peer.py
for side in 1024 512; do
  for round in first again; do
    timed "flux-$side-$round" --config "$work/flux.toml" --prompt x --width $side --height $side --steps 6
  done
done
# What has no room passes through the card in each step, which may take 1.3 times as long as the larger of the step above and of copying that
# much at the rate that PyTorch tells.
size=(--config "$work/flux.toml" --width 1024 --height 1024)
whole=$("$forge" plan "${size[@]}" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["bytes"] >> 20)')
for share in 50 25; do
  allowed=$((whole * share / 100))
  "$forge" plan "${size[@]}" --memory "$allowed MiB" | grep '^  transformer'
  timed "flux-1024-$share%" "${size[@]}" --prompt x --steps 6 --memory "$allowed MiB"
done
# As it is stored it stays on the card, and each matrix is unpacked there for its product, or in it where rows are few.
"$forge" convert "$work/flux.safetensors" "$work/flux-q8_0.gguf" --type q8_0 > /dev/null
timed "flux-1024-q8_0" "${size[@]}" --transformer "$work/flux-q8_0.gguf" --prompt x --steps 6
for round in first again; do
  timed "sd-512-$round" --config "$work/sd.toml" --prompt x --negative y --cfg 7 --width 512 --height 512 --steps 6
done
if [ "$vulkan" -gt 0 ]; then
  timed "flux-512-vulkan" --config "$work/flux.toml" --backend vulkan --prompt x --width 512 --height 512 --steps 6
  timed "flux-1024-vulkan" --config "$work/flux.toml" --backend vulkan --prompt x --width 1024 --height 1024 --steps 6
  timed "sd-512-vulkan" --config "$work/sd.toml" --backend vulkan --prompt x --negative y --cfg 7 --width 512 --height 512 --steps 6
fi
