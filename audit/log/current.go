package log

// Epoch returns the number of the epoch that takes leaves now, and how many
// bytes it may have.
func (l *Log) Epoch() (number, limit int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.active.number, l.c.EpochBytes
}
