package config

import (
	"slices"
	"strings"
)

// environ returns the SENTINELPROXY_ variables that are set. An empty one
// counts as not set, as a compose file's ${X:-} leaves it.
func environ(list []string) map[string]string {
	vars := map[string]string{}
	for _, kv := range list {
		name, v, ok := strings.Cut(kv, "=")
		if ok && v != "" && strings.HasPrefix(name, envPrefix) {
			vars[name] = v
		}
	}
	return vars
}

// strangers returns variables that look like misspelt settings, sorted. By themselves
// they are worth a warning. Others with our prefix are no mistake: Kubernetes sets SENTINELPROXY_PORT and its kin in
// every pod beside a Service named sentinelproxy.
func strangers(vars map[string]string) []Mistake {
	var known []string
	for _, s := range settings() {
		known = append(known, s.env())
	}
	known = append(known, envPrefix+"CONFIG")
	var found []Mistake
	for name := range vars {
		if slices.Contains(known, name) || isKubernetes(name) {
			continue
		}
		// The prefix is right in all of them: compare what follows it.
		rest := make([]string, len(known))
		for i, k := range known {
			rest[i] = strings.TrimPrefix(k, envPrefix)
		}
		if n := nearest(strings.TrimPrefix(name, envPrefix), rest); n != "" {
			found = append(found, Mistake{Origin{Key: name}, "is no setting and is ignored; did you mean " + envPrefix + n + "?"})
		}
	}
	slices.SortFunc(found, func(a, b Mistake) int { return strings.Compare(a.Origin.Key, b.Origin.Key) })
	return found
}

// isKubernetes reports whether a variable is one that Kubernetes makes of a
// Service named sentinelproxy.
func isKubernetes(name string) bool {
	rest := strings.TrimPrefix(name, envPrefix)
	return rest == "PORT" || strings.HasPrefix(rest, "PORT_") || strings.HasPrefix(rest, "SERVICE_")
}
