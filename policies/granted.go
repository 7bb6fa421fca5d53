package policies

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
)

// NamedGrant is a grant that names a secret for somebody in a namespace. Whether
// it is live for a pod, a decision says.
type NamedGrant struct {
	ID             string
	ServiceAccount string // * for every one
}

// GrantsIn returns the grants, live or not, by which pods of a namespace with these
// labels could be given each of these secrets, each once and sorted. It is for
// authors of classes: it looks at every subject of the index, and no decision uses
// it.
func (e *Engine) GrantsIn(ctx context.Context, namespace string, labels map[string]string, secrets []string) (map[string][]NamedGrant, error) {
	found := make(map[string]map[NamedGrant]bool, len(secrets))
	for _, s := range secrets {
		found[s] = map[NamedGrant]bool{}
	}
	if e == nil {
		return sortedGrants(found), nil
	}
	value, err := storage.ReadOne(ctx, e.store, storage.Path{"portcullis", "grants", "by_subject"})
	if err != nil {
		return nil, fmt.Errorf("read the index of grants: %w", err)
	}
	index, ok := value.(ast.Object)
	if !ok {
		return nil, errors.New("read the index of grants: it is no object")
	}
	err = index.Iter(func(key, bySecret *ast.Term) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		account, ok := subjectIn(key, namespace, labels)
		if !ok {
			return nil
		}
		for _, s := range secrets {
			for _, id := range grantsUnder(bySecret, s) {
				found[s][NamedGrant{ID: id, ServiceAccount: account}] = true
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the index of grants: %w", err)
	}
	return sortedGrants(found), nil
}

// subjectIn returns the service account of a subject key that is of this namespace.
// The loader only files grants by labels that the configuration allows.
func subjectIn(key *ast.Term, namespace string, labels map[string]string) (account string, ok bool) {
	text, ok := key.Value.(ast.String)
	at := strings.LastIndexByte(string(text), '/')
	if !ok || at < 0 {
		return "", false
	}
	scope, account := string(text)[:at], string(text)[at+1:]
	label, byLabel := strings.CutPrefix(scope, "label:")
	if !byLabel {
		return account, scope == namespace
	}
	name, want, _ := strings.Cut(label, "=")
	have, set := labels[name]
	return account, set && have == want
}

func grantsUnder(bySecret *ast.Term, secret string) []string {
	filed, ok := bySecret.Value.(ast.Object)
	if !ok {
		return nil
	}
	var ids []string
	for _, key := range SecretKeys(secret) {
		records := filed.Get(ast.StringTerm(key))
		if records == nil {
			continue
		}
		list, ok := records.Value.(*ast.Array)
		if !ok {
			continue
		}
		list.Foreach(func(record *ast.Term) {
			if id := record.Get(ast.StringTerm("id")); id != nil {
				if text, ok := id.Value.(ast.String); ok {
					ids = append(ids, string(text))
				}
			}
		})
	}
	return ids
}

func sortedGrants(found map[string]map[NamedGrant]bool) map[string][]NamedGrant {
	out := make(map[string][]NamedGrant, len(found))
	for secret, set := range found {
		out[secret] = slices.SortedFunc(maps.Keys(set), func(a, b NamedGrant) int {
			return strings.Compare(a.ID+"\x00"+a.ServiceAccount, b.ID+"\x00"+b.ServiceAccount)
		})
	}
	return out
}

// CredentialFindings are the denials that every decision about this class has,
// whoever asks: of credentials in plain text.
func CredentialFindings(s SPC) []Finding { return checkCredentials(s) }
