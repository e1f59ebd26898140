package pystack

import (
	"debug/elf"
	"fmt"
	"io"
)

// Image is what an ELF file says of where _PyRuntime lies. It is read once for an
// interpreter, from its file on the host, and can be kept.
type Image struct {
	Symbol  uint64 // value of the symbol _PyRuntime; 0 is none
	First   uint64 // address of the file's first page, as linked
	Fixed   bool   // it is loaded where it was linked: ET_EXEC
	Offsets []byte // how _PyRuntime begins in the file; nil before Python 3.13
}

const pageSize = 4096

// Locate reads the image of an interpreter, or of its shared library: of whichever
// holds _PyRuntime.
func Locate(file string) (Image, error) {
	f, err := elf.Open(file)
	if err != nil {
		return Image{}, fmt.Errorf("read ELF file %s: %w", file, err)
	}
	defer func() { _ = f.Close() }()
	symbol, err := runtimeSymbol(f)
	if err != nil {
		return Image{}, fmt.Errorf("%s: %w", file, err)
	}
	image := Image{Symbol: symbol.Value, Fixed: f.Type == elf.ET_EXEC}
	found := false
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		if !found { // they are in ascending order (elf(5))
			image.First, found = p.Vaddr&^(pageSize-1), true
		}
		if symbol.Value >= p.Vaddr && symbol.Value+offsetsSize <= p.Vaddr+p.Filesz {
			head := make([]byte, offsetsSize)
			if _, err := p.ReadAt(head, int64(symbol.Value-p.Vaddr)); err != nil && err != io.EOF { //nolint:errorlint // io.ReaderAt returns it as it is
				return Image{}, fmt.Errorf("read _PyRuntime of %s: %w", file, err)
			}
			if string(head[:len(cookie)]) == cookie {
				image.Offsets = head
			}
		}
	}
	if !found {
		return Image{}, fmt.Errorf("%s: no segment is loaded", file)
	}
	return image, nil
}

// runtimeSymbol finds _PyRuntime among the symbols of the dynamic linker, where
// every build has it, for extension modules use it.
func runtimeSymbol(f *elf.File) (elf.Symbol, error) {
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return elf.Symbol{}, fmt.Errorf("its symbols: %w", err)
	}
	for _, s := range symbols {
		if s.Name == "_PyRuntime" && s.Section != elf.SHN_UNDEF && s.Value != 0 {
			return s, nil
		}
	}
	return elf.Symbol{}, fmt.Errorf("%w: it has no symbol _PyRuntime", ErrUnsupported)
}
