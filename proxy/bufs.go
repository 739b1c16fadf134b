package proxy

import "slices"

// The buffers that sessions share: an idle client keeps none.
const (
	bufSize  = 1 << 10
	maxSpare = 1 << 10
	// Pieces of what is long, and large ones for single commands and replies.
	bigBuf    = 64 << 10
	maxPieces = 256
	bigKeep   = 2 << 20  // one
	bigsKeep  = 16 << 20 // all
)

func (w *worker) takeBuf() []byte {
	if n := len(w.bufs); n > 0 {
		b := w.bufs[n-1]
		w.bufs = w.bufs[:n-1]
		return b
	}
	return make([]byte, 0, bufSize)
}

// takeBufOf returns a buffer with room for n bytes, or near to it.
func (w *worker) takeBufOf(n int) []byte {
	if n <= bigBuf/2 {
		return w.takeBuf()
	}
	if n <= bigBuf {
		if k := len(w.pieces); k > 0 {
			b := w.pieces[k-1]
			w.pieces = w.pieces[:k-1]
			w.unused.pieces = min(w.unused.pieces, k-1)
			return b
		}
		return make([]byte, 0, bigBuf)
	}
	for i, b := range slices.Backward(w.bigs) {
		if cap(b) >= n && cap(b) <= 4*n {
			w.bigs = slices.Delete(w.bigs, i, i+1)
			w.bigBytes -= cap(b)
			w.unused.bigs = min(w.unused.bigs, len(w.bigs))
			return b
		}
	}
	return make([]byte, 0, n+n/4)
}

// leastRoom is how much must be missing of a command or reply to be read by itself.
// With less, what comes behind it is better read in the same call.
const leastRoom = 16 << 10

// roomBehind returns where to read what in lacks of need bytes; nil: it has no room, or
// lacks too little.
func roomBehind(in []byte, need int) []byte {
	if len(in) == 0 || need-len(in) < leastRoom {
		return nil
	}
	return in[len(in):min(need, cap(in))]
}

// joined is append, for b that may have been read to where it belongs.
func joined(in, b []byte) []byte {
	n := len(in) + len(b)
	if len(b) > 0 && n <= cap(in) && &in[:n][len(in)] == &b[0] {
		return in[:n]
	}
	return append(in, b...)
}

// giveBuf takes back a buffer that nobody holds any more. What is beyond the limits is
// left to the garbage collector; of the large ones those unused for longest, which may
// be of a size that nobody wants any more.
func (w *worker) giveBuf(b []byte) {
	switch c := cap(b); {
	case c < bufSize:
	case c == bigBuf:
		if len(w.pieces) < maxPieces {
			w.pieces = append(w.pieces, b[:0])
		}
	case c > bigBuf:
		if c > bigKeep {
			return
		}
		w.bigs = append(w.bigs, b[:0])
		w.bigBytes += c
		gone := 0
		for left := w.bigBytes; left > bigsKeep; gone++ {
			left -= cap(w.bigs[gone])
		}
		w.dropBigs(gone)
	case len(w.bufs) < maxSpare:
		w.bufs = append(w.bufs, b[:0])
	}
}

// dropBigs leaves the first n of bigs to the garbage collector.
func (w *worker) dropBigs(n int) {
	for _, b := range w.bigs[:n] {
		w.bigBytes -= cap(b)
	}
	w.bigs = slices.Delete(w.bigs, 0, n)
	w.unused.bigs = min(w.unused.bigs, len(w.bigs))
}

// trimBufs gives up half of the buffers over bufSize that nobody has wanted since it was
// last called: what a burst needed is not kept for ever.
func (w *worker) trimBufs() {
	w.pieces = slices.Delete(w.pieces, 0, (w.unused.pieces+1)/2)
	w.dropBigs((w.unused.bigs + 1) / 2)
	w.unused.pieces, w.unused.bigs = len(w.pieces), len(w.bigs)
}
