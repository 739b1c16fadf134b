package validate

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const manifests = "../kubernetes"

// overlays are what users apply.
func overlays(tb testing.TB) []string {
	tb.Helper()
	dirs, err := filepath.Glob(manifests + "/overlays/*")
	if err != nil || len(dirs) < 2 {
		tb.Fatalf("overlays: %v, %v", dirs, err)
	}
	return dirs
}

// objects is what one overlay builds, by kind and name.
type objects map[string]runtime.Object

// build runs kustomize and reads its output as an API server does that refuses unknown
// and repeated fields.
func build(tb testing.TB, dir string) objects {
	tb.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		tb.Fatal(err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		appsv1.AddToScheme, corev1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme, monitoringv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			tb.Fatal(err)
		}
	}
	s := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
	out := objects{}
	for _, r := range built.Resources() {
		b, err := r.AsYAML()
		if err != nil {
			tb.Fatal(err)
		}
		obj, kind, err := s.Decode(b, nil, nil)
		if err != nil {
			tb.Fatalf("%s %s: %v\n%s", r.GetKind(), r.GetName(), err, b)
		}
		key := kind.Kind + " " + r.GetName()
		if out[key] != nil {
			tb.Errorf("%s is there twice", key)
		}
		out[key] = obj
		if kind.Kind != "Namespace" && r.GetNamespace() == "" {
			tb.Errorf("%s is in no namespace", key)
		}
	}
	return out
}

// get returns the object of that kind and name, which must be there.
func get[T runtime.Object](tb testing.TB, o objects, key string) T {
	tb.Helper()
	obj, ok := o[key].(T)
	if !ok {
		tb.Fatalf("%s is missing", key)
	}
	return obj
}

// The strict reader is strict: without that the tests below prove little.
func TestBuildIsStrict(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := appsv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	s := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
	for _, spec := range []string{"{replica: 1}", "{replicas: 1, replicas: 2}", "{replicas: one}"} {
		if _, _, err := s.Decode([]byte("apiVersion: apps/v1\nkind: Deployment\nspec: "+spec), nil, nil); err == nil {
			t.Errorf("a Deployment with spec %s is taken", spec)
		}
	}
}

// Every file belongs to something that is built.
func TestNoStrayManifest(t *testing.T) {
	used := map[string]bool{}
	var files []string
	err := filepath.WalkDir(manifests, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if d.Name() != "kustomization.yaml" {
			files = append(files, p)
			return nil
		}
		b, err := os.ReadFile(p)
		for word := range strings.FieldsFuncSeq(string(b), func(r rune) bool { return strings.ContainsRune(" \n[]{},", r) }) {
			used[path.Join(path.Dir(p), word)] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !used[f] {
			t.Errorf("%s is in no kustomization", f)
		}
	}
	if len(files) < 8 {
		t.Errorf("%d files found; are the manifests elsewhere now?", len(files))
	}
}

// mounted reads files as a container sees them: from the ConfigMaps and Secrets that the
// overlay builds, or from more, by the Secret's name.
type mounted struct {
	objects objects
	pod     corev1.PodSpec
	c       corev1.Container
	more    map[string]map[string][]byte
	read    map[string]bool // Secrets, by name, that something was read from
}

func (m mounted) readFile(p string) ([]byte, error) {
	for _, vm := range m.c.VolumeMounts {
		name, ok := strings.CutPrefix(p, strings.TrimSuffix(vm.MountPath, "/")+"/")
		if !ok {
			continue
		}
		for _, v := range m.pod.Volumes {
			switch {
			case v.Name != vm.Name:
			case v.ConfigMap != nil:
				cm, ok := m.objects["ConfigMap "+v.ConfigMap.Name].(*corev1.ConfigMap)
				if !ok {
					return nil, fmt.Errorf("%s: there is no ConfigMap %s", p, v.ConfigMap.Name)
				}
				if s, ok := cm.Data[name]; ok {
					return []byte(s), nil
				}
			case v.Secret != nil:
				m.read[v.Secret.SecretName] = true
				data := m.more[v.Secret.SecretName]
				if s, ok := m.objects["Secret "+v.Secret.SecretName].(*corev1.Secret); ok {
					data = s.Data
				}
				if b, ok := data[name]; ok {
					return b, nil
				}
			}
		}
	}
	return nil, &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
}

// portOf returns what a probe's port means on a container.
func portOf(c corev1.Container, name string) int32 {
	for _, p := range c.Ports {
		if p.Name == name || fmt.Sprint(p.ContainerPort) == name {
			return p.ContainerPort
		}
	}
	return 0
}

// tolerance is how many seconds a probe may fail without a consequence.
func tolerance(p *corev1.Probe) int32 {
	return cmp.Or(p.PeriodSeconds, 10) * cmp.Or(p.FailureThreshold, 3)
}
