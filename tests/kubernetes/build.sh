#!/bin/sh
# Builds the Kubernetes that development and tests run: API server, controller manager, scheduler and kubelet from the
# source package of Debian 12, and beside them etcd, containerd, runc and what else a node takes, out of its packages.
# Nothing is installed and no root is needed. All comes by the mirrors that apt is configured with (this script names
# none), through a private state directory of apt's, which checks the archive's signature.
#
# What it makes is one directory of programs below ${XDG_CACHE_HOME:-~/.cache}/assay. It takes its name when it is whole,
# so a build that is killed leaves nothing that could be taken for one. Says nothing when there is nothing to do.
#
# usage: build.sh [--where|--possible]
#        --where     prints the directory, whether it is there or not
#        --possible  succeeds where it is there or could be made; else says why not and exits with 77
set -eu
version=1.20.2
recipe=1 # to be raised when what is built changes
cache=${XDG_CACHE_HOME:-$HOME/.cache}/assay
programs=$cache/kubernetes-$version-$recipe
go_packages='golang-1.19-go golang-1.19-src golang-github-modern-go-reflect2-dev'
node_packages='etcd-server containerd runc containernetworking-plugins busybox-static'

possible() {
	[ ! -d "$programs" ] || return 0
	# shellcheck source=/dev/null
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
	[ "$codename" = bookworm ] && command -v apt-get >/dev/null && return
	echo "this distribution has no source package of Kubernetes that is known to build; ASSAY_TEST_KUBECONFIG names a cluster"
	return 77
}

# said TEXT COMMAND…: runs it, its output into the log, and says how long it took. Where it fails the script ends (a
# condition around it would let it go on), and ended() shows why.
said() {
	doing=$1
	shift
	start=$(date +%s)
	"$@" >>"$work/log" 2>&1
	echo "  $doing: $(($(date +%s) - start)) s"
	doing=
}

ended() {
	status=$?
	[ -z "$doing" ] || {
		tail -n 40 "$work/log"
		echo "kubernetes/build.sh: not done: $doing"
	} >&2
	rm -rf "$work"
	exit "$status"
}

# --- what apt brings --------------------------------------------------------------------------------------------------

# Gives apt a state directory that knows this release alone, its sources too.
apt_state() {
	mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial"
	: >"$work/apt/status"
	keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	signed=
	[ ! -e "$keyring" ] || signed="[signed-by=$keyring] "
	apt-get --print-uris update 2>/dev/null | sed -n "s#^'\(.*/\)dists/$codename/InRelease'.*#\1#p" |
		while read -r mirror; do
			printf 'deb %s\ndeb-src %s\n' "$signed$mirror $codename main" "$signed$mirror $codename main"
		done >"$work/apt/sources.list"
	[ -s "$work/apt/sources.list" ] || {
		echo "kubernetes/build.sh: apt has no mirror of $codename configured" >&2
		exit 1
	}
	cat >"$work/apt/apt.conf" <<-END
		Dir::State "$work/apt";
		Dir::State::lists "$work/apt/lists";
		Dir::State::status "$work/apt/status";
		Dir::Cache "$work/apt/cache";
		Dir::Etc::sourcelist "$work/apt/sources.list";
		Dir::Etc::sourceparts "/dev/null";
		APT::Sandbox::User "$(id -un)";
		Acquire::Languages "none";
		Acquire::Retries "3";
	END
	export APT_CONFIG="$work/apt/apt.conf"
}

download() {
	cd "$work/files"
	apt-get -q update
	# shellcheck disable=SC2086 # lists of words
	apt-get -q download $go_packages $node_packages
	apt-get -q --download-only source kubernetes
}

unpack() {
	for package in "$work"/files/*.deb; do
		dpkg-deb -x "$package" "$work/root"
	done
	mkdir -p "$source"
	tar -x -f "$work"/files/kubernetes_*.orig.tar.gz -C "$source" --strip-components=1
	rm -r "$work/files"
}

# --- what is built ----------------------------------------------------------------------------------------------------

# Without modules, from below a GOPATH, as the package's own tree wants it.
go() {
	env GO111MODULE=off GOFLAGS= GOENV=off GOPROXY=off CGO_ENABLED=0 GOROOT="$work/root/usr/lib/go-1.19" \
		GOPATH="$work/gopath" GOCACHE="$work/gocache" "$work/root/usr/lib/go-1.19/bin/go" "$@"
}

mend() {
	cd "$source"
	# The vendored reflect2 1.0.1 walks maps by a layout that Go has changed, and the API server crashes under load; 1.0.2
	# does not.
	rm -r vendor/github.com/modern-go/reflect2
	cp -RL "$work/root/usr/share/gocode/src/github.com/modern-go/reflect2" vendor/github.com/modern-go/
	rm -f vendor/github.com/modern-go/reflect2/*_test.go

	# How many Jobs the controller looks after at a time has no flag in this version.
	sed -i '/^func (o \*JobControllerOptions) AddFlags/,/^}/{/^}/i\
\tfs.Int32Var(\&o.ConcurrentJobSyncs, "concurrent-job-syncs", o.ConcurrentJobSyncs, "jobs looked after at a time")
}' cmd/kube-controller-manager/app/options/jobcontroller.go
	grep -q concurrent-job-syncs cmd/kube-controller-manager/app/options/jobcontroller.go
}

# The tree comes with all its generated code but this.
generate_openapi() {
	cd "$source"
	go build -o "$work/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
	directories=$(grep -rl --include='*.go' '+k8s:openapi-gen=' staging/src/k8s.io pkg cmd plugin |
		grep -v -e '^staging/src/k8s.io/code-generator/' -e '^staging/src/k8s.io/sample-apiserver/' -e zz_generated |
		sed -e 's#/[^/]*$##' -e 's#^staging/src/#k8s.io/kubernetes/vendor/#;t' -e 's#^#k8s.io/kubernetes/#' |
		LC_ALL=C sort -u | paste -s -d ,)
	GO111MODULE=off GOPATH=$work/gopath GOROOT=$work/root/usr/lib/go-1.19 GOCACHE=$work/gocache \
		PATH=$work/root/usr/lib/go-1.19/bin:$PATH "$work/openapi-gen" --logtostderr -i "$directories" \
		-p k8s.io/kubernetes/pkg/generated/openapi -O zz_generated.openapi \
		-h hack/boilerplate/boilerplate.generatego.txt -r "$work/openapi-violations"
}

compile() {
	cd "$source"
	stamp=
	for pair in "gitVersion=v$version" gitMajor=1 gitMinor=20; do
		for package in client-go/pkg component-base; do
			stamp="$stamp -X k8s.io/kubernetes/vendor/k8s.io/$package/version.$pair"
		done
	done
	go build -tags providerless,dockerless -ldflags "-s -w $stamp" -o "$made/$1" "./cmd/$1"
}

collect() {
	mkdir "$made/cni"
	cd "$work/root"
	cp usr/bin/etcd usr/bin/containerd usr/bin/containerd-shim-runc-v2 usr/bin/ctr usr/sbin/runc bin/busybox "$made/"
	cp usr/lib/cni/bridge usr/lib/cni/host-local usr/lib/cni/loopback "$made/cni/"
}

build() {
	mkdir -p "$cache"
	exec 9>"$cache/kubernetes.lock"
	flock 9 # another checkout may be building
	[ ! -d "$programs" ] || return 0
	rm -rf "$cache"/kubernetes-building.* # what a killed build has left
	work=$(mktemp -d "$cache/kubernetes-building.XXXXXX")
	doing=
	trap ended EXIT
	trap 'exit 1' HUP INT TERM
	source=$work/gopath/src/k8s.io/kubernetes
	made=$work/programs
	mkdir -p "$work/files" "$work/root" "$made"

	echo "building Kubernetes $version, once, into $programs"
	apt_state
	said 'fetched the packages and sources' download
	said 'unpacked them' unpack
	said 'mended the sources' mend
	said 'generated the OpenAPI tables' generate_openapi
	for program in kube-apiserver kube-controller-manager kube-scheduler kubelet; do
		said "built $program" compile "$program"
	done
	said 'gathered the programs' collect
	mv -T "$made" "$programs"
}

case ${1-} in
'') possible && build ;;
--where) echo "$programs" ;;
--possible) possible ;;
*) sed -n 's/^# usage: /usage: /p' "$0" >&2; exit 2 ;;
esac
