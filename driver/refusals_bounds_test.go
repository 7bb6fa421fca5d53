package driver_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
)

// atTheBounds are pods and classes that are as large as they may be. What is
// one beyond has its rows among the refusals.
func atTheBounds() map[string]func(*node, *pod) {
	label := "{k: " + strings.Repeat("x", 16<<10-1) + "}"
	return map[string]func(*node, *pod){
		"64 objects": classOf("local", listed(64), ""),
		"64 KiB of parameters": func(n *node, p *pod) {
			all := parametersOf(64 << 10)
			// The local provider knows one parameter only: the rest is a comment.
			padded := all["objects"] + "#" + all["note"] + strings.Repeat("x", len("note")-1)
			classOf("local", map[string]string{"objects": padded}, "")(n, p)
		},
		"16 KiB of pod labels": func(n *node, p *pod) {
			manifest("namespace: payments,", "namespace: payments, labels: "+label+",")(n, p)
		},
		"16 KiB of namespace labels": func(n *node, _ *pod) {
			n.write("objects.yaml", strings.Replace(objects, "{name: payments}", "{name: payments, labels: "+label+"}", 1))
		},
		"16 KiB of annotations": func(n *node, _ *pod) {
			n.write("objects.yaml", strings.Replace(objects, "name: api, namespace: payments}", "name: api, namespace: payments, annotations: "+label+"}", 1))
		},
		"64 copies": func(n *node, p *pod) {
			var list []string
			for i := range 64 {
				list = append(list, fmt.Sprintf("{objectName: password, key: k%d}", i))
			}
			classOf("local", map[string]string{"objects": plainObjects},
				"  secretObjects: [{secretName: s, type: Opaque, data: ["+strings.Join(list, ", ")+"]}]\n")(n, p)
		},
		"names of 253 bytes": func(n *node, p *pod) {
			p.name = strings.Repeat("a", 63) + "." + strings.Repeat("b", 63) + "." + strings.Repeat("c", 63) + "." + strings.Repeat("d", 61)
			n.add(*p)
		},
		"group 2147483647": func(n *node, p *pod) {
			p.fsGroup = "2147483647"
			n.add(*p)
		},
		"group 0": func(n *node, p *pod) {
			p.fsGroup = "0"
			n.add(*p)
		},
		"override of 64 parameters is policy's to refuse": nil,
	}
}

func TestP12AtTheBoundsIsServed(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		var s script
		n := newNode(t, protection, s.follow)
		n.remove(apiPod())
		worlds := atTheBounds()
		for i, name := range slices.Sorted(maps.Keys(worlds)) {
			t.Run(name, func(t *testing.T) {
				p := numbered(i)
				n.add(p)
				defer n.restore(p)
				if worlds[name] == nil {
					many := map[string]string{}
					for i := range 64 {
						many[fmt.Sprintf("p%d", i)] = "x"
					}
					attributesOf(many)(n, &p)
					expectStatus(t, n.publish(p), codes.PermissionDenied, "PR-010", "; hint: ")
					return
				}
				worlds[name](n, &p)
				want := secretFiles()
				if name == "64 objects" {
					clear(want)
					for i := range 64 {
						want[fmt.Sprintf("payments/f%d", i)] = canary
					}
				}
				s.set(p, providertest.Files(want))
				if err := n.publish(p); err != nil {
					t.Fatalf("NodePublishVolume() = %v, want nil", err)
				}
				if got := n.filesBelow(n.target(p)); len(got) != len(want) {
					t.Errorf("%d files are mounted, want %d", len(got), len(want))
				}
				n.mustUnpublish(p)
				n.expectNothing(p)
			})
		}
	})
}
