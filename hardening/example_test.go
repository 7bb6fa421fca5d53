package hardening_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/portcullis-csi/portcullis/hardening"
)

func ExamplePlaintext() {
	password := hardening.NewPlaintext([]byte("hunter2"))
	defer password.Wipe()

	fmt.Printf("%v %s %x\n", password, password, password)
	_, err := json.Marshal(password)
	fmt.Println(errors.Is(err, hardening.ErrMarshal))
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	log.Info("fetched", "value", password)
	// Output:
	// [redacted] [redacted] [redacted]
	// true
	// level=INFO msg=fetched value=[redacted]
}

func ExamplePlaintext_Use() {
	password := hardening.NewPlaintext([]byte("hunter2"))
	err := password.Use(func(b []byte) error {
		fmt.Println(len(b), "bytes")
		return nil
	})
	fmt.Println(err)
	password.Wipe()
	fmt.Println(password.Use(func([]byte) error { return nil }))
	// Output:
	// 7 bytes
	// <nil>
	// plaintext is wiped
}

func ExampleParseTargetPath() {
	const target = "/var/lib/kubelet/pods/264de746-ed05-400f-b34a-a012602cab67/volumes/kubernetes.io~csi/secrets/mount"
	uid, volume, err := hardening.ParseTargetPath("/var/lib/kubelet", target)
	fmt.Println(uid, volume, err)
	_, _, err = hardening.ParseTargetPath("/var/lib/kubelet", "/etc")
	fmt.Println(err)
	// Output:
	// 264de746-ed05-400f-b34a-a012602cab67 secrets <nil>
	// target_path "/etc": not below the pods directory of --kubelet-root
}

func ExampleParseSetting() {
	setting, err := hardening.ParseSetting("mlock")
	fmt.Println(setting, err)
	_, err = hardening.ParseSetting("off")
	fmt.Println(err)
	// Output:
	// mlock <nil>
	// --swap-protection: unknown value "off"; hint: use auto, noswap or mlock
}

func ExampleLimits_SizeBytes() {
	l := hardening.Limits{Bytes: 1 << 20}
	fmt.Println(l.SizeBytes() / 1024)
	// Output: 2052
}

// A first publish, from the detached volume to the sealed mount. It needs root.
func ExampleSystem_NewVolume() {
	sys, err := hardening.Open(hardening.Config{KubeletRoot: "/var/lib/kubelet", Protection: hardening.SettingAuto})
	if err != nil {
		fmt.Println(err)
		return
	}
	publish := func(uid, name string, files []hardening.File) error {
		target, err := sys.Target(uid, name)
		if err != nil {
			return err
		}
		v, err := sys.NewVolume(hardening.Limits{Bytes: 1 << 20, GID: 2000})
		if err != nil {
			return errors.Join(err, target.Close())
		}
		err = v.Fill(files)
		if err == nil {
			err = target.Prepare()
		}
		if err == nil {
			err = v.Attach(target)
		}
		return errors.Join(err, v.Close(), target.Close())
	}
	fmt.Println(publish("264de746-ed05-400f-b34a-a012602cab67", "secrets", nil))
}
