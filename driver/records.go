package driver

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/portcullis-csi/portcullis/hardening"
)

// record is what the driver remembers of one mounted volume: no secret and no
// token. It is a hint: the mount table alone says what is mounted.
type record struct {
	PodUID           string          `json:"podUid"`
	Volume           string          `json:"volume"`
	Namespace        string          `json:"namespace"`
	Pod              string          `json:"pod"`
	ServiceAccount   string          `json:"serviceAccount,omitempty"`
	Class            string          `json:"class,omitempty"`
	ClassUID         string          `json:"classUid,omitempty"`
	ClassGeneration  int64           `json:"classGeneration,omitempty"`
	Provider         string          `json:"provider,omitempty"`
	TokenVerified    bool            `json:"tokenVerified,omitempty"` // when policy last decided
	ParametersSHA256 string          `json:"parametersSha256,omitempty"`
	Versions         []objectVersion `json:"versions,omitempty"`
	FetchedAt        time.Time       `json:"fetchedAt,omitzero"`
	DueAt            time.Time       `json:"dueAt,omitzero"`
	DecisionID       string          `json:"decisionId,omitempty"`
	Failures         int             `json:"failures,omitempty"`  // refreshes that failed in a row
	DecidedAt        time.Time       `json:"decidedAt,omitzero"`  // the last verdict, allow or deny
	Undecided        bool            `json:"undecided,omitempty"` // policy was asked since, and reached none
	Excused          time.Duration   `json:"excused,omitempty"`   // since FetchedAt, that counts for no time to live
	TTLMissed        bool            `json:"ttlMissed,omitempty"` // and that is recorded
	Denial           denial          `json:"denial,omitzero"`
	Bundle           string          `json:"bundle,omitempty"`   // digest of the policy of the last verdict
	Library          string          `json:"library,omitempty"`  // and of the library with it
	Redecide         bool            `json:"redecide,omitempty"` // kubelet's next call decides, whether a fetch is due or not
	// Restored marks what an earlier process wrote, which may have died while
	// it refreshed the volume.
	Restored bool `json:"-"`
}

// objectVersion is a provider's object id and version.
type objectVersion struct {
	ID      string `json:"id"`
	Version string `json:"version"`
}

func (r record) key() targetKey { return targetKey{r.PodUID, r.Volume} }

const (
	recordsFile = "volumes.db"
	recordsNext = recordsFile + ".next"
	// recordsDelay gathers the writes of a burst into one. A crash loses at
	// most this much of a hint.
	recordsDelay = 200 * time.Millisecond
	// recordsRetry is how long a full disk is left alone.
	recordsRetry = 2 * time.Second
	// maxRecordsBytes bounds what is read back: a node has some hundred volumes.
	maxRecordsBytes = 32 << 20
)

// Records is volumes.db: in memory for reading, on disk behind the calls, so
// that no mount waits for it. The file is small, written whole and renamed
// into place: a database that maps its file into memory panics on a damaged
// page, in goroutines where nobody can recover, and a hint must never end the
// one process that can unmount. Close must be called.
type Records struct {
	dir    *os.Root
	logger *slog.Logger

	mu    sync.Mutex
	all   map[targetKey]record
	timer *time.Timer // runs while there is something to write
	// failing is set while the disk takes nothing, and said once.
	failing, closed bool
	retired         bool // the file is gone, and stays so

	writing sync.Mutex // one flush at a time
}

// OpenRecords reads <dir>/volumes.db. Where that is damaged it is set aside
// with a warning, and start-up rebuilds the records from the mount table. Where
// even that does not work, it is written over or stays as it is.
func OpenRecords(dir string, logger *slog.Logger) (*Records, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open directory of volume records: %w", err)
	}
	r := &Records{dir: root, logger: logger}
	if r.all, err = readRecords(root); err == nil {
		return r, nil
	}
	logger.Warn("volume records are not readable, starting empty", slog.String(keyPath, recordsFile), slog.Any(keyError, err))
	r.all = map[targetKey]record{}
	if err := root.Rename(recordsFile, recordsFile+".unreadable"); err != nil {
		logger.Warn("unreadable volume records not set aside", slog.String(keyPath, recordsFile), slog.Any(keyError, err))
	}
	return r, nil
}

// readRecords reads a file of one line of JSON a record, after a line with the
// SHA-256 of those.
func readRecords(dir *os.Root) (map[targetKey]record, error) {
	all := map[targetKey]record{}
	info, err := dir.Lstat(recordsFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return all, nil
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("not a regular file") // opening a FIFO waits for a writer (fifo(7))
	}
	f, err := dir.Open(recordsFile)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(f, maxRecordsBytes))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	sum, lines, _ := bytes.Cut(content, []byte("\n"))
	if string(sum) != digestOf(lines) {
		return nil, errors.New("the checksum does not match")
	}
	for line := range bytes.Lines(lines) {
		var rec record
		if err := json.Unmarshal(line, &rec); err != nil {
			return nil, fmt.Errorf("decode record: %w", err)
		}
		rec.Restored = true
		all[rec.key()] = rec
	}
	return all, nil
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// get returns the record of a target.
func (r *Records) get(k targetKey) (record, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec, ok := r.all[k]
	return rec, ok
}

// put remembers a volume; the disk follows.
func (r *Records) put(rec record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all[rec.key()] = rec
	r.touch()
}

// remove forgets a volume; the disk follows.
func (r *Records) remove(k targetKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.all, k)
	r.touch()
}

// keys returns the targets that are remembered.
func (r *Records) keys() []targetKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := make([]targetKey, 0, len(r.all))
	for k := range r.all {
		keys = append(keys, k)
	}
	return keys
}

// survey counts the volumes for the brake of revocations.
func (r *Records) survey(now time.Time) survey {
	r.mu.Lock()
	defer r.mu.Unlock()
	var s survey
	for _, rec := range r.all {
		s.add(rec.Denial, now)
	}
	return s
}

// touch makes the disk follow soon. The caller holds the lock.
func (r *Records) touch() {
	if r.timer == nil && !r.retired {
		r.timer = time.AfterFunc(recordsDelay, r.flush)
	}
}

func (r *Records) flush() {
	r.writing.Lock()
	defer r.writing.Unlock()
	r.mu.Lock()
	if r.timer == nil {
		r.mu.Unlock()
		return
	}
	r.timer = nil
	all := slices.Collect(maps.Values(r.all))
	r.mu.Unlock()
	r.settle(len(all), r.write(all))
}

// settle tries again after an error. A full disk costs a hint, never a mount or
// an unmount.
func (r *Records) settle(n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && !r.failing {
		r.logger.Warn("volume records not written, trying again", slog.Int(keyCount, n), slog.Any(keyError, err))
	}
	r.failing = err != nil
	if r.failing && !r.closed && r.timer == nil {
		r.timer = time.AfterFunc(recordsRetry, r.flush)
	}
}

// write replaces the file without fsync: after a power cut it may be gone or
// damaged, which OpenRecords copes with, and the mounts are gone too.
func (r *Records) write(all []record) error {
	var lines bytes.Buffer
	encoder := json.NewEncoder(&lines)
	encoder.SetEscapeHTML(false) // six bytes for one would let a provider outgrow maxRecordsBytes
	for _, rec := range all {
		if err := encoder.Encode(rec); err != nil {
			return err
		}
	}
	content := slices.Concat([]byte(digestOf(lines.Bytes())+"\n"), lines.Bytes())
	if err := r.dir.WriteFile(recordsNext, content, 0o600); err != nil {
		return err
	}
	hardening.FaultPoint("records/written")
	if err := r.dir.Rename(recordsNext, recordsFile); err != nil {
		return err
	}
	hardening.FaultPoint("records/renamed")
	return nil
}

// Retire removes volumes.db where it remembers no volume, for a node that the
// plugin may never come back to. One that is remembered although it is no longer
// mounted has an event owed to it by the next start; and so has the brake its
// memory, which is these records and nothing else.
func (r *Records) Retire() error {
	r.writing.Lock()
	defer r.writing.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) > 0 {
		return nil
	}
	r.retired = true
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil // a flush that has begun finds nothing to do
	}
	for _, name := range []string{recordsFile, recordsNext} { // the other where a plugin was killed while it wrote
		if err := r.dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	return nil
}

// Close writes what is outstanding.
func (r *Records) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.flush()
	return r.dir.Close()
}
