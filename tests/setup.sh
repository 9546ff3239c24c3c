#!/bin/sh
# Installs the peers that the scenarios talk to, by package name: apt, pip, npm, go. Idempotent and quiet.
# `cargo test` runs without it too and then prints what it skips. Everything but the Debian packages lands
# under target/, so `cargo clean` removes it.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../target}
mkdir -p "$target"
target=$(cd "$target" && pwd)

say() { printf 'setup: %s\n' "$*" >&2; }

# Debian packages, only those whose program is missing.
missing=
want() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || missing="$missing $2"; }
want curl curl
want openssl openssl
want nginx nginx-light
want nghttp nghttp2-client
want nghttpd nghttp2-server
want chromium chromium
want node nodejs
want npm npm
want go golang-go
want ip iproute2
want prlimit util-linux
want nft nftables
want promtool prometheus
want iptables-nft-restore iptables
want setpriv util-linux
want java default-jre-headless
[ -r /usr/share/java/zookeeper.jar ] || missing="$missing libzookeeper-java"
python3 -c 'import venv, ensurepip' >/dev/null 2>&1 || missing="$missing python3-venv"
if [ -n "$missing" ]; then
    say "installing:$missing"
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    DEBIAN_FRONTEND=noninteractive $sudo apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

# Python peers: a venv that is made again when the list changes.
venv=$target/test-venv
if ! cmp -s "$here/peers/requirements.txt" "$venv/.requirements"; then
    say "python peers"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/peers/requirements.txt"
    "$venv/bin/python" -m grpc_tools.protoc -I "$here/peers" --python_out="$venv" --grpc_python_out="$venv" \
        "$here/peers/echo.proto"
    cp "$here/peers/requirements.txt" "$venv/.requirements"
fi

# Node peers.
node=$target/test-node
if ! cmp -s "$here/peers/package.json" "$node/package.json"; then
    say "node peers"
    rm -rf "$node"
    mkdir -p "$node"
    cp "$here/peers/package.json" "$node/package.json"
    (cd "$node" && npm install --silent --no-audit --no-fund >/dev/null) || { rm -rf "$node"; exit 1; }
fi

# h2spec, pinned by commit in tests/tools/go.mod.
mkdir -p "$target/test-tools"
if [ ! -x "$target/test-tools/h2spec" ] || [ "$here/tools/go.mod" -nt "$target/test-tools/h2spec" ]; then
    say "h2spec"
    (cd "$here/tools" && go build -o "$target/test-tools/h2spec" github.com/summerwind/h2spec/cmd/h2spec)
fi

# The Kubernetes API server, etcd and the CRDs of the Gateway API, pinned in tests/kube/go.mod: five to six minutes of
# CPU the first time, none when nothing changed.
kube=$target/test-tools/.kube
if ! cmp -s "$here/kube/go.mod" "$kube" || [ ! -x "$target/test-tools/kube-apiserver" ] || [ ! -x "$target/test-tools/etcd" ]; then
    say "kube-apiserver, etcd, Gateway API"
    (
        cd "$here/kube"
        export CGO_ENABLED=0 GOFLAGS="-buildvcs=false ${GOFLAGS:-}"
        version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
        minor=${version#v1.}
        x=k8s.io/component-base/version
        go build -trimpath -o "$target/test-tools/kube-apiserver" \
            -ldflags "-s -w -X $x.gitVersion=$version -X $x.gitMajor=1 -X $x.gitMinor=${minor%%.*}" \
            k8s.io/kubernetes/cmd/kube-apiserver
        go build -trimpath -o "$target/test-tools/etcd" -ldflags '-s -w' go.etcd.io/etcd/server/v3
        go mod download sigs.k8s.io/gateway-api
        rm -rf "$target/test-tools/gateway-api"
        mkdir "$target/test-tools/gateway-api"
        # Read and written, not copied: files of the module cache are read-only.
        for file in "$(go list -m -f '{{.Dir}}' sigs.k8s.io/gateway-api)"/config/crd/standard/*.yaml; do
            cat "$file" >"$target/test-tools/gateway-api/${file##*/}"
        done
    )
    cp "$here/kube/go.mod" "$kube"
fi

# Helm, pinned in tests/helm/go.mod, apart from the API server's module: the two need not agree on a release of Kubernetes.
helm=$target/test-tools/.helm
if ! cmp -s "$here/helm/go.mod" "$helm" || [ ! -x "$target/test-tools/helm" ]; then
    say "helm"
    (
        cd "$here/helm"
        export CGO_ENABLED=0 GOFLAGS="-buildvcs=false ${GOFLAGS:-}"
        version=$(go list -m -f '{{.Version}}' helm.sh/helm/v3)
        minor=$(go list -m -f '{{.Version}}' k8s.io/client-go)
        minor=${minor#v0.}
        x=helm.sh/helm/v3
        # The release of Kubernetes that `helm template` and `helm lint` suppose: v1.20 where nobody says one.
        flags="-s -w -X $x/internal/version.version=$version"
        for package in chartutil lint/rules; do
            flags="$flags -X $x/pkg/$package.k8sVersionMajor=1 -X $x/pkg/$package.k8sVersionMinor=${minor%%.*}"
        done
        go build -trimpath -o "$target/test-tools/helm" -ldflags "$flags" helm.sh/helm/v3/cmd/helm
    )
    cp "$here/helm/go.mod" "$helm"
fi

# The CRDs of the Prometheus operator, which the chart's monitors and alerts are checked against: files of its Go module, by their sum.
operator=$target/test-tools/prometheus-operator
release=v0.85.0 sum=h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=
if [ ! -f "$operator/.$release" ]; then
    say "CRDs of the Prometheus operator"
    rm -rf "$operator"
    mkdir "$operator"
    (cd "$operator" && go mod download -json "github.com/prometheus-operator/prometheus-operator@$release" >module.json)
    grep -q "\"Sum\": \"$sum\"" "$operator/module.json" || { say "another prometheus-operator than $sum"; exit 1; }
    dir=$(sed -n 's/^\t"Dir": "\(.*\)",$/\1/p' "$operator/module.json")
    for kind in podmonitors prometheusrules servicemonitors; do
        cat "$dir/example/prometheus-operator-crd/monitoring.coreos.com_$kind.yaml" >"$operator/$kind.yaml"
    done
    touch "$operator/.$release"
fi
say "done"
