//go:build tools

// Package kube pins the Kubernetes API server and the etcd that the scenarios run against.
//
// Nothing here is linked into Outrigger: tests/setup.sh builds the programs named below into target/test-tools, and
// copies the CRDs of the Gateway API from the folder of its module.
package kube

import (
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "sigs.k8s.io/gateway-api/apis/v1"
)
