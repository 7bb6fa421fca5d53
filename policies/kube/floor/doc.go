// Package floor keeps the cluster's floor of policy serials in a ConfigMap.
//
// It promises that what it returns is what the API server says and a whole serial,
// or an error, and that Raise only ever raises, also where two do so at once.
//
// It does not say which serial is to be the floor: its caller has verified and put
// in force a bundle that has it. That nobody else may write the ConfigMap is up to
// RBAC and to a ValidatingAdmissionPolicy.
package floor
