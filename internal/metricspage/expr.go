package metricspage

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Check says what is wrong with a PromQL expression: metrics that the page does not list,
// and selectors of labels or of listed values that they do not have. recorded are the
// names of recording rules. It knows names and selectors and no more; promtool knows
// whether the expression is one.
func Check(page map[string]Metric, recorded []string, expr string) []string {
	selector := regexp.MustCompile(`\b(sentinelproxy_\w+|process_\w+|go_\w+|\w+:\w+:\w+)(\{[^}]*\})?`)
	matcher := regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"`)
	var wrong []string
	for _, s := range selector.FindAllStringSubmatch(expr, -1) {
		name := s[1]
		if slices.Contains(recorded, name) {
			continue
		}
		m, listed := lookUp(page, name)
		if !listed {
			wrong = append(wrong, name+" is neither in docs/metrics.md nor recorded")
			continue
		}
		for _, l := range matcher.FindAllStringSubmatch(s[2], -1) {
			if slices.Contains([]string{"job", "instance", "master_name", "le"}, l[1]) {
				continue
			}
			values, has := m.Labels[l[1]]
			if !has {
				wrong = append(wrong, fmt.Sprintf("%s has no label %s", name, l[1]))
			}
			for v := range strings.SplitSeq(l[3], "|") {
				if values != nil && !slices.Contains(values, v) {
					wrong = append(wrong, fmt.Sprintf("%s has no %s=%q", name, l[1], v))
				}
			}
		}
	}
	return wrong
}

// lookUp finds a metric by the name of one of its series: those of a histogram have more.
func lookUp(page map[string]Metric, name string) (Metric, bool) {
	if m, ok := page[name]; ok {
		return m, m.Type != "histogram"
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if m, ok := page[strings.TrimSuffix(name, suffix)]; ok && strings.HasSuffix(name, suffix) {
			return m, m.Type == "histogram"
		}
	}
	return Metric{}, false
}
