package server

// What tests of weights look at.
const (
	MaxWeight       = maxWeight
	WeightElement   = weightElement
	WeightContainer = weightContainer
)

// Weigh is weigh.
func Weigh(text []byte) int { return weigh(text) }

// ReadAgain has the next handshake read the file of callers.
func ReadAgain(c *Callers) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = c.read.Add(-callersAge)
}
