package policies

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// allowedBuiltins is the list of what policy may call: functions of their
// arguments, cheap, and without a way out of the process. Left out on purpose:
// time.now_ns, rand and uuid (a decision must be replayable), http and net
// lookups, opa.runtime (reads the environment), walk and graph (read the whole
// input past the checks on single fields), io.jwt and crypto keys (no secret is
// here to be checked), yaml, json.patch, trace and rego.* (not needed, large);
// bits.lsh, numbers.range and product, since one call with a large argument takes
// gigabytes, or time that no budget interrupts.
func allowedBuiltins() []string {
	return []string{
		"abs", "and", "array.concat", "array.flatten", "array.reverse", "array.slice", "assign",
		"base64.decode", "base64.encode", "base64.is_valid", "bits.and", "bits.negate", "bits.or", "bits.rsh", "bits.xor",
		"ceil", "concat", "contains", "count", "crypto.sha256", "div", "endswith", "eq", "equal", "floor", "format_int",
		"glob.match", "glob.quote_meta", "gt", "gte", "hex.decode", "hex.encode", "indexof", "indexof_n", "internal.member_2", "internal.member_3",
		"internal.template_string", "intersection", "is_array", "is_boolean", "is_null", "is_number", "is_object", "is_set", "is_string",
		"json.filter", "json.is_valid", "json.marshal", "json.remove", "json.unmarshal", "lower", "lt", "lte", "max", "min", "minus", "mul", "neq",
		"net.cidr_contains", "net.cidr_intersects", "net.cidr_is_valid",
		"object.filter", "object.get", "object.keys", "object.remove", "object.subset", "object.union", "object.union_n", "or",
		"plus", "regex.is_valid", "regex.match", "regex.replace", "regex.split", "rem", "replace", "round",
		"semver.compare", "semver.is_valid", "sort", "split", "sprintf", "startswith", "strings.any_prefix_match", "strings.any_suffix_match",
		"strings.count", "strings.replace_n", "strings.reverse", "strings.split_n", "substring", "sum",
		"time.add_date", "time.clock", "time.date", "time.diff", "time.format", "time.parse_duration_ns", "time.parse_ns", "time.parse_rfc3339_ns", "time.weekday",
		"to_number", "trim", "trim_left", "trim_prefix", "trim_right", "trim_space", "trim_suffix", "type_name",
		"union", "units.parse", "units.parse_bytes", "upper", "uri.is_valid", "uri.parse",
	}
}

// capabilities returns what this engine's compiler knows. Tests of policies may
// also print, trace, count and have cases.
func capabilities(forTests bool) *ast.Capabilities {
	allowed := allowedBuiltins()
	if forTests {
		allowed = append(allowed, "internal.print", "internal.test_case", "numbers.range", "print", "trace")
	}
	c := ast.CapabilitiesForThisVersion()
	c.Builtins = slices.DeleteFunc(slices.Clone(c.Builtins), func(b *ast.Builtin) bool {
		return b.Nondeterministic || !slices.Contains(allowed, b.Name)
	})
	// Nil would mean any host, for schemas with a remote reference.
	c.AllowNet = []string{}
	return c
}
