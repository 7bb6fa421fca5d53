package hardening_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/hardening"
)

func TestSwapActive(t *testing.T) {
	const heading = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
	tests := []struct {
		name, swaps string
		want        bool
	}{
		{"no swap", heading, false},
		{"no swap, no newline", strings.TrimSpace(heading), false},
		{"kernel without swap", "", false},
		{"file", heading + "/swapfile  file\t1048572\t0\t-2\n", true},
		{"zram and partition", heading + "/dev/zram0 partition 1 0 100\n/dev/sda2 partition 1 0 -2\n", true},
		{"blank line", heading + "\n", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := hardening.SwapActive(tt.swaps); got != tt.want {
				t.Errorf("SwapActive(%q) = %v, want %v", tt.swaps, got, tt.want)
			}
		})
	}
}

func TestLockVerdict(t *testing.T) {
	denied := errors.New("operation not permitted")
	tests := []struct {
		name   string
		err    error
		swapOn bool
		ok     bool
	}{
		{"locked", nil, false, true},
		{"locked with swap", nil, true, true},
		{"not locked, no swap to write to", denied, false, true},
		{"not locked with swap", denied, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := hardening.LockVerdict(tt.err, tt.swapOn)
			if tt.ok {
				if err != nil {
					t.Errorf("LockVerdict(%v, %v) = %v, want nil", tt.err, tt.swapOn, err)
				}
				return
			}
			e, ok := errors.AsType[*hardening.ConfigError](err)
			if !ok || !strings.Contains(e.Remedy, "CAP_IPC_LOCK") || !strings.Contains(e.Reason, "not permitted") {
				t.Errorf("LockVerdict(%v, %v) = %v, want the reason and the remedy", tt.err, tt.swapOn, err)
			}
		})
	}
}

func TestChooseProtection(t *testing.T) {
	denied := errors.New("RLIMIT_MEMLOCK is 8388608")
	var (
		modern   = hardening.KernelOffers{Noswap: true}
		modernOn = hardening.KernelOffers{Noswap: true, SwapOn: true}
		old      = hardening.KernelOffers{}
		oldOn    = hardening.KernelOffers{SwapOn: true}
		poor     = hardening.KernelOffers{LockErr: denied}
		poorOn   = hardening.KernelOffers{LockErr: denied, SwapOn: true}
	)
	tests := []struct {
		name    string
		setting hardening.Setting
		offers  hardening.KernelOffers
		want    hardening.SwapProtection
		remedy  string // part of it, if refused
	}{
		{"auto on a modern kernel", hardening.SettingAuto, modern, hardening.ProtectionNoswap, ""},
		{"auto on a modern kernel with swap", hardening.SettingAuto, modernOn, hardening.ProtectionNoswap, ""},
		{"auto on an old kernel without swap", hardening.SettingAuto, old, hardening.ProtectionMlock, ""},
		{"auto on an old kernel with swap", hardening.SettingAuto, oldOn, "", "--swap-protection=mlock"},
		{"auto, nothing works", hardening.SettingAuto, poor, "", "CAP_IPC_LOCK"},
		{"auto, nothing works, with swap", hardening.SettingAuto, poorOn, "", "turn swap off"},
		{"noswap on a modern kernel", hardening.SettingNoswap, modernOn, hardening.ProtectionNoswap, ""},
		{"noswap on an old kernel", hardening.SettingNoswap, old, "", "Linux 6.4"},
		{"mlock on a modern kernel", hardening.SettingMlock, modern, hardening.ProtectionMlock, ""},
		{"mlock with swap, asked for by name", hardening.SettingMlock, oldOn, hardening.ProtectionMlock, ""},
		{"mlock not permitted", hardening.SettingMlock, poor, "", "RLIMIT_MEMLOCK"},
		{"nothing asked", "", modern, "", "auto, noswap or mlock"},
		{"unknown", "none", modern, "", "auto, noswap or mlock"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := hardening.ChooseProtection(tt.setting, tt.offers)
			if got != tt.want || (err == nil) != (tt.remedy == "") {
				t.Fatalf("ChooseProtection(%q, %+v) = %q, %v, want %q", tt.setting, tt.offers, got, err, tt.want)
			}
			if err == nil {
				return
			}
			if e, ok := errors.AsType[*hardening.ConfigError](err); !ok || e.Field != "--swap-protection" || !strings.Contains(e.Remedy, tt.remedy) {
				t.Errorf("ChooseProtection(%q) = %v, want a ConfigError whose remedy has %q", tt.setting, err, tt.remedy)
			}
		})
	}
}
