package proxy

import "slices"

// outbox holds the bytes of a pipe's commands in chunks, from the oldest on that is not
// both sent and answered. What is answered is forgotten chunk by chunk, so nothing is
// ever moved. A place is counted from the first byte that the pipe was ever given: it
// stays the same whatever is forgotten. The zero value is ready.
type outbox struct {
	chunks [][]byte // none of them empty
	start  int      // place of the oldest byte kept
	end    int      // place behind the last one
}

// add copies b, into one chunk. A chunk has bigBuf, but for the first of an outbox that
// is little, as one of a pipe that serves one client: there may be thousands.
func (o *outbox) add(w *worker, b []byte, little bool) { //nolint:revive // what kind of outbox it is
	last := len(o.chunks) - 1
	if last < 0 || len(b) > cap(o.chunks[last])-len(o.chunks[last]) {
		if len(b) == 0 {
			return
		}
		size := bigBuf
		if little && last < 0 && len(b) <= bufSize {
			size = bufSize
		}
		o.chunks = append(o.chunks, w.takeBufOf(max(size, len(b))))
		last++
	}
	c := o.chunks[last]
	o.chunks[last] = c[:len(c)+copy(c[len(c):cap(c)], b)]
	o.end += len(b)
}

// adopt makes b a chunk: it is the outbox's from now on.
func (o *outbox) adopt(b []byte) {
	o.chunks = append(o.chunks, b)
	o.end += len(b)
}

// at returns the n bytes at a place. They stay as they are until they are forgotten.
func (o *outbox) at(place, n int) []byte {
	off := place - o.start
	for i, c := range o.chunks {
		if off >= len(c) {
			off -= len(c)
			continue
		}
		if off+n <= len(c) {
			return c[off : off+n]
		}
		// More than one add: only what is streamed is looked at so.
		return slices.Concat(append([][]byte{c[off:]}, o.chunks[i+1:]...)...)[:n]
	}
	return nil
}

// between appends to bufs what lies between two places.
func (o *outbox) between(bufs [][]byte, from, to int) [][]byte {
	pos := o.start
	for _, c := range o.chunks {
		if lo, hi := max(0, from-pos), min(len(c), to-pos); lo < hi {
			bufs = append(bufs, c[lo:hi])
		}
		pos += len(c)
	}
	return bufs
}

// forget gives up the chunks that lie before a place.
func (o *outbox) forget(w *worker, place int) {
	if len(o.chunks) > 0 && o.start+len(o.chunks[0]) <= place {
		o.forgetFirst(w, place)
	}
}

// forgetFirst is forget where there is something to give up.
func (o *outbox) forgetFirst(w *worker, place int) {
	gone := 0
	for gone < len(o.chunks) && o.start+len(o.chunks[gone]) <= place {
		o.start += len(o.chunks[gone])
		w.giveBuf(o.chunks[gone])
		gone++
	}
	o.chunks = slices.Delete(o.chunks, 0, gone)
}

// cut drops what lies behind a place that is not before the oldest byte kept.
func (o *outbox) cut(w *worker, place int) {
	for last := len(o.chunks) - 1; o.end > place; last-- {
		c := o.chunks[last]
		if left := len(c) - (o.end - place); left > 0 {
			o.chunks[last], o.end = c[:left], place
			return
		}
		o.end -= len(c)
		w.giveBuf(c)
		o.chunks[last] = nil
		o.chunks = o.chunks[:last]
	}
}
