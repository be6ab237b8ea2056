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
# torch comes from PyTorch's own index: for CPUs 0.2 GB instead of 2.7; with --gpu the build of drivers.json.
build=cpu jax=""
[ -z "$gpu" ] || { build=cu130 jax="'jax[cuda13]'"; }
torch="--extra-index-url https://download.pytorch.org/whl/$build"
# As Google's installer: the newest kernel with its headers, a restart into it, the driver, and a hold on both, so
# that no update parts them. NVIDIA's open modules serve Turing and later, which is every GPU of drillyard's table.
# Sources: https://github.com/GoogleCloudPlatform/compute-gpu-installation (v1.9.1, 2026-08-05, debian.py) and
# https://docs.nvidia.com/datacenter/tesla/driver-installation-guide
apt="sudo DEBIAN_FRONTEND=noninteractive apt-get -yq -o DPkg::Lock::Timeout=300"
nvidia=https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64
kernel="$apt install linux-image-cloud-amd64 linux-headers-cloud-amd64 gcc make dkms"
driver="test -d /lib/modules/\$(uname -r)/build
  curl -fsSLo /tmp/cuda-keyring.deb $nvidia/cuda-keyring_1.1-1_all.deb && sudo dpkg -i /tmp/cuda-keyring.deb
  $apt update && $apt install --no-install-recommends nvidia-open
  sudo apt-mark hold nvidia-open linux-image-\$(uname -r) linux-headers-\$(uname -r) linux-image-cloud-amd64 linux-headers-cloud-amd64
  sudo /opt/drillyard/bin/python -c 'import torch; assert torch.version.cuda'
  sudo modinfo -F version nvidia | sed 's/^/driver /'"
gc() { gcloud --project "$project" --quiet "$@"; }
cleanup() { gc compute instances delete "$builder" --zone "$zone" >/dev/null 2>&1 || true; }
trap cleanup EXIT

gc compute instances create "$builder" --zone "$zone" --machine-type e2-standard-4 --boot-disk-size "$size" \
  --image-family debian-12 --image-project debian-cloud --max-run-duration 2h --instance-termination-action DELETE \
  --no-service-account --no-scopes
up() { for _ in $(seq 30); do on true >/dev/null 2>&1 && break; sleep 5; done; }
on() { gc compute ssh "$builder" --zone "$zone" --command "$1"; }
up
gc compute scp "$wheel" ${lock:+"$lock"} "$builder:/tmp/" --zone "$zone"
name="$(basename "$wheel")"
constraint="${lock:+-c /tmp/$(basename "${lock:-x}")}"
on "set -e
  $apt update && $apt install python3-venv curl libgomp1
  ${gpu:+$kernel}
  sudo python3 -m venv /opt/drillyard
  sudo /opt/drillyard/bin/pip install -q --no-cache-dir $torch $constraint '/tmp/${name}[rl,gcs,mirror${gpu:+,jax}]' $jax
  sudo /opt/drillyard/bin/python -c 'import drillyard_backends.gcp.machine, mlflow, torch, stable_baselines3'
  sudo rm -rf /tmp/* /root/.cache && sync"
labels="drillyard=image,torch=$build"
if [ -n "$gpu" ]; then
  on "sudo systemctl reboot" || true # it ends the connection
  sleep "${DRILLYARD_RESTART_S:-20}"
  up
  version="$(on "set -e
  $driver
  sudo rm -rf /tmp/* && sync" | tee /dev/stderr | sed -n 's/^driver \([0-9]*\).*/\1/p')"
  [ -n "$version" ] || { echo "the driver was not installed" >&2; exit 1; }
  labels="$labels,jax=cuda13,driver=$version"
fi
gc compute instances stop "$builder" --zone "$zone"
gc compute images create "$image" --source-disk "$builder" --source-disk-zone "$zone" --family "$family" \
  --labels "$labels"
echo "backends.gcp.image_family: projects/$project/global/images/family/$family"
