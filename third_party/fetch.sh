#!/bin/sh
# Brings in the libraries that this machine's distribution does not have, or has too old: llhttp, yyjson, hiredis.
# They become Meson subprojects in third_party/<name>/, built statically. Nothing is installed and no root is needed.
#
# What comes from where: files of a newer release of the same distribution, through the mirrors that apt is configured
# with (this script names none). First by pinned name and SHA-256; where that file is gone, because a newer revision has
# replaced it, or where the distribution is not Debian, apt itself is asked for the newer release's current version,
# with a private state directory, and checks it by the archive's signature. Downloads are kept in
# ${XDG_CACHE_HOME:-~/.cache}/assay/third_party for other checkouts. Says nothing when there is nothing to do.
#
# usage: third_party/fetch.sh [llhttp|yyjson|hiredis]…   (default: all)
set -eu
cd "$(dirname "$0")"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/assay/third_party
# shellcheck source=/dev/null
. /etc/os-release
tmp=''
state=''

die() {
	echo "third_party/fetch.sh: $*" >&2
	exit 1
}

# The mirrors that serve this machine's own release, as apt knows them.
mirrors() {
	apt-get --print-uris update 2>/dev/null | sed -n "s#^'\(.*/\)dists/$VERSION_CODENAME/InRelease'.*#\1#p"
}

# has NAME FILE: the cache holds FILE and it is what it was when it was checked.
has() {
	(cd "$cache" && sha256sum -c --status "$1.sha256" 2>/dev/null && test -e "$2")
}

# keep NAME FILE: moves the checked FILE into the cache, its sum beside it.
keep() {
	(cd "$(dirname "$2")" && sha256sum "$(basename "$2")") >"$tmp/$1.sha256"
	mv "$2" "$cache/" && mv "$tmp/$1.sha256" "$cache/"
}

# download URI FILE HASH: FILE comes to lie in $tmp. HASH is written as apt does, "SHA256:…".
download() {
	/usr/lib/apt/apt-helper download-file "$1" "$tmp/$2" "$3" >"$tmp/log" 2>&1
}

# pinned PATH SHA256: downloads a file from below a mirror's pool/main.
pinned() {
	for mirror in $(mirrors); do
		! download "${mirror}pool/main/$1" "${1##*/}" "SHA256:$2" || return 0
	done
	return 1
}

# The release of the same distribution that is new enough for all three.
newer_suite() {
	case $ID in
	debian) echo trixie ;;
	ubuntu) echo resolute ;;
	*) die "knows Debian and Ubuntu only; install llhttp >= 9, yyjson >= 0.10 and hiredis >= 1.2 with their .pc files" ;;
	esac
}

# Gives apt a state directory of its own that knows only the newer release.
newer_state() {
	suite=$(newer_suite)
	mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
	: >"$state/status"
	keyring=/usr/share/keyrings/$ID-archive-keyring.gpg
	signed=; [ ! -e "$keyring" ] || signed="[signed-by=$keyring] "
	components=main; [ "$ID" != ubuntu ] || components='main universe'
	for mirror in $(mirrors); do
		printf 'deb %s\ndeb-src %s\n' "$signed$mirror $suite $components" "$signed$mirror $suite $components"
	done >"$state/sources.list"
	[ -s "$state/sources.list" ] || die "apt has no mirror of $VERSION_CODENAME configured"
	cat >"$state/apt.conf" <<-END
		Dir::State "$state";
		Dir::State::lists "$state/lists";
		Dir::State::status "$state/status";
		Dir::Cache "$state/cache";
		Dir::Etc::sourcelist "$state/sources.list";
		Dir::Etc::sourceparts "/dev/null";
		APT::Sandbox::User "$(id -un)";
		Acquire::Languages "none";
	END
	APT_CONFIG=$state/apt.conf apt-get -q update >"$tmp/log" 2>&1 && : >"$state/updated"
}

# newer GLOB ARGUMENTS: downloads the file matching GLOB that apt-get ARGUMENTS would, of the newer release.
newer() {
	glob=$1
	shift
	[ -e "$state/updated" ] || newer_state || return 1
	APT_CONFIG=$state/apt.conf apt-get -q --print-uris "$@" >"$tmp/uris" 2>"$tmp/log" || return 1
	# Lines are: 'URI' file size hash. The hashes are those of the signed index.
	while read -r uri file _ hash; do
		# shellcheck disable=SC2254 # the glob is meant as one
		case $file in $glob)
			uri=${uri#\'}
			download "${uri%\'}" "$file" "$hash"
			return
			;;
		esac
	done <"$tmp/uris"
	return 1
}

# get NAME GLOB PATH SHA256 ARGUMENTS: sets $file to the cached file of NAME, whose name matches GLOB. PATH and SHA256
# are the pinned one, ARGUMENTS what apt-get is asked for otherwise.
get() {
	name=$1 glob=$2 path=$3 sum=$4
	shift 4
	file=$(sed -n 's/^[0-9a-f]*  //p' "$cache/$name.sha256" 2>/dev/null || :)
	if [ -z "$file" ] || ! has "$name" "$file"; then
		echo "fetching $name ..."
		if { [ "$ID" = debian ] && [ "$sum" ] && pinned "$path" "$sum"; } || newer "$glob" "$@"; then
			# shellcheck disable=SC2086 # the glob is meant to expand
			set -- "$tmp"/$glob
			[ -e "$1" ] || die "apt brought no $glob for $name"
			file=${1##*/}
			keep "$name" "$1"
		else
			cat "$tmp/log" >&2
			die "no mirror gave $name, neither the pinned file nor a current version; is the network up?"
		fi
	fi
	file=$cache/$file
}

# put NAME VERSION: makes the unpacked $tmp/NAME the subproject third_party/NAME.
put() {
	echo "$2" >"$tmp/$1/VERSION"
	cp "packagefiles/$1/meson.build" "$tmp/$1/"
	# The cache may lie on another file system; only a complete copy takes the name.
	rm -rf "./$1" ".$1.new"
	cp -R "$tmp/$1" ".$1.new"
	mv ".$1.new" "$1"
}

# wanted NAME PKGCONFIG VERSION: the system lacks the library and the subproject is not there yet, or is older than
# its build file.
wanted() {
	! pkg-config --exists "$2 >= $3" 2>/dev/null || return 1
	! cmp -s "packagefiles/$1/meson.build" "$1/meson.build"
}

# The version in a Debian file's name: what stands after the first _, up to Debian's own additions.
version_of() {
	basename "$1" | sed 's/^[^_]*_//; s/[^0-9.].*//; s/\.$//'
}

fetch_llhttp() {
	arch=$(dpkg --print-architecture)
	case $arch in
	amd64) sum=c018069b22f5d53ac630bdc360d6c8bc7df78626cfb22276cbfb280aa64ac4b6 ;;
	arm64) sum=7415055a32bf90e71b63782876792a7ac10c0163b14625d2e735ed151d970361 ;;
	*) sum= ;;
	esac
	get "llhttp-$arch" 'libllhttp-dev_*.deb' \
		"n/node-undici/libllhttp-dev_9.2.1~7.3.0+dfsg1+~cs24.12.11-1_$arch.deb" "$sum" download libllhttp-dev
	mkdir -p "$tmp/llhttp/lib" "$tmp/deb"
	dpkg-deb -x "$file" "$tmp/deb"
	mv "$tmp/deb/usr/include" "$tmp/llhttp/"
	mv "$tmp"/deb/usr/lib/*/libllhttp.a "$tmp/llhttp/lib/"
	put llhttp "$(version_of "$file")"
}

# fetch_source NAME PATH SHA256: a library that is built here from upstream's tarball as the distribution carries it.
fetch_source() {
	get "$1" "$1_*.orig.tar.*" "$2" "$3" --download-only source "$1"
	mkdir "$tmp/$1"
	tar -x -f "$file" -C "$tmp/$1" --strip-components=1
	put "$1" "$(version_of "$file")"
}

fetch() {
	case $1 in
	llhttp) fetch_llhttp ;;
	yyjson) fetch_source yyjson y/yyjson/yyjson_0.10.0+ds.orig.tar.xz \
		ae6fde69a193e10afab426ef13f113d6903446405f9db9ee98bfb572bd6c961a ;;
	hiredis) fetch_source hiredis h/hiredis/hiredis_1.2.0.orig.tar.gz \
		82ad632d31ee05da13b537c124f819eb88e18851d9cb0c30ae0552084811588c ;;
	esac
}

main() {
	list=
	for name; do
		case $name in
		llhttp) ! wanted llhttp libllhttp 9 || list="$list llhttp" ;;
		yyjson) ! wanted yyjson yyjson 0.10 || list="$list yyjson" ;;
		hiredis) ! wanted hiredis hiredis 1.2 || list="$list hiredis" ;;
		*) die "does not know $name" ;;
		esac
	done
	[ "$list" ] || return 0
	mkdir -p "$cache"
	exec 9>"$cache/lock"
	flock 9 # other checkouts may be fetching
	tmp=$(mktemp -d "$cache/tmp.XXXXXX")
	state=$tmp/apt
	trap 'rm -rf "$tmp"' EXIT
	trap 'exit 1' HUP INT TERM
	for library in $list; do
		fetch "$library"
	done
}

[ $# -gt 0 ] || set -- llhttp yyjson hiredis
main "$@"
