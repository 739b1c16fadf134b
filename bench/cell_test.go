package main

import (
	"slices"
	"testing"
)

func TestParseCells(t *testing.T) {
	get := func(c, p, size int) cell { return cell{c, p, size, cmdGet} }
	set := func(c, p, size int) cell { return cell{c, p, size, cmdSet} }
	for list, want := range map[string][]cell{
		"c50P1/64/get":              {get(50, 1, 64)},
		"c50P1/64":                  {get(50, 1, 64), set(50, 1, 64)},
		"c2P3":                      {get(2, 3, 64), set(2, 3, 64), get(2, 3, 4096), set(2, 3, 4096)},
		"c1P1/4096/set, c1P1/8/set": {set(1, 1, 8), set(1, 1, 4096)}, // grouped by size
		"c1P1/8,c1P1/8/get":         {get(1, 1, 8), set(1, 1, 8)},    // no repetition
	} {
		got, err := parseCells(list)
		if err != nil {
			t.Errorf("parseCells(%q): %v", list, err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("parseCells(%q) = %v; want %v", list, got, want)
		}
	}
}

func TestParseCellsRefuses(t *testing.T) {
	for _, list := range []string{"", "c50", "c50P1/", "c50P1/64/del", "c0P1", "c1P0", "c1P1/0", "c-1P1", "c123456P1", "c1P1,,c1P1", "C1P1"} {
		if got, err := parseCells(list); err == nil {
			t.Errorf("parseCells(%q) = %v; want an error", list, got)
		}
	}
}

func FuzzParseCells(f *testing.F) {
	f.Add(fullCells)
	f.Add(targetCells)
	f.Add("c1P1/8/set,c99999P9999/9999999")
	f.Fuzz(func(t *testing.T, list string) {
		cells, err := parseCells(list)
		if err != nil {
			return
		}
		for _, c := range cells { // what parses prints back the same
			again, err := parseCells(c.String())
			if err != nil || !slices.Equal(again, []cell{c}) {
				t.Errorf("parseCells(%q) = %v, %v; want %v", c.String(), again, err, c)
			}
		}
	})
}
