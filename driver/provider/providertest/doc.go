// Package providertest is a provider that does as a test tells it, on a real
// unix socket and over the real protocol.
//
// It promises that what a Handler returns goes over the wire unchanged, also
// where a decent provider would never send it, and that the socket has the
// owner and the mode that Config asks for. It does not promise to keep secrets:
// it records requests and contents in plain memory, so it belongs in tests and
// nowhere else. A test that runs the provider as another user must be root.
package providertest
