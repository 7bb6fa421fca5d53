// Command denier is an admission webhook that admits nothing, for tests of how
// the API server reaches one in a pod.
package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"
)

// review is the part of an AdmissionReview that is answered with and to.
type review struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Request    *request  `json:"request,omitempty"`
	Response   *response `json:"response,omitempty"`
}

type request struct {
	UID string `json:"uid"`
}

type response struct {
	UID     string `json:"uid"`
	Allowed bool   `json:"allowed"`
	Status  status `json:"status"`
}

type status struct {
	Message string `json:"message"`
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: denier ADDRESS CERTIFICATE KEY")
		os.Exit(2)
	}
	server := &http.Server{Addr: os.Args[1], Handler: http.HandlerFunc(deny), ReadHeaderTimeout: 5 * time.Second}
	if err := server.ListenAndServeTLS(os.Args[2], os.Args[3]); err != nil {
		slog.Error("serve", "error", err)
		os.Exit(1)
	}
}

func deny(w http.ResponseWriter, r *http.Request) {
	var v review
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&v); err != nil || v.Request == nil {
		http.Error(w, "no AdmissionReview", http.StatusBadRequest)
		return
	}
	v.Response = &response{UID: v.Request.UID, Status: status{"denied by the pod behind the service"}}
	v.Request = nil
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		slog.Error("answer", "error", err)
	}
}
