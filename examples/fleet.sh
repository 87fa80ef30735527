#!/bin/sh
# A fleet of workers in this clone. Each takes the most urgent task that it can get, runs COMMAND with
# it (COORDLEDGER_TASK says which), completes it if COMMAND exits with 0, and takes the next one, until
# there is none. The exit code is 0 if all workers' are.
#
#     examples/fleet.sh 4 ./work-on-one-task
set -u

if [ $# -lt 2 ]; then
	echo "usage: fleet.sh WORKERS COMMAND..." >&2
	exit 2
fi
workers=$1
shift

pids=
number=1
while [ "$number" -le "$workers" ]; do
	# A session each: two runs of one session would be one holder. --resume: what a worker held
	# when this machine went down is gone on with.
	coordledger run --next --restart --resume --complete --ttl 10m \
		--session "worker-$number" --report "fleet-$number.jsonl" -- "$@" &
	pids="$pids $!"
	number=$((number + 1))
done

# What ends this script ends the workers; each gives its task back.
trap 'kill $pids 2>/dev/null' INT TERM HUP

code=0
for pid in $pids; do
	wait "$pid" || code=1
done
exit "$code"
