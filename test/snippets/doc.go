// Package snippets runs what documents tell their readers to type: every fenced
// block of a document is extracted, and either written to a file, run, compared
// with what the block before it printed, or accounted for by another test.
//
// The info string of a block says which, after the language:
//
//	file=PATH      the block is the content of this file, below the reader's directory
//	append=PATH    the block is added to the end of this file
//	run            the reader types it; it has to succeed
//	run exit=N     the reader types it; it has to end with this code
//	run root       the same, and it needs root
//	run cluster    the same, and it needs a cluster
//	run within=T   the reader types it again for so long, until it is as shown
//	output         what the block before it printed; a line ... stands for any lines
//	sample=WHAT    a sample that another test reads
//
// A block that says none of these is an error: nothing in a document that is
// run may be there to look at only.
package snippets
