// Package proof takes single events, and whole logs, to where no log is: to
// auditors, and to other people's verifiers.
//
// Evidence holds one event, the hashes that lead from it to the root of its
// epoch's Merkle tree, and a checkpoint that the node signed over that root.
// Check needs nothing but the node's public key. Export writes each epoch in the
// form of C2SP tlog-tiles, which tools for transparency logs read.
//
// It promises that Prove and Export verify the whole log first and make nothing
// of one that does not verify; that Check refuses evidence that differs from
// what was signed in one bit, whatever the bytes are; and that a directory of an
// export holds a checkpoint only once all that the checkpoint covers is there.
//
// It does not promise that the log was not put back to an earlier state or made
// anew with the node's key before the proof was made: for that, prove against a
// checkpoint that was kept elsewhere, and give it to Check as well. A key that
// comes with the evidence or the export proves nothing.
//
// The caller verifies where the public key comes from.
package proof
