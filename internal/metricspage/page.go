// Package metricspage reads docs/metrics.md for the tests that hold it, the code, the
// rules and the dashboard together. Nothing of the product imports it.
package metricspage

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// Metric is one row of the page.
type Metric struct {
	Type, Unit string
	Labels     map[string][]string // beside master_name; with the values that the page lists, nil if it lists none
}

// cells of a row: metric, type, unit, labels, meaning, when it rises.
const cells = 6

// Read returns the page's rows by name, or what is wrong with them.
func Read(path string) (map[string]Metric, error) {
	page, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	label := regexp.MustCompile("`([a-z_]+)`(?: \\(([^)]*)\\))?")
	rows := make(map[string]Metric)
	for line := range strings.Lines(string(page)) {
		row := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range row {
			row[i] = strings.TrimSpace(row[i])
		}
		name := strings.Trim(row[0], "`")
		if !strings.HasPrefix(line, "|") || name == row[0] {
			continue // no row of a table, or its head
		}
		if len(row) != cells {
			return nil, fmt.Errorf("%s: a row of %d cells; want %d", name, len(row), cells)
		}
		if _, twice := rows[name]; twice {
			return nil, fmt.Errorf("%s: listed twice", name)
		}
		m := Metric{Type: row[1], Unit: row[2], Labels: make(map[string][]string)}
		for _, l := range label.FindAllStringSubmatch(row[3], -1) {
			m.Labels[l[1]] = nil
			if l[2] != "" {
				m.Labels[l[1]] = strings.Split(l[2], ", ")
			}
		}
		if m.Unit == "" || row[4] == "" || row[5] == "" {
			return nil, fmt.Errorf("%s: no unit, no meaning or nothing to do", name)
		}
		rows[name] = m
	}
	return rows, nil
}
