// Package validate holds tests of the files that users copy and that take more than the
// product's own dependencies to check: the Kubernetes manifests and the workflow. It is a
// module of its own so that the product's stays small: make examples.
package validate
