package validate

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"github.com/sentinelproxy/sentinelproxy/health"
	"github.com/sentinelproxy/sentinelproxy/internal/certtest"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// gateway is one overlay's pod and what is around it.
type gateway struct {
	objects objects
	pod     corev1.PodTemplateSpec
	sidecar corev1.Container // an init container
	main    corev1.Container
	cfg     config.Config // of the sidecar, read as it will
}

func eachGateway(t *testing.T, check func(t *testing.T, g gateway)) {
	t.Helper()
	for _, dir := range overlays(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) { check(t, readGateway(t, dir)) })
	}
}

func readGateway(t *testing.T, dir string) gateway {
	t.Helper()
	g := gateway{objects: build(t, dir)}
	g.pod = get[*appsv1.Deployment](t, g.objects, "Deployment gateway").Spec.Template
	spec := g.pod.Spec
	if len(spec.InitContainers) != 1 || len(spec.Containers) != 1 {
		t.Fatalf("%d init containers and %d containers; want the sidecar and the gateway", len(spec.InitContainers), len(spec.Containers))
	}
	g.sidecar, g.main = spec.InitContainers[0], spec.Containers[0]

	ca := certtest.MustCA(t)
	pair := ca.MustIssue(t, certtest.Leaf{})
	files := mounted{
		objects: g.objects, pod: spec, c: g.sidecar, read: map[string]bool{},
		// What the overlays expect from outside: the keys that docs/kubernetes.md names.
		more: map[string]map[string][]byte{
			"sentinelproxy-passwords": {"redis-password": []byte("a\n"), "sentinel-password": []byte("b\n")},
			"redis-tls":               {"tls.crt": pair.Cert, "tls.key": pair.Key, "ca.crt": ca.PEM},

			"sentinelproxy-admin-token": {"token": []byte("a token of the test\n")},
			"sentinelproxy-admin-tls":   {"tls.crt": pair.Cert, "tls.key": pair.Key, "ca.crt": ca.PEM},
		},
	}
	if g.sidecar.Args[0] != "run" {
		t.Fatalf("the sidecar's arguments are %q; want run first", g.sidecar.Args)
	}
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	flags := config.AddFlags(fs)
	if err := fs.Parse(g.sidecar.Args[1:]); err != nil {
		t.Fatal(err)
	}
	var environ []string
	for _, e := range g.sidecar.Env {
		environ = append(environ, e.Name+"="+e.Value)
	}
	cfg, err := config.Load(config.Sources{Flags: flags, Environ: environ, ReadFile: files.readFile})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range cfg.Warnings {
		t.Errorf("the sidecar warns of its configuration: %s", w)
	}
	g.cfg = cfg

	// Each mounted Secret is of use, and each changes when it does.
	for _, v := range spec.Volumes {
		if v.Secret == nil {
			continue
		}
		if !files.read[v.Secret.SecretName] {
			t.Errorf("nothing is read of the Secret %s", v.Secret.SecretName)
		}
		if m := v.Secret.DefaultMode; m == nil || *m != 0o440 || *spec.SecurityContext.FSGroup != *spec.SecurityContext.RunAsGroup {
			t.Errorf("the Secret %s can't be read by the pod's group alone", v.Secret.SecretName)
		}
	}
	for _, m := range g.sidecar.VolumeMounts {
		if m.SubPath != "" || m.SubPathExpr != "" {
			t.Errorf("%s is mounted by a subPath, which never changes", m.MountPath)
		}
	}
	return g
}

// The sidecar starts first, ends last, and answers the probes it is asked.
func TestSidecar(t *testing.T) {
	eachGateway(t, func(t *testing.T, g gateway) {
		c := g.sidecar
		if c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			t.Error("without restartPolicy: Always the gateway would never start")
		}
		host, port, err := net.SplitHostPort(g.cfg.Admin.Probes)
		if err != nil {
			t.Fatalf("admin.probes %q: %v", g.cfg.Admin.Probes, err)
		}
		if host != "" {
			t.Errorf("admin.probes listens on %q, where the kubelet does not come", host)
		}
		for path, p := range map[string]*corev1.Probe{"/startupz": c.StartupProbe, "/livez": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
			if p == nil || p.HTTPGet == nil || p.HTTPGet.Path != path {
				t.Fatalf("the probe of %s is %v", path, p)
			}
			if got := portOf(c, p.HTTPGet.Port.String()); strconv.Itoa(int(got)) != port {
				t.Errorf("%s is asked at port %d; the sidecar answers at %s", path, got, port)
			}
			if code := ask(t, forProbes, path); code != http.StatusOK {
				t.Errorf("the sidecar answers %s with %d", path, code)
			}
		}
		if code := ask(t, forProbes, "/metrics"); code != http.StatusNotFound {
			t.Errorf("the sidecar answers the kubelet, and everybody, /metrics with %d", code)
		}
		if code := ask(t, forProbes, "/nonsense"); code != http.StatusNotFound {
			t.Errorf("the sidecar answers /nonsense with %d", code)
		}
		// A loop counts as standing still after 5 s; a failover takes down-after, some
		// seconds, and the longest the sidecar holds by itself is 40 s.
		if s := tolerance(c.LivenessProbe); s < 15 {
			t.Errorf("the sidecar is restarted after %d s", s)
		}
		if s := tolerance(c.ReadinessProbe); s < 20 {
			t.Errorf("every gateway is unready after %d s of a failover", s)
		}

		spec := g.pod.Spec
		const shutdown = 20 * time.Second // the gateway's own; the demo's takes 10 s
		need := shutdown + g.cfg.DrainTimeout + 5*time.Second
		if g.main.Lifecycle == nil || g.main.Lifecycle.PreStop == nil || g.main.Lifecycle.PreStop.Sleep == nil {
			t.Error("the gateway ends before the endpoints have forgotten it")
		} else {
			need += time.Duration(g.main.Lifecycle.PreStop.Sleep.Seconds) * time.Second
		}
		if have := time.Duration(*spec.TerminationGracePeriodSeconds) * time.Second; have < need {
			t.Errorf("terminationGracePeriodSeconds is %v; want %v for preStop, the gateway, drain_timeout and 5s", have, need)
		}
	})
}

// readyGroup is a master that is served.
type readyGroup struct{}

func (readyGroup) Name() string                     { return "mymaster" }
func (readyGroup) Checks() []topology.Check         { return []topology.Check{{Name: "route", OK: true}} }
func (readyGroup) Status(context.Context) any       { return nil }
func (readyGroup) Clients(context.Context, int) any { return nil }

// forProbes and forAll put a listener where the sidecar's own server has it.
func forProbes(o *health.Options, ln net.Listener) { o.Probes = ln }
func forAll(o *health.Options, ln net.Listener)    { o.Listener = ln }

// ask asks the sidecar's own server, as the kubelet and Prometheus do: by an address.
func ask(t *testing.T, at func(*health.Options, net.Listener), path string) int {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := health.Options{Groups: []health.Group{readyGroup{}}, Gatherer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)}
	at(&o, ln)
	s, err := health.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ln.Addr().String()+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// The gateway talks to the sidecar, and nobody else can.
func TestGatewayUsesSidecar(t *testing.T) {
	eachGateway(t, func(t *testing.T, g gateway) {
		env := map[string]string{}
		for _, e := range g.main.Env {
			env[e.Name] = e.Value
		}
		listen := g.cfg.Masters[0].Listen
		if len(listen) != 1 || listen[0].String() != env["GATEWAY_REDIS"] {
			t.Errorf("the gateway connects to %q; the sidecar listens on %v", env["GATEWAY_REDIS"], listen)
		}
		if host, _, _ := net.SplitHostPort(listen[0].Address); g.cfg.Masters[0].Auth == config.AuthNone && host != "127.0.0.1" {
			t.Errorf("whoever reaches %s uses the sidecar's account", listen[0])
		}
		for _, p := range []*corev1.Probe{g.main.LivenessProbe, g.main.ReadinessProbe} {
			if p == nil || portOf(g.main, p.HTTPGet.Port.String()) != 8080 {
				t.Errorf("the gateway's probe is %v", p)
			}
		}
		if v := g.cfg.Masters[0].StateFile; v != "" && !slices.ContainsFunc(g.sidecar.VolumeMounts, func(m corev1.VolumeMount) bool {
			return m.MountPath == filepath.Dir(v) && !m.ReadOnly
		}) {
			t.Errorf("state_file %s is on no volume that can be written", v)
		}
	})
}

// The pod fits the restricted Pod Security Standard, and says what it needs.
func TestPodIsConfined(t *testing.T) {
	e, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	eachGateway(t, func(t *testing.T, g gateway) {
		r := policy.AggregateCheckResults(e.EvaluatePod(level, &g.pod.ObjectMeta, &g.pod.Spec))
		if !r.Allowed {
			t.Errorf("not restricted: %s", r.ForbiddenDetail())
		}
		loose := g.pod.Spec.DeepCopy()
		loose.InitContainers[0].SecurityContext = nil
		if policy.AggregateCheckResults(e.EvaluatePod(level, &g.pod.ObjectMeta, loose)).Allowed {
			t.Error("the check sees nothing of the sidecar")
		}
		if g.pod.Spec.AutomountServiceAccountToken == nil || *g.pod.Spec.AutomountServiceAccountToken {
			t.Error("the pod has a token of the API server")
		}
		for _, c := range []corev1.Container{g.sidecar, g.main} {
			sc := c.SecurityContext
			if sc.ReadOnlyRootFilesystem == nil || !*sc.ReadOnlyRootFilesystem {
				t.Errorf("%s can write to its root", c.Name)
			}
			if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
				t.Errorf("%s does not say what it needs: %v", c.Name, c.Resources)
			}
			if _, tag, ok := strings.Cut(c.Image, ":"); !ok || tag == "latest" {
				t.Errorf("%s has the image %q; want a version", c.Name, c.Image)
			}
		}
	})
}

// What selects the pods selects them.
func TestSelectors(t *testing.T) {
	eachGateway(t, func(t *testing.T, g gateway) {
		d := get[*appsv1.Deployment](t, g.objects, "Deployment gateway")
		pdb := get[*policyv1.PodDisruptionBudget](t, g.objects, "PodDisruptionBudget gateway")
		np := get[*networkingv1.NetworkPolicy](t, g.objects, "NetworkPolicy gateway")
		svc := get[*corev1.Service](t, g.objects, "Service gateway")
		all := map[string]*metav1.LabelSelector{
			"Deployment": d.Spec.Selector, "PodDisruptionBudget": pdb.Spec.Selector, "NetworkPolicy": &np.Spec.PodSelector,
			"Service": {MatchLabels: svc.Spec.Selector}, "spread": g.pod.Spec.TopologySpreadConstraints[0].LabelSelector,
		}
		if sm, metrics := monitored(t, g); sm != nil {
			all["Service for metrics"] = &metav1.LabelSelector{MatchLabels: metrics.Spec.Selector}
			if sel, err := metav1.LabelSelectorAsSelector(&sm.Spec.Selector); err != nil || sel.Empty() ||
				!sel.Matches(labels.Set(metrics.Labels)) || sel.Matches(labels.Set(svc.Labels)) {
				t.Errorf("the ServiceMonitor selects %v (%v); the Service for metrics has %v, and the gateway's %v", sel, err, metrics.Labels, svc.Labels)
			}
			if metrics.Spec.ClusterIP != corev1.ClusterIPNone || !metrics.Spec.PublishNotReadyAddresses {
				t.Errorf("the Service for metrics is %+v; want one without an address, that lists pods which are not ready", metrics.Spec)
			}
			more := get[*networkingv1.NetworkPolicy](t, g.objects, "NetworkPolicy sentinelproxy-metrics")
			all["NetworkPolicy for metrics"] = &more.Spec.PodSelector
		}
		for what, s := range all {
			sel, err := metav1.LabelSelectorAsSelector(s)
			if err != nil || sel.Empty() || !sel.Matches(labels.Set(g.pod.Labels)) {
				t.Errorf("%s selects %v (%v); the pods have %v", what, s, err, g.pod.Labels)
			}
		}
		for _, p := range svc.Spec.Ports {
			if portOf(g.main, p.TargetPort.String()) == 0 {
				t.Errorf("the Service leads to the port %s, which the gateway does not have", p.TargetPort.String())
			}
		}
		if d.Spec.Replicas == nil || *d.Spec.Replicas < 2 {
			t.Error("with one replica the disruption budget blocks a node's drain, or the gateway is away")
		}
	})
}

// The network policies let through what the pod does, and name ports that exist.
func TestNetworkPolicies(t *testing.T) {
	eachGateway(t, func(t *testing.T, g gateway) {
		var egress []string
		ingress := map[string]bool{}
		for key, o := range g.objects {
			np, ok := o.(*networkingv1.NetworkPolicy)
			if !ok {
				continue
			}
			for _, r := range np.Spec.Egress {
				for _, p := range r.Ports {
					proto := corev1.ProtocolTCP
					if p.Protocol != nil {
						proto = *p.Protocol
					}
					egress = append(egress, string(proto)+" "+p.Port.String())
				}
				if len(r.To) == 0 {
					t.Errorf("%s: a rule leads everywhere", key)
				}
			}
			for _, r := range np.Spec.Ingress {
				for _, p := range r.Ports {
					if portOf(g.main, p.Port.String()) == 0 && portOf(g.sidecar, p.Port.String()) == 0 {
						t.Errorf("%s lets in to port %s, which nothing has", key, p.Port.String())
					}
					ingress[p.Port.String()] = true
					if p.Port.String() == "admin" && len(r.From) == 0 {
						t.Errorf("%s lets everybody in to the admin server", key)
					}
				}
			}
		}
		want := []string{"UDP 53", "TCP 53", "TCP 6379"}
		for _, s := range g.cfg.Masters[0].Sentinels {
			_, port, err := net.SplitHostPort(string(s))
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, "TCP "+port)
		}
		for _, w := range want {
			if !slices.Contains(egress, w) {
				t.Errorf("%s is not let out; only %q", w, egress)
			}
		}
		sm, metrics := monitored(t, g)
		if sm == nil {
			return
		}
		if len(sm.Spec.Endpoints) == 0 {
			t.Error("Prometheus asks for nothing")
		}
		for _, e := range sm.Spec.Endpoints {
			port := ""
			for _, p := range metrics.Spec.Ports {
				if p.Name == e.Port {
					port = p.TargetPort.String()
				}
			}
			// It sends a token of a Secret that the sidecar reads, and checks its certificate.
			if e.Scheme == nil || !strings.EqualFold(string(*e.Scheme), "https") || e.Authorization == nil || e.Authorization.Credentials == nil ||
				e.TLSConfig == nil || e.TLSConfig.CA.Secret == nil || e.TLSConfig.ServerName == nil || e.TLSConfig.InsecureSkipVerify != nil {
				t.Errorf("Prometheus sends no token, or checks no certificate: %+v", e)
			} else if token, ca := e.Authorization.Credentials, e.TLSConfig.CA.Secret; !mounts(g.pod.Spec, token.Name) || !mounts(g.pod.Spec, ca.Name) ||
				filepath.Base(g.cfg.Admin.TokenFile) != token.Key {
				t.Errorf("Prometheus has the token of %s and the authority of %s, which the sidecar does not mount", token.Name, ca.Name)
			}
			if _, admin, err := net.SplitHostPort(g.cfg.Admin.Listen); err != nil || strconv.Itoa(int(portOf(g.sidecar, port))) != admin {
				t.Errorf("Prometheus asks at port %q; the admin server listens on %s", port, g.cfg.Admin.Listen)
			}
			if portOf(g.sidecar, port) == 0 || !ingress[port] {
				t.Errorf("Prometheus asks at port %q, which the sidecar does not have or the policies do not let in to", port)
			}
			if code := ask(t, forAll, e.Path); code != http.StatusOK {
				t.Errorf("the sidecar answers %s with %d", e.Path, code)
			}
		}
	})
}

// monitored returns how Prometheus finds the sidecars; nil if it does not.
func monitored(t *testing.T, g gateway) (*monitoringv1.ServiceMonitor, *corev1.Service) {
	t.Helper()
	sm, ok := g.objects["ServiceMonitor sentinelproxy"].(*monitoringv1.ServiceMonitor)
	if !ok {
		return nil, nil
	}
	return sm, get[*corev1.Service](t, g.objects, "Service sentinelproxy-metrics")
}

// mounts reports whether a pod has a volume of a Secret.
func mounts(p corev1.PodSpec, secret string) bool {
	return slices.ContainsFunc(p.Volumes, func(v corev1.Volume) bool { return v.Secret != nil && v.Secret.SecretName == secret })
}

// A changed configuration is a rollout, and changed passwords are none.
func TestNames(t *testing.T) {
	eachGateway(t, func(t *testing.T, g gateway) {
		for _, v := range g.pod.Spec.Volumes {
			if v.ConfigMap != nil && !strings.HasPrefix(v.ConfigMap.Name, "sentinelproxy-") {
				t.Errorf("the ConfigMap %s has no hash in its name", v.ConfigMap.Name)
			}
			if v.Secret != nil && !slices.Contains([]string{"sentinelproxy-passwords", "redis-tls", "sentinelproxy-admin-token", "sentinelproxy-admin-tls"}, v.Secret.SecretName) {
				t.Errorf("the Secret %s is not the one that is kept up to date", v.Secret.SecretName)
			}
		}
	})
}
