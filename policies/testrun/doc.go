// Package testrun runs the tests of a policy bundle: Rego tests beside its
// checks, and fixtures in YAML below tests/, each an input and the decision that
// is expected of it.
//
// It promises that a test sees what the engine sees: the library, the schema of the
// input, built-ins that are pure; a Rego test no settings but those that it states,
// a fixture the whole bundle. Every fixture is decided in each phase that it names,
// and everything is evaluated with and without OPA's rule index; a difference is a
// failure. What a fixture says is read strictly, and errors name file, line and
// column.
//
// It does not sign, build or put anything in force, and a test that passes proves
// what it says and no more: coverage tells which lines of the checks no test
// evaluates. Files are read within bounds and links are not followed, but tests are
// code: run those of strangers as you would run their programs, with a timeout.
//
// A caller hands over a directory to Run and prints the Report.
package testrun
