// Package node is the first process of the lab's node, and the way into it.
//
// It promises a node of private namespaces: a root file system of its own, in
// which the machine's programs and home directories are seen and its /etc, /var
// and /run are not touched; a network without an uplink; and daemons that live
// until they are told to stop. When the first process ends, which it does when
// its time is over, when its caller is gone or when a daemon keeps dying,
// everything in the node ends with it.
//
// It does not protect the machine from what runs in the node: a lab is started
// by root, and devices, /sys, /tmp and home directories are the machine's.
//
// The caller writes a Spec, starts the program nodeinit in new namespaces (see
// package lab) and speaks to it through its control socket.
package node
