package proxy

// queue is a FIFO of entries in a ring that grows by doubling and never shrinks:
// windowCommands entries of 32 bytes, or one for each subscription that is renewed.
type queue struct {
	ring []entry
	head int
	n    int
}

func (q *queue) len() int { return q.n }

func (q *queue) push(e entry) {
	if q.n == len(q.ring) {
		q.grow()
	}
	q.ring[(q.head+q.n)&(len(q.ring)-1)] = e
	q.n++
}

func (q *queue) grow() {
	ring := make([]entry, max(16, 2*len(q.ring)))
	for i := range q.n {
		ring[i] = *q.at(i)
	}
	q.ring, q.head = ring, 0
}

func (q *queue) pop() entry {
	slot := &q.ring[q.head]
	e := *slot
	slot.s = nil
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.n--
	return e
}

// unpop puts back what pop has just returned.
func (q *queue) unpop(e entry) {
	q.head = (q.head - 1) & (len(q.ring) - 1)
	q.ring[q.head] = e
	q.n++
}

func (q *queue) at(i int) *entry { return &q.ring[(q.head+i)&(len(q.ring)-1)] }
func (q *queue) front() *entry   { return q.at(0) }
func (q *queue) back() *entry    { return q.at(q.n - 1) }

// truncate drops all but the first n entries.
func (q *queue) truncate(n int) {
	for i := n; i < q.n; i++ {
		*q.at(i) = entry{}
	}
	q.n = n
}
