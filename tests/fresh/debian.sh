#!/bin/sh
# Tries ./dev on a machine as it comes from the installer: makes a system of the suite with debootstrap, clones this
# repository's HEAD into it and runs ./dev there as root. Needs root, debootstrap and about 2 GB under /var/tmp, and
# takes some minutes. The mirror is the one that apt is configured with; FRESH_MIRROR names another, as for Ubuntu, and
# FRESH_OPTIONS gives further options to debootstrap (--keyring, say).
#
# usage: tests/fresh/debian.sh SUITE [COMMAND…]     SUITE: bookworm, trixie, noble
#        COMMAND: what to run in the clone instead of `./dev build`
set -eu
suite=${1?usage: tests/fresh/debian.sh SUITE [COMMAND…]}
shift
[ $# -gt 0 ] || set -- ./dev build
top=$(cd "$(dirname "$0")/../.." && pwd)
[ "$(id -u)" = 0 ] || { echo "needs root" >&2; exit 1; }

base=/var/tmp/assay-fresh-$suite.tar # the bare system is kept for the next time
root=$(mktemp -d "/var/tmp/assay-fresh-$suite.XXXXXX")
chmod 755 "$root"

cleanup() {
	# Everything that was mounted below the root, the deepest first, before anything is removed.
	awk -v root="$root/" 'index($2, root) == 1 { print $2 }' /proc/mounts | sort -r | while read -r mount; do
		umount -l "$mount"
	done
	if grep -q " $root/" /proc/mounts; then
		echo "could not unmount everything below $root; it is left there" >&2
	else
		rm -rf --one-file-system "$root"
	fi
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

mirror=${FRESH_MIRROR-}
if [ -z "$mirror" ]; then
	# shellcheck source=/dev/null
	codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
	mirror=$(apt-get --print-uris update | sed -n "s#^'\(.*/\)dists/$codename/InRelease'.*#\1#p" | head -n 1)
fi

case $suite in
noble) components=main,universe script=gutsy ;;
*) components=main script=$suite ;;
esac
if [ ! -e "$base" ]; then
	# shellcheck disable=SC2086
	debootstrap --variant=minbase --components=$components ${FRESH_OPTIONS-} "$suite" "$root" "$mirror" \
		"/usr/share/debootstrap/scripts/$script" >"$root.log" ||
		{ tail "$root.log"; exit 1; }
	rm "$root.log"
	case $suite in noble)
		echo "deb $mirror $suite-updates main universe" >>"$root/etc/apt/sources.list"
		;;
	esac
	tar -C "$root" -c -f "$base.new" .
	mv "$base.new" "$base"
else
	tar -C "$root" -x -f "$base"
fi

# As in a container: its own /proc, the host's /sys read-only, a few devices.
mount -t proc proc "$root/proc"
mount --rbind --make-rslave /sys "$root/sys"
mount --rbind --make-rslave /dev "$root/dev"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
# How apt gets its files here (a proxy, say) holds in there too, but not its sources.
find /etc/apt/apt.conf.d -type f -name '*proxy*' -exec cp {} "$root/etc/apt/apt.conf.d/" \;

git clone -q "$top" "$root/root/assay"
echo "$suite: $*"
chroot "$root" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 TERM=dumb \
	sh -c 'cd /root/assay && exec "$@"' sh "$@"
echo "$suite: done"
