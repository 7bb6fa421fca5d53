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
	return parseList(objectsParameter, text, parseObject)
}

func parseObject(n node) (object, error) {
	f, err := n.fields("objectName", "objectAlias", "objectVersion", "filePermission", "ownerUID")
	if err != nil {
		return object{}, err
	}
	var o object
	if err := readAll(f.text, field{"objectName", &o.name}, field{"objectAlias", &o.alias}, field{"objectVersion", &o.version}); err != nil {
		return object{}, err
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
