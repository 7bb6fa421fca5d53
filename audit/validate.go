package audit

import (
	"fmt"
	"reflect"
	"strconv"
	"time"
)

// InvalidError says which field of an event breaks its rule. It is a defect of
// whoever made the event, and it does not repeat the value.
type InvalidError struct {
	Field string // JSON path
	Rule  string
}

// Error names the field and the rule.
func (e *InvalidError) Error() string {
	return fmt.Sprintf("audit event field %s breaks rule %q", e.Field, e.Rule)
}

// Validate returns an *InvalidError unless every string of the event is what
// its field may hold and the fields agree with each other.
func (e Event) Validate() error {
	if err := checkStrings(reflect.ValueOf(e), ""); err != nil {
		return err
	}
	for _, check := range []struct {
		holds       bool
		field, rule string
	}{
		{!e.Time.IsZero(), "time", "set"},
		{e.Code != "" && e.Code == codeOf(e.Type, e.Outcome), "code", "of type and outcome"},
		{e.Stage != StageComplete || e.ParentID != "", "parentId", "set where something ends"},
		{e.Stage != StageIntent || e.allowed(), "policy.effect", "allow where something is intended"},
		{e.Part == nil || (e.Part.Number >= 1 && e.Part.Number <= e.Part.Of), "part", "within 1 to of"},
		{e.Count >= 0 && e.Repeated >= 0 && e.DurationMS >= 0, "count", "not negative"},
		{(e.Count > 0) == e.counts(), "count", "of gaps, repeats, counts and mass revocations"},
		{(e.FirstTime != nil && e.LastTime != nil) == (e.Count > 0), "firstTime", "set with count"},
	} {
		if !check.holds {
			return &InvalidError{Field: check.field, Rule: check.rule}
		}
	}
	return nil
}

func (e Event) counts() bool {
	switch e.Type {
	case TypeAuditGap, TypeAuditRepeated, TypeAuditCounted, TypeMassRevocation:
		return true
	default:
		return false
	}
}

func (e Event) allowed() bool {
	return e.Policy != nil && (e.Policy.Effect == EffectAllow || e.Policy.Effect == EffectAllowedMonitored)
}

// checkStrings walks the event, so that a field which is added later is
// checked too, or refused for want of a rule.
func checkStrings(v reflect.Value, path string) error {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return checkStrings(v.Elem(), path)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return nil
		}
		for i := range v.NumField() {
			if !v.Type().Field(i).IsExported() {
				continue // and so is not encoded
			}
			if err := checkField(v.Field(i), v.Type().Field(i), path); err != nil {
				return err
			}
		}
		return nil
	case reflect.Slice:
		for i := range v.Len() {
			if err := checkStrings(v.Index(i), path+"["+strconv.Itoa(i)+"]"); err != nil {
				return err
			}
		}
		return nil
	case reflect.String, reflect.Interface, reflect.Map, reflect.Array:
		return &InvalidError{Field: path, Rule: "checked"}
	default: // numbers and booleans carry no text
		return nil
	}
}

func checkField(v reflect.Value, f reflect.StructField, path string) error {
	name, omit := jsonName(f)
	if path != "" {
		name = path + "." + name
	}
	tag, tagged := f.Tag.Lookup("check")
	if !tagged {
		return checkStrings(v, name)
	}
	r, known := ruleOf(tag)
	switch {
	case !known:
		return &InvalidError{Field: name, Rule: tag}
	case v.Kind() == reflect.String && (v.Len() == 0 && omit || r.matches(v.String())):
		return nil
	case v.Kind() != reflect.Slice || v.Type().Elem().Kind() != reflect.String:
		return &InvalidError{Field: name, Rule: tag}
	}
	for i := range v.Len() {
		if !r.matches(v.Index(i).String()) {
			return &InvalidError{Field: name + "[" + strconv.Itoa(i) + "]", Rule: tag}
		}
	}
	return nil
}
