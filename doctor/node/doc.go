// Package node gathers what doctor judges of a node.
//
// It promises to change nothing: a volume that is made on trial is mounted nowhere
// and gone at once, sockets are asked what kubelet asks and nothing else, and files
// are read. Whatever is behind a socket or an address has a deadline, and no file is
// read that could block. It reads no secret: neither volumes nor tokens.
//
// Not as root it sees less, and says so in each place. On other systems than Linux
// there is nothing to gather.
package node
