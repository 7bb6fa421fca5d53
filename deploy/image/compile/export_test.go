package compile

// Inspect is the check of one built program.
func Inspect(s *Source, t Target, path string) (Binary, error) { return s.inspect(t, "program", path) }
