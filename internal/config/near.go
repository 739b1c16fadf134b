package config

import "strings"

// nearest returns the candidate that word was most likely meant to be, or ""
// if none is close: at most one edit in three letters, and at least a third
// of it right.
func nearest(word string, candidates []string) string {
	if len(word) > 64 { // no setting is nearly as long; distance is quadratic
		return ""
	}
	fold := func(s string) string { return strings.NewReplacer("-", "_", ".", "_").Replace(strings.ToLower(s)) }
	best, least := "", len(word)/3+1
	for _, c := range candidates {
		if d := distance(fold(word), fold(c)); d <= least && d < len(c) && (best == "" || d < least) {
			best, least = c, d
		}
	}
	return best
}

// Nearest returns the candidate that word was most likely meant to be, or "".
func Nearest(word string, candidates []string) string { return nearest(word, candidates) }

// didYouMean returns "; did you mean X?" or "".
func didYouMean(word string, candidates []string) string {
	if n := nearest(word, candidates); n != "" {
		return "; did you mean " + n + "?"
	}
	return ""
}

// distance counts the edits from a to b: insert, delete, change, and swap of
// two neighbours (optimal string alignment).
func distance(a, b string) int {
	var before []int // two rows up
	above := make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(above[j+1]+1, row[j]+1, above[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, above = above, row
	}
	return above[len(b)]
}
