package proxy

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestOutbox plays random calls beside a plain slice of all bytes.
func TestOutbox(t *testing.T) {
	w := serving(t).w
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		var o outbox
		var all []byte // from place 0 on
		kept := 0      // nothing before this place was forgotten
		var places []int
		for step := range 400 {
			switch rnd.IntN(6) {
			case 0, 1, 2:
				b := someValue(step, rnd.IntN([...]int{20, bufSize, 3 * bigBuf}[rnd.IntN(3)]))
				places = append(places, len(all))
				all = append(all, b...)
				if len(b) > bigBuf/2 && rnd.IntN(2) == 0 {
					o.adopt(b)
				} else {
					o.add(w, b, rnd.IntN(2) == 0)
				}
			case 3:
				kept += rnd.IntN(len(all) - kept + 1)
				o.forget(w, kept)
			case 4:
				if rnd.IntN(4) == 0 {
					n := kept + rnd.IntN(len(all)-kept+1)
					all = all[:n]
					places = slices.DeleteFunc(places, func(place int) bool { return place >= n })
					o.cut(w, n)
				}
			case 5:
				from := kept + rnd.IntN(len(all)-kept+1)
				to := from + rnd.IntN(len(all)-from+1)
				var got []byte
				for _, b := range o.between(nil, from, to) {
					if len(b) == 0 {
						t.Fatalf("seed %d: an empty piece", seed)
					}
					got = append(got, b...)
				}
				if !bytes.Equal(got, all[from:to]) || !bytes.Equal(o.at(from, to-from), all[from:to]) {
					t.Fatalf("seed %d, step %d: other bytes between %d and %d", seed, step, from, to)
				}
			}
			if o.end != len(all) || o.start > kept {
				t.Fatalf("seed %d, step %d: %d to %d are kept; want %d to %d", seed, step, o.start, o.end, kept, len(all))
			}
		}
		for i, place := range places { // what was added in one call lies in one piece
			if i+1 < len(places) && place >= kept && places[i+1] <= o.end && len(o.between(nil, place, places[i+1])) > 1 {
				t.Fatalf("seed %d: a command is cut", seed)
			}
		}
		o.forget(w, o.end)
		if len(o.chunks) > 0 {
			t.Errorf("seed %d: %d chunks are kept of nothing", seed, len(o.chunks))
		}
	}
}
