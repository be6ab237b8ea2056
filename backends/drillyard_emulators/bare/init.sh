#!/usr/bin/env bash
# The first process of a bare machine. It starts the start-up script as Google's guest agent does: as root, in
# /, with systemd's environment, which has neither HOME nor a locale. It stays when that has ended, as a
# machine does (not with a first argument), until it is told to stop (SIGTERM, as by the power button) or to power off (SIGPWR).
umount -l /.host
rmdir /.host
cd / || exit 1
script="" stopping=""
stop() {
  stopping=yes
  [ -z "$script" ] || kill -TERM -- "-$script" 2>/dev/null
}
trap stop TERM
trap 'exit 0' PWR
# REQUESTS_CA_BUNDLE is the one thing that a real machine has not: Python's requests brings its own list
# of authorities, and the authority of the emulated services is not on it.
setsid /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  INVOCATION_ID=0123456789abcdef0123456789abcdef \
  REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt /tmp/metadata-scripts/startup-script &
script=$!
while :; do
  wait "$script"
  code=$?
  kill -0 "$script" 2>/dev/null || break
done
[ -z "${1:-}" ] || exit "$code" # a container ends with its command
echo "startup-script exit status $code"
until [ -n "$stopping" ]; do
  sleep infinity &
  wait $!
done
kill $! 2>/dev/null
sleep 0.3 # the shutdown script begins at the same moment
others() {
  local place
  for place in /proc/[0-9]*; do
    [ "$place" = /proc/1 ] || return 0
  done
  return 1
}
while others; do
  sleep 0.1
done
