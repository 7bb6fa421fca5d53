package store

import (
	"bytes"
	"encoding/json"
	"fmt"
)

const trialsFile = "loading.json"

// maxTrials bounds what is written down: one runs, and the compiler may have others.
const maxTrials = 16

// Trials are what a process has begun to load and not ended with, and how many times in
// a row. A process that finds one was killed over it, or at the same time by chance. They
// are named by a word for what it is, a space, and its digest, sha256:<hex>.
type Trials map[string]int

// Trials reads them: fs.ErrNotExist where all have ended.
func (s *Store) Trials() (Trials, error) {
	var t Trials
	text, err := s.read(trialsFile, maxStateBytes)
	if err != nil {
		return nil, err
	}
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&t); err != nil || t == nil || len(t) > maxTrials {
		return nil, fmt.Errorf("read policy trials: %w", ErrDamaged)
	}
	return t, nil
}

// KeepTrials writes them down, before the loading begins. None leave no file, which is
// not made durable: after a crash of the machine one may be counted that was none.
func (s *Store) KeepTrials(t Trials) error {
	if len(t) == 0 {
		if err := s.dir.Remove(trialsFile); err != nil && !Absent(err) {
			return fmt.Errorf("remove policy trials: %w", err)
		}
		return nil
	}
	if len(t) > maxTrials {
		return fmt.Errorf("write policy trials: more than %d", maxTrials)
	}
	text, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("write policy trials: %w", err)
	}
	return s.write(trialsFile, text)
}
