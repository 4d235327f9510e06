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

# All that is mounted and started in it goes with its namespaces.
trap 'rm -rf --one-file-system "$root"' EXIT
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

cp -L /etc/resolv.conf "$root/etc/resolv.conf"
# How apt gets its files here (a proxy, say) holds in there too, but not its sources.
find /etc/apt/apt.conf.d -type f -name '*proxy*' -exec cp {} "$root/etc/apt/apt.conf.d/" \;

git clone -q "$top" "$root/root/assay"
echo "$suite: $*"
# Not a chroot: in one nobody may make user namespaces, which a sandbox is made of. The root becomes the real one of a
# mount namespace, with a /proc of its own and the host's /sys and /dev.
# shellcheck disable=SC2016 # the inner shell expands
unshare --mount --pid --fork --kill-child --propagation private sh -c '
	set -eu
	root=$1
	shift
	mount --bind "$root" "$root"
	mount -t proc proc "$root/proc"
	mount --rbind /sys "$root/sys"
	mount --rbind /dev "$root/dev"
	cd "$root"
	pivot_root . mnt
	umount -l /mnt
	cd /root/assay
	exec env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 TERM=dumb "$@"' sh "$root" "$@"
echo "$suite: done"
