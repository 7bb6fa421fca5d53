package hardening

import "golang.org/x/sys/unix"

// Offsets in struct seccomp_data (linux/seccomp.h); both architectures have the
// low half of an argument first.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
	argSize      = 8
	halfSize     = 4
)

// x32Bit is in the numbers of the x32 ABI (asm/unistd.h).
const x32Bit = 0x40000000

// program is a filter under construction. go-seccomp-bpf assembles filters too,
// but v1.6.0 goes on to the rules after a failed condition with the argument
// where the number of the call should be. Here a rule that has looked at an
// argument always ends in an answer.
type program []unix.SockFilter

// load puts a word of the call where the other instructions look.
func (p *program) load(offset uint32) {
	*p = append(*p, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset})
}

func (p *program) answer(action uint32) {
	*p = append(*p, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action})
}

func (p *program) jump(op uint16, k uint32, yes, no uint8) {
	*p = append(*p, unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, Jt: yes, Jf: no, K: k})
}

// when answers if the word is k.
func (p *program) when(k, action uint32) {
	p.jump(unix.BPF_JEQ, k, 0, 1)
	p.answer(action)
}

// unless answers if the word is not k.
func (p *program) unless(k, action uint32) {
	p.jump(unix.BPF_JEQ, k, 1, 0)
	p.answer(action)
}

// from answers if the word is k or more.
func (p *program) from(k, action uint32) {
	p.jump(unix.BPF_JGE, k, 0, 1)
	p.answer(action)
}

// rule answers calls of this number, one way or the other.
func (p *program) rule(number uint32, r conditional) {
	var body program
	for _, use := range r.uses {
		var tests program
		for _, c := range use {
			tests.test(c)
		}
		// Wherever a test fails, the next use is tried.
		for i := range tests {
			if tests[i].Code == unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K {
				tests[i].Jf = uint8(len(tests) - i) //nolint:gosec // G115: a few
			}
		}
		tests.answer(unix.SECCOMP_RET_ALLOW)
		body = append(body, tests...)
	}
	body.answer(refusal(r.errno))
	p.jump(unix.BPF_JEQ, number, 0, uint8(len(body))) //nolint:gosec // G115: a test has them below 256
	*p = append(*p, body...)
}

// test goes on if the condition holds; both halves of an argument count.
func (p *program) test(c condition) {
	for half := range uint32(2) {
		p.load(offsetArgs + argSize*c.argument + halfSize*half)
		*p = append(*p, unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: uint32(c.mask >> (32 * half))}) //nolint:gosec // G115: a half
		p.jump(unix.BPF_JEQ, uint32(c.bits>>(32*half)), 0, 0)                                                              //nolint:gosec // G115: a half
	}
}
