// Package bench measures the whole plugin from outside: real programs, real
// sockets, the CSI calls that kubelet makes. The parts of a publish are measured
// apart by the benchmarks of policies (Decide), audit/log (Append),
// driver/provider (Deliver) and hardening (Volume). It promises figures, not
// limits: machines are noisy, so nothing here fails for being slow.
package bench
