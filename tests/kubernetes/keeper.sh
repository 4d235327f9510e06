#!/bin/sh
# Keeps the namespaces that a private cluster lives in, and clears up after them. All of the cluster's processes are below
# the one that is PID 1 in there: when that ends, the kernel ends them all, and with the last of them go their mounts, their
# interfaces and routes. What is left then, control groups and the directory, goes here.
#
# PID 1 ends when its standard input does, so that nothing outlives a starter that was killed. It says `ready` when the
# rest may be started.
#
# usage: keeper.sh DIRECTORY PROGRAMS CGROUP
set -eu

# Everything below is PID 1 of the new namespaces.
inside() {
	directory=$1 programs=$2
	mount --make-rshared /
	# kubelet sets these for the whole machine unless it finds them set; here it does.
	while read -r name value; do
		file=$directory/sysctl/$(echo "$name" | tr / .)
		echo "$value" >"$file"
		mount --bind "$file" "/proc/sys/$name"
	done <<-END
		vm/overcommit_memory 1
		vm/panic_on_oom 0
		kernel/panic 10
		kernel/panic_on_oops 1
		kernel/keys/root_maxkeys 1000000
		kernel/keys/root_maxbytes 25000000
	END
	# The programs' directory may lie below what is hidden next.
	mount --bind "$programs" "$directory/programs"
	# Places that containerd, runc, kubelet and the network plug-ins insist on.
	for place in /run /var/lib /var/log "$directory/etcd"; do
		mount -t tmpfs -o mode=755 tmpfs "$place"
	done
	echo ready
	# Whoever loses its parent in here is reaped by the kernel, since PID 1 does not want to hear of it.
	exec env --ignore-signal=CHLD cat >/dev/null
}

# Empty groups cannot always be removed at once.
remove_groups() {
	tries=0
	while groups=$(find /sys/fs/cgroup -depth -type d \( -name "$1" -o -path "*/$1/*" \)) && [ "$groups" ]; do
		for group in $groups; do
			rmdir "$group" 2>/dev/null || :
		done
		tries=$((tries + 1))
		[ "$tries" -lt 50 ] || return
		sleep 0.1
	done
}

if [ "$1" = --inside ]; then
	shift
	inside "$@"
fi
directory=$1 programs=$2 cgroup=$3
trap '' HUP INT TERM
unshare --mount --propagation private --pid --net --ipc --mount-proc --fork --kill-child -- \
	"$0" --inside "$directory" "$programs" || :
remove_groups "$cgroup"
rm -rf --one-file-system "$directory"
