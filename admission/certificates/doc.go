// Package certificates gives the webhook a serving certificate that API servers
// trust, and has them trust the next one before it is served.
//
// A [Rotator] keeps a certificate authority and a serving certificate in one Secret
// that all replicas share, and the caBundle of the ValidatingWebhookConfiguration
// that API servers verify them by. A [Directory] takes both from somebody else:
// cert-manager writes the files and the caBundle. [Served] says whether what this
// process serves is what the live configuration trusts.
//
// # How an authority is replaced
//
// The next one is made when a third of its predecessor's life is left. It is in the
// caBundle first, beside the other; when it was there for an hour, so that every API
// server has seen it, it signs; and the old one leaves the caBundle when the longest
// life of what it signed is over. No replica needs to know of any other, and none
// leads: each looks at the Secret and the configuration, does the next step, and
// writes only what it has read (resourceVersion). Who loses a race looks again. A
// replica that cannot reach the API server meanwhile serves what is still trusted.
//
// # What is put right
//
// A caBundle that somebody changed is written again. A Secret that was emptied or
// holds something else is written again from memory; where no replica is left that
// remembers, a new authority begins, and what the caBundle held stays in it for ten
// minutes, for the replicas that still serve by it. A Secret that was deleted cannot
// be made again, since a right to create Secrets cannot be limited to a name: what is
// in memory is served and renewed, and readiness says what to do.
//
// # Time
//
// Whether a certificate is valid is judged by API servers. So their clock counts, as
// the Date of their answers tells it, and not this node's: a node whose clock is days
// ahead would otherwise sign what is not valid yet, for all replicas. A clock that
// leaps by more than an hour counts once every answer of two minutes says so: one API
// server of several may be wrong, and what is made by its clock the others refuse.
//
// # Rights
//
// get and update of the one Secret; get and patch of the one configuration, and get
// alone where certificates come from a [Directory].
package certificates
