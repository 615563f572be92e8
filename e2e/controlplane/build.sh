#!/usr/bin/env bash
# Builds, once, the programs of the test control plane from their Go modules and prints the folder that holds them:
# etcd, kube-apiserver, kube-controller-manager, kubectl and helm. Progress goes to standard error, the path to standard output.
#
#   KUBERNETES_VERSION   1.35, 1.36 or 1.37 (the default)
#   WAYLEAVE_CACHE       where built programs are kept; default: wayleave/ in the user's cache directory
#   KUBEBUILDER_ASSETS   a folder that has etcd, kube-apiserver, kube-controller-manager and kubectl: these are not built
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
minor=${KUBERNETES_VERSION:-1.37}
cache=${WAYLEAVE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/wayleave}

say() { printf '%s\n' "control-plane: $*" >&2; }
die() { say "$*"; exit 1; }

[ -d "$here/kubernetes-$minor" ] ||
  die "KUBERNETES_VERSION is '$minor'; available: $(cd "$here" && printf '%s ' kubernetes-* | sed 's/kubernetes-//g')"
command -v go >/dev/null || die "Go is missing: install Go 1.26 or newer (https://go.dev/doc/install)"
command -v sha256sum >/dev/null || die "sha256sum is missing: install coreutils"

# One finished folder for each module, named by what went into it, so that a change of a pin or of Go builds anew.
key_of() { { cat "$here/$1/go.mod" "$here/$1/go.sum" "$here/build.sh"; go version; } | sha256sum | cut -c1-16; }

# build MODULE LDFLAGS NAME=PACKAGE...
build() {
  local module=$1 ldflags=$2; shift 2
  local into=$cache/$module-$(key_of "$module")
  if [ ! -e "$into/.complete" ]; then
    mkdir -p "$into"
    local pair name package started
    for pair in "$@"; do
      name=${pair%%=*} package=${pair#*=}
      started=$SECONDS
      say "building $name from $package (once; minutes on two cores) ..."
      (cd "$here/$module" && GOFLAGS=-mod=readonly CGO_ENABLED=0 go build -trimpath -buildvcs=false \
        -ldflags "-s -w $ldflags" -o "$into/$name" "$package") || die "building $name failed; the Go output is above"
      say "built $name in $((SECONDS - started)) s"
    done
    touch "$into/.complete"
  fi
  printf '%s\n' "$into"
}

stamp() {
  local version=$1 v=k8s.io/component-base/version
  printf -- "-X $v.gitVersion=%s -X $v.gitMajor=1 -X $v.gitMinor=%s -X $v.gitTreeState=clean -X $v.gitCommit=%040d -X $v.buildDate=1970-01-01T00:00:00Z" \
    "$version" "${minor#1.}" 0
}

version=$(sed -n 's|^.*k8s.io/kubernetes \(v[0-9.]*\).*$|\1|p' "$here/kubernetes-$minor/go.mod" | head -n 1)
etcd=$(build etcd "" etcd=go.etcd.io/etcd/server/v3)
helm=$(build helm "" helm=helm.sh/helm/v4/cmd/helm)
if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
  for name in etcd kube-apiserver kubectl kube-controller-manager; do
    [ -x "$KUBEBUILDER_ASSETS/$name" ] || die "KUBEBUILDER_ASSETS is '$KUBEBUILDER_ASSETS', which has no $name: unset it and all is built here"
  done
  kubernetes=$KUBEBUILDER_ASSETS etcd=$KUBEBUILDER_ASSETS
  id=$(printf '%s' "$KUBEBUILDER_ASSETS" | sha256sum | cut -c1-16)
else
  kubernetes=$(build "kubernetes-$minor" "$(stamp "$version")" \
    kube-apiserver=k8s.io/kubernetes/cmd/kube-apiserver \
    kube-controller-manager=k8s.io/kubernetes/cmd/kube-controller-manager \
    kubectl=k8s.io/kubernetes/cmd/kubectl)
  id=$(printf '%s' "$kubernetes $etcd $helm" | sha256sum | cut -c1-16)
fi

bin=$cache/bin-$id
mkdir -p "$bin"
for name in kube-apiserver kube-controller-manager kubectl; do ln -sfn "$kubernetes/$name" "$bin/$name"; done
ln -sfn "$etcd/etcd" "$bin/etcd"
ln -sfn "$helm/helm" "$bin/helm"
printf '%s\n' "$bin"
