#!/usr/bin/env bash
# Starts drillyard's agent on a machine of Google Cloud. Needs no internet: what drillyard needs comes
# with the image, from a wheelhouse in the bucket, or in a container; drillyard itself is the wheel
# that whoever rents the machine has put into the bucket. Everything printed here is on the serial
# port. Whatever happens, the machine ends: the agent deletes it, else this script does, else its own
# limit (maxRunDuration).
set -u
metadata="http://${GCE_METADATA_HOST:-metadata.google.internal}/computeMetadata/v1"
prefix="${DRILLYARD_PREFIX:-/opt/drillyard}"
run="${TMPDIR:-/run}/drillyard"
scratch="${TMPDIR:-/var/tmp}/drillyard/work"

say() { echo "drillyard: $*"; }

ask() { # a request to Google; a packet that is lost on the way has no answer, and curl would wait for minutes
  curl -sf --connect-timeout 10 --max-time 120 "$@"
}

meta() { # the value at a path, or nothing
  ask --noproxy '*' --retry 5 --retry-connrefused -H 'Metadata-Flavor: Google' "$metadata/$1" 2>/dev/null
}

token() {
  meta instance/service-accounts/default/token | sed -n 's/.*"access_token" *: *"\([^"]*\)".*/\1/p'
}

give_up() { # nothing can work here: keep the last words, then go
  say "$1: this machine ends itself"
  local group name zone api heard=""
  group="$(meta instance/attributes/drillyard-group)"
  [ -n "$group" ] || group="$(meta instance/attributes/created-by | sed -n 's,^projects/[^/]*/\([a-z]*/[^/]*\)/instanceGroupManagers/,\1/,p')"
  name="$(meta instance/name)"
  zone="$(meta instance/zone)"
  zone="${zone##*/}"
  agent=""
  sleep "${DRILLYARD_LAST_WORDS_S:-60}" & wait $! # the serial port goes with the machine; somebody may read it
  api="https://compute.googleapis.com/compute/v1/projects/$(meta project/project-id)"
  for _ in 1 2 3 4 5 6; do
    [ -n "$group" ] && ask -X POST -H "Authorization: Bearer $(token)" -H 'Content-Type: application/json' \
      -d "{\"instances\":[\"zones/$zone/instances/$name\"],\"skipInstancesOnValidationError\":true}" \
      "$api/${group%/*}/instanceGroupManagers/${group##*/}/deleteInstances" >/dev/null && heard=yes && break
    # The role that ships may not change groups, and may delete this machine.
    ask -X DELETE -H "Authorization: Bearer $(token)" "$api/zones/$zone/instances/$name" >/dev/null
    case $? in 0) heard=yes && break ;; 22) heard=yes ;; esac # 22: Google refuses it
    sleep "${DRILLYARD_RETRY_S:-10}"
  done
  # Google ends this machine within minutes, if it has heard. If not, it must not cost until its limit:
  # one that is powered off costs its disk alone, and its group shows it as ended.
  [ -z "$heard" ] || { sleep "${DRILLYARD_POWER_OFF_S:-600}" & wait $!; }
  # Never where Google's metadata server is played: that would be somebody's own computer.
  local off="${DRILLYARD_POWER_OFF:-}"
  [ -n "$off" ] || [ -n "${GCE_METADATA_HOST:-}" ] || off="systemctl poweroff"
  say "nobody has ended this machine: ${off:-it stays}"
  $off
  exit 1
}

install_from_wheelhouse() { # $1: gs://bucket/folder; its index.json lists names and hashes
  local python
  python="$(command -v python3)" || give_up "no python3 on this image"
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    give_up "this image has $("$python" --version 2>&1), and drillyard needs 3.11 or newer: choose another image"
  say "installing from $1"
  "$python" -m venv --without-pip "$prefix" || give_up "no virtual environment"
  "$prefix/bin/python" - "$metadata" "$1" "$prefix" <<'PYTHON' || give_up "the wheelhouse cannot be installed"
import hashlib, json, os, pathlib, subprocess, sys, time, urllib.parse, urllib.request
metadata, url, prefix = sys.argv[1:]
bucket, _, folder = url.removeprefix("gs://").partition("/")
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
def token():
    request = urllib.request.Request(metadata + "/instance/service-accounts/default/token",
                                     headers={"Metadata-Flavor": "Google"})
    return json.load(direct.open(request, timeout=30))["access_token"]
def fetch(name):
    quoted = urllib.parse.quote(f"{folder.rstrip('/')}/{name}", safe="")
    request = urllib.request.Request(
        f"https://storage.googleapis.com/storage/v1/b/{bucket}/o/{quoted}?alt=media",
        headers={"Authorization": "Bearer " + token()})
    for attempt in range(6):
        try:
            return urllib.request.urlopen(request, timeout=30).read()
        except OSError as error:
            print(f"drillyard: {name}: {error}", flush=True)
            time.sleep(2 ** attempt)
    sys.exit(f"drillyard: {name} cannot be read")
index = json.loads(fetch("index.json"))
here = "%d.%d" % sys.version_info[:2]
if index.get("python", here) != here:
    sys.exit(f"drillyard: the wheelhouse was made for Python {index['python']}, and this image has {here}: make it with Python {here}, or choose another image")
wheels = pathlib.Path(prefix) / "wheels"
wheels.mkdir(exist_ok=True)
for name, digest in index["files"].items():
    if os.path.basename(name) != name:
        sys.exit(f"drillyard: {name!r} is no file name")
    data = fetch(name)
    if hashlib.sha256(data).hexdigest() != digest:
        sys.exit(f"drillyard: {name} is not what the index says")
    (wheels / name).write_bytes(data)
pip = next(wheels.glob("pip-*.whl"))
subprocess.run([sys.executable, f"{pip}/pip", "install", "--no-index", "--find-links", str(wheels),
                "--no-cache-dir", "--disable-pip-version-check", "pip", *index["install"]], check=True)
PYTHON
}

fetch_wheel() { # $1: gs://bucket/key/SHA256.whl, $2: the file; the name is the hash of the content
  local bucket key name code=0
  bucket="${1#gs://}"
  key="${bucket#*/}"
  bucket="${bucket%%/*}"
  name="${1##*/}"
  rm -f "$2"
  for _ in 1 2 3 4 5 6 7 8; do # more than a minute: too many requests in it are answered with 403, which curl does not repeat
    ask -H "Authorization: Bearer $(token)" -o "$2" \
      "https://storage.googleapis.com/storage/v1/b/$bucket/o/${key//\//%2F}?alt=media" && break
    code=$?
    rm -f "$2"
    sleep "${DRILLYARD_RETRY_S:-10}" & wait $!
  done
  case "$code" in # the codes of curl for a name, a connection and a time that is over
    6 | 7 | 28) [ -s "$2" ] || give_up "storage.googleapis.com cannot be reached: look at the subnet's Private Google Access and resolver" ;;
  esac
  [ -s "$2" ] || give_up "$1 cannot be read"
  echo "${name%.whl}  $2" | sha256sum --check --status || give_up "$1 is not what was sent (sha256)"
}

nvidia() { # true where an NVIDIA card is on the bus, driver or not
  grep -qs 0x10de "${DRILLYARD_PCI:-/sys/bus/pci/devices}"/*/vendor
}

wait_for_driver() { # images of Google's that bring one install it while the machine boots
  nvidia || return 0
  local left="${DRILLYARD_DRIVER_S:-900}"
  until nvidia-smi >/dev/null 2>&1; do
    [ "$left" -gt 0 ] || give_up "there is a GPU and no driver that works: choose an image with one"
    [ $((left % 60)) -ne 0 ] || say "waiting for the driver of the GPU"
    sleep 5 & wait $!
    left=$((left - 5))
  done
}

pull() { # $1: an image by its digest
  local words pulled="" here=amd64 image
  for _ in 1 2 3 4 5 6; do # a registry that has too many requests answers again in a minute
    words="$(HOME="$run" docker pull -q "$1" 2>&1)" && pulled=yes && break
    words="$(sed '$!d; s/?[^" ]*//g' <<<"$words")" # the last line; an address may be signed
    say "$words"
    sleep "${DRILLYARD_RETRY_S:-10}" & wait $!
  done
  [ -n "$pulled" ] ||
    give_up "the registry gave no $1 ($words): look whether the image is there and fits on the disk, and give the machines' account roles/artifactregistry.reader on its repository"
  [ "$(uname -m)" != aarch64 ] || here=arm64
  image="$(HOME="$run" docker image inspect -f '{{.Architecture}}' "$1")"
  [ "${image:-$here}" = "$here" ] || give_up "the container is built for $image, and this machine is $here: docker build --platform linux/$here"
}

docker_gpus() { # what a container on Container-Optimized OS is given, a word a line
  nvidia || return 0
  local place="${DRILLYARD_NVIDIA:-/var/lib/nvidia}" device
  if command -v cos-extensions >/dev/null; then
    cos-extensions install gpu -- -version=latest >&2 || return 1 # the default is 535, which runs no CUDA 13
    mount --bind "$place" "$place" && mount -o remount,exec "$place"
    printf '%s\n' -v "$place/lib64:/usr/local/nvidia/lib64" -v "$place/bin:/usr/local/nvidia/bin" -e LD_LIBRARY_PATH=/usr/local/nvidia/lib64
    for device in "${DRILLYARD_DEV:-/dev}"/nvidia*; do
      [ -c "$device" ] && printf '%s\n' --device "$device"
    done
  else
    printf '%s\n' --gpus all
  fi
  return 0
}

agent="" stopping=""
forward() { # the machine is being stopped: whatever runs hears of it, nothing new begins
  stopping=yes
  say "this machine is being stopped"
  [ -n "$agent" ] || exit 0
  kill -TERM "$agent" 2>/dev/null
}
trap forward TERM
mkdir -p "$run" "$scratch" || give_up "no folder to work in"

container="$(meta instance/attributes/drillyard-container)"
wheelhouse="$(meta instance/attributes/drillyard-wheelhouse)"
wheel="$(meta instance/attributes/drillyard-wheel)"
export DRILLYARD_SCRATCH="$scratch"
program=(-m drillyard_backends.gcp.machine) mounted=() path="${PYTHONPATH:-}"
if [ -n "$wheel" ]; then
  file="$run/drillyard.whl"
  fetch_wheel "$wheel" "$file"
  path="$file${path:+:$path}"
  program=(-m drillyard_backends.from_wheel "$file" drillyard_backends.gcp.machine)
  mounted=(-v "$file:$file:ro" -e "PYTHONPATH=$file")
fi
say "starting the agent"
if [ -n "$container" ]; then
  say "container $container"
  command -v docker-credential-gcr >/dev/null && HOME="$run" docker-credential-gcr configure-docker --registries="${container%%/*}"
  pull "$container"
  cards="$(docker_gpus)" || give_up "the driver of the GPU cannot be installed"
  # A volume of docker's own: on Container-Optimized OS /var may not be executed from, docker's part of it may.
  # shellcheck disable=SC2086  # words without spaces, or none
  HOME="$run" docker run --rm --name drillyard --init --stop-timeout 25 --network host $cards -v "drillyard-work:$scratch" -e DRILLYARD_SCRATCH -e GCE_METADATA_HOST \
    -e GCE_METADATA_IP "${mounted[@]}" "$container" python "${program[@]}" &
else
  wait_for_driver
  if [ ! -x "$prefix/bin/python" ]; then
    [ -n "$wheelhouse" ] || give_up "no $prefix/bin/python on this image, and no wheelhouse is set"
    install_from_wheelhouse "$wheelhouse"
  fi
  PYTHONPATH="$path" "$prefix/bin/python" "${program[@]}" &
fi
agent=$!
echo "$agent" >"$run/agent.pid"
# A signal ends `wait` early; the agent flushes meanwhile. It may be over already: `wait` comes first.
while :; do
  wait "$agent"
  code=$?
  kill -0 "$agent" 2>/dev/null || break
done
rm -f "$run/agent.pid"
say "the agent ended with code $code"
if [ "$code" = 75 ]; then # it has asked for its own end for ten minutes, and its last words are in the bucket
  DRILLYARD_LAST_WORDS_S=0 DRILLYARD_POWER_OFF_S=0
fi
[ "$code" = 0 ] || [ -n "$stopping" ] || give_up "the agent could not leave by itself"
