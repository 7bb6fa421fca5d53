package driver

// Dir is where volumes.db is.
func (r *Records) Dir() string { return r.dir.Name() }

// Flush writes volumes.db now.
func (r *Records) Flush() { r.flush() }
