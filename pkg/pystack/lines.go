package pystack

// maxLine is the largest line number that is believed.
const maxLine = 1<<31 - 1

// line finds the line of the instruction at a byte offset, from the table of its
// code object. 0 is none: some instructions belong to no line, and some tables
// are none.
func (k lineTable) line(table []byte, first, at int64) int {
	var line int64
	switch {
	case at < 0: // not begun
		line = first
	case k == lnotab:
		line = lineOfLnotab(table, first, at)
	case k == linetable:
		line = lineOfLinetable(table, first, at)
	default:
		line = lineOfLocations(table, first, at)
	}
	if line <= 0 || line > maxLine {
		return 0
	}
	return int(line)
}

// lineOfLnotab: pairs of how far the offset and the line advance, the second
// signed.
func lineOfLnotab(table []byte, first, at int64) int64 {
	line, offset := first, int64(0)
	for ; len(table) >= 2; table = table[2:] {
		if offset += int64(table[0]); offset > at {
			break
		}
		line += int64(int8(table[1]))
	}
	return line
}

// lineOfLinetable: pairs of how many bytes a line has and how far it is from the
// one before, -128 for bytes without a line.
func lineOfLinetable(table []byte, first, at int64) int64 {
	const none = -128
	line, end := first, int64(0)
	for ; len(table) >= 2; table = table[2:] {
		delta := int64(int8(table[1]))
		if delta != none {
			line += delta
		}
		if end += int64(table[0]); at < end {
			if delta == none {
				return 0
			}
			return line
		}
	}
	return 0
}

// The forms of an entry of the location table, bits 3 to 6 of its first byte. Of
// most only the length matters here.
const (
	formOneLine  = 10 // to 12: that many lines on, less 10; two columns
	formNoColumn = 13
	formLong     = 14
	formNone     = 15
)

// lineOfLocations: an entry for some code units of two bytes each. Its first byte
// has bit 7 set, which no other byte has.
func lineOfLocations(table []byte, first, at int64) int64 {
	line, end := first, int64(0)
	for len(table) > 0 {
		head := table[0]
		if head&0x80 == 0 {
			return 0
		}
		table = table[1:]
		form := int64(head >> 3 & 15)
		switch {
		case form == formNone:
		case form == formLong, form == formNoColumn:
			line += signed(table)
		case form >= formOneLine:
			line += form - formOneLine
		}
		for len(table) > 0 && table[0]&0x80 == 0 {
			table = table[1:]
		}
		if end += int64(head&7+1) * 2; at < end {
			if form == formNone {
				return 0
			}
			return line
		}
	}
	return 0
}

// signed reads a number in groups of six bits, the lowest first, of which bit 6
// says that another follows; the lowest bit of all is the sign.
func signed(b []byte) int64 {
	var n uint64
	for i := 0; i < len(b) && i < 6 && b[i]&0x80 == 0; i++ {
		n |= uint64(b[i]&63) << (6 * i)
		if b[i]&64 == 0 {
			break
		}
	}
	if n&1 != 0 {
		return -int64(n >> 1)
	}
	return int64(n >> 1)
}
