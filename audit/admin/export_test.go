package admin

// ParseSpan reads a query.
func ParseSpan(raw string) (from Position, count int64, err error) {
	s, err := parseSpan(raw)
	return s.from, s.count, err
}

// Query is what ParseSpan reads.
func Query(from Position, count int64) string { return span{from, count}.query() }
