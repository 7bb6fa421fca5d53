// Package notices collects the licences of what a binary is linked from.
//
// It promises that every module of which a linked package comes has a licence
// file, and that its text is known as a licence that lets the binary be given
// away; anything else is an error that names the module. Where a licence asks for
// it, the notices say where the unchanged source is. It reads the texts
// that come with the sources and recognises them by their words; it gives no
// legal advice, and does not read the headers of source files.
package notices
