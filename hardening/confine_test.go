package hardening_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/hardening"
)

const confinedStatus = "Name:\tportcullis-node\nCapInh:\t0000000000000000\nCapPrm:\t0000000000204081\nCapEff:\t0000000000204081\n" +
	"CapBnd:\t0000000000204081\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n"

// needed is CAP_CHOWN, CAP_SETUID, CAP_IPC_LOCK and CAP_SYS_ADMIN.
const needed = 1<<0 | 1<<7 | 1<<14 | 1<<21

func TestStatusOfAThread(t *testing.T) {
	tests := map[string]struct{ from, to, want string }{
		"confined":           {"", "", ""},
		"permitted":          {"CapPrm:\t00", "CapPrm:\t01", "the permitted set is 0100000000204081"},
		"fewer":              {"CapPrm:\t0000000000204081", "CapPrm:\t0000000000200081", "the permitted set is 0000000000200081"},
		"effective":          {"CapEff:\t0000000000204081", "CapEff:\t0000000000204083", "the effective set is"},
		"bounding":           {"CapBnd:\t0000000000204081", "CapBnd:\t000001ffffffffff", "the bounding set is"},
		"inheritable":        {"CapInh:\t0000000000000000", "CapInh:\t0000000000200000", "the inheritable set is"},
		"ambient":            {"CapAmb:\t0000000000000000", "CapAmb:\t0000000000200000", "the ambient set is"},
		"new privileges":     {"NoNewPrivs:\t1", "NoNewPrivs:\t0", "no_new_privs is not set"},
		"no permitted set":   {"CapPrm", "Cap", "CapPrm"},
		"no no_new_privs":    {"NoNewPrivs", "NoNew", "NoNewPrivs"},
		"number that is not": {"CapBnd:\t00", "CapBnd:\t-1", "CapBnd"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := hardening.BeyondConfinement(strings.Replace(confinedStatus, tt.from, tt.to, 1), needed)
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("thread is judged %q, want %q in it", got, tt.want)
			}
		})
	}
}

func TestProfileChoosesWhatIsNeeded(t *testing.T) {
	const all = 1<<41 - 1
	own, others := hardening.Profile{}, hardening.Profile{OtherOwners: true}
	tests := map[string]struct {
		profile hardening.Profile
		have    uint64
		want    []string
		missing string
		remedy  string
	}{
		"everything":                {own, all, []string{"CAP_CHOWN", "CAP_SETUID", "CAP_IPC_LOCK", "CAP_SYS_ADMIN"}, "", ""},
		"sockets of other users":    {others, all, []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_IPC_LOCK", "CAP_SYS_ADMIN"}, "", ""},
		"no locking is no refusal":  {own, all &^ (1 << 14), []string{"CAP_CHOWN", "CAP_SETUID", "CAP_SYS_ADMIN"}, "", ""},
		"no more than is there":     {own, needed, []string{"CAP_CHOWN", "CAP_SETUID", "CAP_IPC_LOCK", "CAP_SYS_ADMIN"}, "", ""},
		"nothing":                   {own, 0, nil, "CAP_CHOWN, CAP_SETUID, CAP_SYS_ADMIN", "privileged: true"},
		"no mounting":               {own, all &^ (1 << 21), nil, "CAP_SYS_ADMIN", "privileged: true"},
		"no chown":                  {own, all &^ (1 << 0), nil, "CAP_CHOWN", "run as root"},
		"no sockets of other users": {others, needed, nil, "CAP_DAC_OVERRIDE", "--provider-uid"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := hardening.ChooseCapabilities(tt.profile, tt.have)
			if tt.missing == "" {
				if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
					t.Errorf("choose(%x) = %v, want nil, and (-want +got):\n%s", tt.have, err, diff)
				}
				return
			}
			e, ok := errors.AsType[*hardening.ConfigError](err)
			if !ok || e.Reason != "missing: "+tt.missing || !strings.Contains(e.Remedy, tt.remedy) {
				t.Errorf("choose(%x) = %v, want it to miss %s, and a remedy with %q", tt.have, err, tt.missing, tt.remedy)
			}
		})
	}
}

func TestCapabilitiesThatHaveNoNameHere(t *testing.T) {
	_, err := hardening.ChooseCapabilities(hardening.Profile{}, 0)
	if err == nil {
		t.Fatal("choose(0) = nil, want an error")
	}
	if got, want := hardening.CapabilityNames(1<<8|1<<40), []string{"CAP_SETPCAP", "capability 40"}; !cmp.Equal(got, want) {
		t.Errorf("names = %q, want %q", got, want)
	}
}
