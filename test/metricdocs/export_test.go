package metricdocs

// Replaced is replaced.
var Replaced = replaced
