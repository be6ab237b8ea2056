#!/usr/bin/env bash
# Makes a machine image with drillyard in /opt/drillyard, so that machines start in a minute and
# need no internet. Run it where `gcloud` is logged in:
#   ./make-image.sh [--gpu] PROJECT ZONE WHEEL [REQUIREMENTS_LOCK]
# WHEEL is drillyard's wheel (`python -m build --wheel`). With --gpu the image also has NVIDIA's driver, and
# machines of it need disk_gb: 30. The one machine that it starts has a public address while it installs, and
# is deleted at the end, also when something fails.
set -euo pipefail
gpu=""
[ "${1:-}" != "--gpu" ] || { gpu=yes; shift; }
[ $# -ge 3 ] || { sed -n '2,8p' "$0"; exit 2; }
project="$1" zone="$2" wheel="$3" lock="${4:-}"
stamp="$(date -u +%Y%m%d-%H%M%S)"
builder="drillyard-image-$stamp"
image="drillyard-${gpu:+gpu-}$stamp" family="drillyard${gpu:+-gpu}" size=20GB
[ -z "$gpu" ] || size=30GB
# NVIDIA's own packages for Debian 12. The open kernel modules serve Turing and later, which is every
# GPU of drillyard's table; the packages build them without a GPU in the machine.
# Source: https://docs.nvidia.com/datacenter/tesla/driver-installation-guide
nvidia=https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64
driver="sudo apt-get install -yq linux-headers-cloud-amd64 dkms
  curl -fsSLo /tmp/cuda-keyring.deb $nvidia/cuda-keyring_1.1-1_all.deb && sudo dpkg -i /tmp/cuda-keyring.deb
  sudo apt-get update -q && sudo apt-get install -yq --no-install-recommends nvidia-open
  sudo modinfo nvidia >/dev/null
  sudo /opt/drillyard/bin/python -c 'import torch; assert torch.version.cuda'"
gc() { gcloud --project "$project" --quiet "$@"; }
cleanup() { gc compute instances delete "$builder" --zone "$zone" >/dev/null 2>&1 || true; }
trap cleanup EXIT

gc compute instances create "$builder" --zone "$zone" --machine-type e2-standard-4 --boot-disk-size "$size" \
  --image-family debian-12 --image-project debian-cloud --max-run-duration 2h --instance-termination-action DELETE \
  --no-service-account --no-scopes
for _ in $(seq 30); do gc compute ssh "$builder" --zone "$zone" --command true >/dev/null 2>&1 && break; sleep 5; done
gc compute scp "$wheel" ${lock:+"$lock"} "$builder:/tmp/" --zone "$zone"
name="$(basename "$wheel")"
constraint="${lock:+-c /tmp/$(basename "${lock:-x}")}"
gc compute ssh "$builder" --zone "$zone" --command "set -e
  sudo apt-get update -q && sudo apt-get install -yq python3-venv curl libgomp1
  sudo python3 -m venv /opt/drillyard
  sudo /opt/drillyard/bin/pip install -q --no-cache-dir $constraint '/tmp/${name}[rl,gcs,mirror]'
  sudo /opt/drillyard/bin/python -c 'import drillyard_backends.gcp.machine, mlflow, torch, stable_baselines3'
  ${gpu:+$driver}
  sudo rm -rf /tmp/* /root/.cache && sync"
gc compute instances stop "$builder" --zone "$zone"
gc compute images create "$image" --source-disk "$builder" --source-disk-zone "$zone" --family "$family" \
  --labels drillyard=image
echo "backends.gcp.image_family: projects/$project/global/images/family/$family"
