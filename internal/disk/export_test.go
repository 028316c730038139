package disk

// Only is the part of ReadSection that follows opening.
func (f *File) Only(kind uint16, limit int) ([]byte, error) { return f.only(kind, limit) }
