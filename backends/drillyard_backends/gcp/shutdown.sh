#!/usr/bin/env bash
# The machine is being stopped or taken away: the agent hears of it first and gets its time.
pid_file="${TMPDIR:-/run}/drillyard/agent.pid"
pid="$(cat "$pid_file" 2>/dev/null)" || exit 0
kill -TERM "$pid" 2>/dev/null || exit 0
while kill -0 "$pid" 2>/dev/null; do sleep 0.2; done
