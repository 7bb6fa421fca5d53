package audit

// onlyCounted reports whether an event is beyond the share of its namespace, and
// then counts it. Else it is charged.
func (r *Recorder) onlyCounted(n *entry) bool {
	a, refusal := accountOf(n.event)
	if !refusal || r.charged(n, a) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	id := r.tallies.add(refusedOnce(a, n.event, n.rules))
	r.repeats.elsewhere(n.key, n.event.ID)
	if n.event.Type == TypeRotate { // what takes the content away names it as its parent
		r.repeats.standIn(n.event, id)
	}
	return true
}

// charged charges an entry to its account, where its share has room.
func (r *Recorder) charged(n *entry, a account) bool {
	log, ok := r.c.Log.(Epochs)
	if !ok {
		return true
	}
	epoch, limit := log.Epoch()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shares.enter(epoch, limit)
	cost := costOf(n.leaves)
	if !r.shares.take(a, cost) {
		return false
	}
	n.account, n.epoch, n.charge = a, r.shares.epoch, cost
	return true
}

// forget undoes what was done for an event that will not be written. The caller
// holds the lock.
func (r *Recorder) forget(n *entry) {
	r.repeats.drop(n.key, n.event.ID)
	r.attempts.drop(n.attempt, n.event.ID)
	if n.charge > 0 {
		r.shares.giveBack(n.account, n.epoch, n.charge)
		n.charge = 0
	}
}

// tellCounts owes the counts of windows that have ended and of refusals that
// were not listed, or all of them. Those of a namespace beyond its share are
// counted with the latter. While too much is owed already, they go on counting.
func (r *Recorder) tellCounts(all bool) {
	now := r.c.Clock()
	r.mu.Lock()
	windows, failures := r.repeats.close(now, all), r.attempts.close(now, all)
	r.mu.Unlock()
	for _, w := range windows {
		r.tellRepeats(w)
	}
	for _, e := range failures {
		r.oweCount(e)
	}
	if !all && r.ordinary.full() {
		return
	}
	r.mu.Lock()
	counts := r.tallies.tell(now, all)
	r.mu.Unlock()
	for _, e := range counts {
		r.oweCount(e)
	}
}

func (r *Recorder) tellRepeats(w *window) {
	e := r.finish(w.counted())
	leaves, err := r.leaves(e)
	if err != nil {
		return
	}
	n := newEntry(e, "", leaves)
	a, refusal := accountOf(w.event)
	if !refusal || r.charged(n, a) {
		r.owe(n)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tallies.add(refused{
		account: a, count: w.count, first: w.first, last: w.last,
		severity: w.event.Severity, reason: w.event.Reason, rules: w.rules,
	})
}

// oweCount is Owe for what counting itself finds to say, also at the end.
func (r *Recorder) oweCount(e Event) {
	e = r.finish(e)
	if leaves, err := r.leaves(e); err == nil {
		r.owe(newEntry(e, "", leaves))
	}
}
