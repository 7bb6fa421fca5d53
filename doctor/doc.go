// Package doctor judges whether a node and a cluster are as Portcullis needs
// them, and says what to do where they are not.
//
// It promises that judging has no side effect and asks nobody: Run is a function
// of the Facts, which packages doctor/node and doctor/cluster gather. Every
// result has the stable id of its check, and every result that is not OK names a
// remedy. Text from outside is made printable and bounded, and no fact holds a
// secret: tokens are not gathered, and of ConfigMaps only the floor of policy. What
// could not be looked at is never OK.
//
// It does not promise that a node is safe where every check is OK: it looks at
// what can be seen from outside the plugin, at one moment. Whether the audit log
// is unaltered is the question of portcullis audit verify.
//
// The caller gathers Facts first, each part within a deadline of its own, and
// leaves out the part that is not there.
package doctor
