// Package docs holds no code, only tests that keep the repository's word: the
// documents say what the code says, and the budgets and habits of
// CONTRIBUTING.md that no linter knows are kept.
//
// It promises that a renamed make target, a new dependency without a reason,
// an import that the table in ARCHITECTURE.md does not show, a test named in
// SECURITY.md that does not exist, or a file that grew too long fails here. It
// does not judge prose. There is nothing to do first; with -update the tests
// rewrite the tables that are generated.
package docs
