# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.host_namespaces_test

import data.portcullis.checks.host_namespaces

_messages(pod) := {finding.message | some finding in host_namespaces.deny with input.pod as pod}

test_pod_of_its_own_is_allowed if count(_messages({"hostPID": false, "hostIPC": false})) == 0

test_processes_of_the_node_are_denied if _messages({"hostPID": true, "hostIPC": false}) == {"the pod sets hostPID"}

test_ipc_of_the_node_is_denied if _messages({"hostPID": false, "hostIPC": true}) == {"the pod sets hostIPC"}

test_both_are_denied_once if _messages({"hostPID": true, "hostIPC": true}) == {"the pod sets hostIPC and hostPID"}
