package policies

import "time"

// MonitorEnd returns when the bundle's monitor mode ends, as its author wrote it;
// zero where it has none. Denials that are monitored until then are denials after.
func (e *Engine) MonitorEnd() time.Time {
	if e == nil || e.monitorEndNS == 0 {
		return time.Time{}
	}
	return time.Unix(0, e.monitorEndNS).UTC()
}
