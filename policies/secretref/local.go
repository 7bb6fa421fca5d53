package secretref

const (
	// localProvider serves files of the node: cmd/portcullis-provider-local.
	localProvider = "local"
	// localBackend: each node has its own directory, and there is one.
	localBackend = "node"
)

// localReader reads the parameters of our own local provider: objects and
// nothing else. The object's name is the path of a file.
type localReader struct{}

// Read implements Reader.
func (localReader) Read(p Params) Reading {
	list := listOf(p)
	reading := Reading{LiteralCredentials: list.credentials, TooMany: tooMany(list.err)}
	for name := range p.Parameters {
		if name != objectsParameter {
			reading.Requests = unparsed(p, "provider local knows no parameter but objects")
			return reading
		}
	}
	reading.Requests = list.requests(p, localBackend, validFile)
	return reading
}

func (localReader) syntax() Syntax {
	return Syntax{
		Provider: localProvider, List: objectsParameter, ID: "local://node/<objectName>[@<objectVersion>]",
		File: "`objectAlias`, else `objectName`", Unparsed: []string{"any parameter but `objects`"},
	}
}
