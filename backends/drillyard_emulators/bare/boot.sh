#!/usr/bin/env bash
# Makes a bare machine and becomes its first process. It runs as the first process of new mount,
# process, network, host-name and IPC namespaces, still on the host's files; whatever it mounts or
# makes in the network is gone with the last process of these namespaces.
#   NAME, FOLDER  of the machine; FOLDER is on the host, with the script in it
#   ROOT          the root filesystem, which is only read
#   FABRIC        a process in the network of the emulated services
#   LINK, ADDRESS of the machine in that network
#   AUTHORITY     certificate of the authority that the emulated services have theirs from
#   DISK_MB, CLOCK_S, DRIVER, DRIVER_AFTER_S
#   CONTAINER     if it is a container, which ends with its command
set -eu
truncate -s "${DISK_MB}M" "$FOLDER/disk"
mkfs.ext4 -q -F -m 0 "$FOLDER/disk"
mkdir "$FOLDER/mount"
mount -o loop "$FOLDER/disk" "$FOLDER/mount"
cd "$FOLDER/mount"
mkdir upper work root containers
mount -t overlay -o "lowerdir=$ROOT,upperdir=upper,workdir=work" overlay root
cd root

mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
# Podman asks what it is, and overlays its images: not on an overlay.
mount -t cgroup2 -o ro cgroup2 sys/fs/cgroup || true
mkdir -p var/lib/containers
mount --bind ../containers var/lib/containers
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
for device in null:3 zero:5 full:7 random:8 urandom:9; do
  mknod -m 666 "dev/${device%:*}" c 1 "${device#*:}"
done
mknod -m 666 dev/tty c 5 0
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr

hostname "$NAME"
echo "$NAME" >etc/hostname
echo "nameserver 169.254.169.254" >etc/resolv.conf
printf '127.0.0.1 localhost\n169.254.169.254 metadata.google.internal metadata\n' >etc/hosts
cat "$AUTHORITY" >>etc/ssl/certs/ca-certificates.crt
cp "$AUTHORITY" "etc/ssl/certs/$(openssl x509 -noout -hash <"$AUTHORITY").0"
if [ "$CLOCK_S" != +0 ]; then
  echo "$CLOCK_S" >etc/faketimerc
  chroot . sh -c 'ls /usr/lib/*/faketime/libfaketimeMT.so.1' >etc/ld.so.preload
fi

ip link set lo up
ip link add eth0 type veth peer name "$LINK" netns "/proc/$FABRIC/ns/net"
nsenter --target "$FABRIC" --net ip link set "$LINK" master fabric up
ip address add "$ADDRESS/20" dev eth0
ip link set eth0 up
ip route add default via 10.132.0.1

# Debian's smallest system has no systemd, and Google's machines have one.
# shellcheck disable=SC2016  # its own argument
printf '#!/bin/sh\n[ "$1" != poweroff ] || kill -PWR 1\n' >usr/local/bin/systemctl
chmod 755 usr/local/bin/systemctl

if [ -n "$DRIVER" ]; then
  mount -t tmpfs tmpfs sys/bus
  mkdir -p sys/bus/pci/devices/0000:00:04.0
  echo 0x10de >sys/bus/pci/devices/0000:00:04.0/vendor
  seconds="$(cut -d. -f1 /proc/uptime)"
  # shellcheck disable=SC2016  # the program's own
  printf '#!/bin/sh\n[ "$(cut -d. -f1 /proc/uptime)" -ge %s ] && echo %s\n' \
    "$((seconds + DRIVER_AFTER_S))" "$DRIVER" >usr/local/bin/nvidia-smi
  chmod 755 usr/local/bin/nvidia-smi
fi

mkdir -m 700 tmp/metadata-scripts .host
cp "$FOLDER/startup-script" tmp/metadata-scripts/startup-script
cp "$FOLDER/init.sh" run/init.sh
chmod 700 tmp/metadata-scripts/startup-script
pivot_root . .host
exec chroot . /usr/bin/env -i /bin/bash /run/init.sh ${CONTAINER:+container}
