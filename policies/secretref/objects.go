package secretref

// object is one entry of the objects array that providers without a syntax of
// their own share.
type object struct {
	name, alias, version string
	mode                 *uint32
	uid                  *int64
}

// file is the path that the object becomes below the volume.
func (o object) file() string {
	if o.alias != "" {
		return o.alias
	}
	return o.name
}

// parseObjects reads a YAML list of maps, or refuses it.
func parseObjects(text string) ([]object, error) {
	root, err := parseDocument(objectsParameter, text)
	if err != nil {
		return nil, err
	}
	entries, err := root.list()
	if err != nil {
		return nil, err
	}
	objects := make([]object, len(entries))
	for i, n := range entries {
		if objects[i], err = parseObject(n); err != nil {
			return nil, err
		}
	}
	return objects, nil
}

func parseObject(n node) (object, error) {
	f, err := n.fields("objectName", "objectAlias", "objectVersion", "filePermission", "ownerUID")
	if err != nil {
		return object{}, err
	}
	var o object
	for _, t := range []struct {
		to   *string
		name string
	}{{&o.name, "objectName"}, {&o.alias, "objectAlias"}, {&o.version, "objectVersion"}} {
		if *t.to, err = f.text(t.name); err != nil {
			return object{}, err
		}
	}
	if o.mode, err = f.mode("filePermission"); err != nil {
		return object{}, err
	}
	if o.uid, err = f.uid("ownerUID"); err != nil {
		return object{}, err
	}
	if o.name == "" {
		return object{}, uncertain("an entry of objects has no objectName")
	}
	return o, nil
}
