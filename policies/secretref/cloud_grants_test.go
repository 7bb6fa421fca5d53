package secretref_test

import (
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

const cloudGrants = `
- {id: G-1, owner: a, expiry: 2126-12-31, namespaces: [payments], serviceAccounts: [api], provider: aws,
   secrets: ["aws://us-east-1/ssmparameter//team-a/*", "aws://us-east-1/secretsmanager/team-a/*"], scoping: {region: us-east-1}}
- {id: G-2, owner: a, expiry: 2126-12-31, namespaces: [payments], serviceAccounts: [api], provider: aws,
   secrets: ["aws://us-east-1+us-east-2/secretsmanager/team-a/*"], scoping: {region: us-east-1, failoverRegion: us-east-2}}
- {id: G-3, owner: a, expiry: 2126-12-31, namespaces: [payments], serviceAccounts: [api], provider: azure,
   secrets: ["azure://default:kv1/secret/*"], scoping: {keyvaultName: kv1}}
- {id: G-4, owner: a, expiry: 2126-12-31, namespaces: [payments], serviceAccounts: [api], provider: gcp,
   secrets: ["gcp://p1/secrets/a"]}
`

// What the patterns of grants cover, as the engine decides it.
func TestCloudGrants(t *testing.T) {
	engine := policiestest.Engine(t, cloudGrants)
	const sm, ssm = "\n  objectType: secretsmanager\n  objectAlias: f\n", "\n  objectType: ssmparameter\n  objectAlias: f\n"
	aws, azure, gcp := awsCloud(), azureCloud(), gcpCloud()
	for _, test := range []struct {
		name       string
		c          cloud
		parameters map[string]string
		want       policies.Verdict
	}{
		{"parameter", aws, aws.with("region", "us-east-1", "objects", "- objectName: /team-a/x"+ssm), policies.VerdictAllow},
		{"version", aws, aws.with("region", "us-east-1", "objects", "- objectName: /team-a/x\n  objectVersion: v2"+ssm), policies.VerdictAllow},
		{"secret and a value of it", aws, aws.with("region", "us-east-1", "objects", "- objectName: team-a/x\n  jmesPath: [{path: p, objectAlias: g}]"+sm), policies.VerdictAllow},
		{"secret of a parameter's name", aws, aws.with("region", "us-east-1", "objects", "- objectName: /team-a/x"+sm), policies.VerdictDeny},
		{"other team", aws, aws.with("region", "us-east-1", "objects", "- objectName: /team-b/x"+ssm), policies.VerdictDeny},
		{"other region", aws, aws.with("region", "us-east-2", "objects", "- objectName: /team-a/x"+ssm), policies.VerdictDeny},
		{"region of the node", aws, aws.with("objects", "- objectName: /team-a/x"+ssm), policies.VerdictDeny},
		{"other identity", aws, aws.with("region", "us-east-1", "usePodIdentity", "true", "objects", "- objectName: /team-a/x"+ssm), policies.VerdictDeny},
		{"both regions", aws, aws.with("region", "us-east-1", "failoverRegion", "us-east-2", "objects", "- objectName: team-a/x"+sm), policies.VerdictAllow},
		{"other team behind the failover", aws, aws.with("region", "us-east-1", "failoverRegion", "us-east-2",
			"objects", "- objectName: team-a/x\n  failoverObject: {objectName: team-b/x}"+sm), policies.VerdictDeny},
		{"other account", aws, aws.with("region", "us-east-1", "objects", "- objectName: arn:aws:secretsmanager:us-east-1:111122223333:secret:team-a/x"+sm), policies.VerdictDeny},
		{"key vault secret", azure, azure.with("objects", azureEntry("objectName: A", "objectType: secret")), policies.VerdictAllow},
		{"key vault certificate", azure, azure.with("objects", azureEntry("objectName: a", "objectType: cert")), policies.VerdictDeny},
		{"other cloud", azure, azure.with("cloudName", "AzureChinaCloud"), policies.VerdictDeny},
		{"other vault", azure, azure.with("keyvaultName", "kv2"), policies.VerdictDeny},
		{"other client", azure, azure.with("clientID", "x"), policies.VerdictDeny},
		{"nothing set", azure, azure.with("clientID", " ", "cloudName", ""), policies.VerdictAllow},
		{"secret of a project", gcp, gcp.with(), policies.VerdictAllow},
		{"latest", gcp, gcp.with("secrets", "- {resourceName: projects/p1/secrets/a/versions/latest, path: f}"), policies.VerdictAllow},
		{"other project", gcp, gcp.with("secrets", "- {resourceName: projects/p2/secrets/a/versions/1, path: f}"), policies.VerdictDeny},
		{"regional secret", gcp, gcp.with("secrets", "- {resourceName: projects/p1/locations/us-east1/secrets/a/versions/1, path: f}"), policies.VerdictDeny},
		{"the provider's credentials", gcp, gcp.with("auth", "provider-adc"), policies.VerdictDeny},
	} {
		t.Run(test.name, func(t *testing.T) {
			reading := test.c.read(test.parameters)
			for i := range reading.Requests {
				reading.Requests[i].Secret = strings.Replace(reading.Requests[i].Secret, digest, policiestest.Digest, 1)
			}
			d := engine.Decide(t.Context(), policiestest.Input(func(in *policies.Input) {
				in.SPC.Provider, in.SPC.Scoping, in.Requests = test.c.provider, reading.Scoping, reading.Requests
			}))
			if d.Verdict() != test.want {
				t.Errorf("Decide(%+v) = %v (%v), want %v", reading.Requests, d.Verdict(), d.Undecided, test.want)
			}
		})
	}
}
