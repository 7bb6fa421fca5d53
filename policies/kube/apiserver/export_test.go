package apiserver

// Strip is the transform of the caches.
var Strip = strip
