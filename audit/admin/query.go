package admin

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
)

// Parameters of /v1/audit/follow.
const (
	paramEpoch = "epoch"
	paramIndex = "index"
	paramCount = "count"
)

var (
	shaPattern    = regexp.MustCompile(`^[0-9a-f]{64}$`)
	digestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

// span is which events somebody asks for.
type span struct {
	from  Position // epoch 0: the oldest that is kept
	count int64    // then end; 0: go on for ever
}

// parseSpan reads a query. What is misspelt, doubled or no plain number is
// refused: whoever asks for less than all must not get all.
func parseSpan(raw string) (s span, err error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return span{}, errors.New("the query cannot be read")
	}
	for name, list := range values {
		var to *int64
		switch name {
		case paramEpoch:
			to = &s.from.Epoch
		case paramIndex:
			to = &s.from.Index
		case paramCount:
			to = &s.count
		default:
			return span{}, fmt.Errorf("parameter %+q is unknown", clip(name))
		}
		if len(list) != 1 {
			return span{}, fmt.Errorf("parameter %s is given %d times", name, len(list))
		}
		if *to, err = parseNumber(list[0]); err != nil {
			return span{}, fmt.Errorf("parameter %s %w", name, err)
		}
	}
	switch {
	case values.Has(paramEpoch) && s.from.Epoch == 0:
		return span{}, errors.New("parameter epoch counts from 1")
	case values.Has(paramIndex) && s.from.Epoch == 0:
		return span{}, errors.New("parameter index needs epoch")
	case values.Has(paramCount) && s.count == 0:
		return span{}, errors.New("parameter count counts from 1")
	}
	return s, nil
}

// parseNumber reads what FormatInt writes of a number that is not negative, and
// nothing else.
func parseNumber(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != text {
		return 0, fmt.Errorf("%+q is not a number", clip(text))
	}
	return n, nil
}

// query is what parseSpan reads.
func (s span) query() string {
	values := url.Values{}
	if s.from.Epoch > 0 {
		values.Set(paramEpoch, strconv.FormatInt(s.from.Epoch, 10))
		values.Set(paramIndex, strconv.FormatInt(s.from.Index, 10))
	}
	if s.count > 0 {
		values.Set(paramCount, strconv.FormatInt(s.count, 10))
	}
	return values.Encode()
}

func clip(text string) string {
	const most = 64
	return text[:min(len(text), most)]
}
