// Package registration makes kubelet know the plugin, without a
// node-driver-registrar beside it: it serves pluginregistration/v1 on a socket
// in the directory that kubelet watches.
//
// It promises:
//   - The socket is <dir>/<driver>-reg.sock, for root alone, and stays when the
//     process ends: kubelet takes the removal of the file for the removal of the
//     driver, and unmounts nothing any more. Where there is nothing to unmount,
//     the caller takes it back with Registrar.Withdraw.
//   - A socket that vanished, with its directory or alone, is back within
//     Config.Interval.
//   - What kubelet says of a registration that failed is clipped and quoted
//     where it is logged, and appears nowhere else.
//
// It does not promise that kubelet looks: one that does not, or a directory
// that is not kubelet's, shows only in Err. Whoever starts a process anew makes
// the socket anew, on which kubelet forgets the driver and registers it again
// within about two seconds; calls in between wait for kubelet's next try.
//
// The caller first listens on the CSI socket: kubelet calls it while it
// registers.
package registration
