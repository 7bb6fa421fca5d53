package driver

import "context"

// Dir is where volumes.db is.
func (r *Records) Dir() string { return r.dir.Name() }

// Flush writes volumes.db now.
func (r *Records) Flush() { r.flush() }

// CountForTest makes a metric with this label.
func (d *Driver) CountForTest(label string) { d.metrics.published(context.Background(), label, "") }
