//go:build integration

package integration_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"

	"k8s.io/client-go/rest"
)

// proxy stands between the plugin and the API server, and can answer in its
// place.
type proxy struct {
	code    atomic.Int64 // answered to everything; 0 passes requests on
	refused atomic.Int64 // how often
	asked   atomic.Int64 // how many requests came in all
}

// throughProxy starts the plugin again, with a proxy before the API server.
func (w *world) throughProxy() *proxy {
	w.t.Helper()
	admin := w.cluster.Admin()
	target, err := url.Parse(admin.Host)
	if err != nil {
		w.t.Fatal(err)
	}
	transport, err := rest.TransportFor(&rest.Config{Host: admin.Host, TLSClientConfig: rest.TLSClientConfig{CAData: admin.CAData}})
	if err != nil {
		w.t.Fatal(err)
	}
	p := &proxy{}
	pass := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: transport, FlushInterval: -1,
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		code := int(p.code.Load())
		if code == 0 {
			pass.ServeHTTP(rw, r)
			return
		}
		p.refused.Add(1)
		rw.Header().Set("Retry-After", "1")
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(code)
		_, _ = rw.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"TooManyRequests","code":429}`))
	}))
	w.t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	config := w.cluster.As(w.t, "kube-system", "secrets-store-csi-driver")
	config.Host = server.URL
	config.CAData = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	kubeconfig := "--kubeconfig=" + w.cluster.Kubeconfig(w.t, config)
	for i, a := range w.args {
		if strings.HasPrefix(a, "--kubeconfig=") {
			w.args[i] = kubeconfig
		}
	}
	w.plugin.Stop()
	w.start()
	return p
}
