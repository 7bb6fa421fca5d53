package log

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"io"
)

// The file format of bbolt, version 2, as far as reading needs it. Package
// bbolt trusts its pages: an altered one makes it panic, fault or loop for
// ever, none of which may happen to a plugin that starts or to an auditor. So
// whatever comes from outside is read by the few lines below first, which
// follow no pointer twice and no pointer out of the file.
const (
	pageHeaderSize   = 16
	elementSize      = 16
	metaBodySize     = 64
	bucketHeaderSize = 16
	boltMagic        = 0xED0CDAED
	boltVersion      = 2
	smallestPage     = 1 << 10
	largestPage      = 1 << 16
	lastMetaAt       = 1 << 24 // where bbolt looks last

	// maxRun is far beyond a page with the largest leaves, and bounds what a
	// file that claims to be long can make us allocate.
	maxRun = 1 << 20
	// noFreelist stands where no list of free pages was written.
	noFreelist = ^uint64(0)

	flagBranch = 0x01
	flagLeaf   = 0x02
	flagMeta   = 0x04
	flagBucket = 0x01 // of a leaf element: its value is a bucket

	// maxDepth is far beyond what a tree in a real file has.
	maxDepth = 32
)

var errDamaged = errors.New("the page structure is damaged")

// fileState is which of a file's states was read: two readers of the same
// state read the same bytes.
type fileState struct {
	pageSize   int64
	root, txid uint64
}

// pageFile reads the pages of one consistent state of a file.
type pageFile struct {
	fileState
	r    io.ReaderAt
	end  uint64 // first page that is not in use
	seen map[uint64]bool
}

// openPages finds the newest valid state by bbolt's own rules, and refuses it
// afterwards if it is not like ours: to pass over what bbolt takes would be to
// examine one tree and use another.
func openPages(r io.ReaderAt, size int64) (*pageFile, error) {
	pageSize, ok := pageSizeOf(r)
	switch {
	case !ok:
		return nil, errors.New("not an audit log: no valid meta page")
	case pageSize < smallestPage || pageSize > largestPage || pageSize&(pageSize-1) != 0:
		return nil, errDamaged
	}
	best, found := meta{}, false
	for _, at := range []int64{0, pageSize} {
		if m, ok := readMeta(r, at); ok && (!found || m.txid > best.txid) {
			best, found = m, true
		}
	}
	switch {
	case !found || !best.plain || best.pageSize != pageSize:
		return nil, errDamaged
	case best.freelist != noFreelist:
		// bbolt would believe the list, and write over pages in use.
		return nil, errors.New("it has a list of free pages, which no log has")
	case best.end > uint64(size/pageSize): //nolint:gosec // G115: a file size is not negative
		return nil, errors.New("the file is truncated")
	}
	return &pageFile{fileState: fileState{pageSize, best.root, best.txid}, r: r, end: best.end, seen: map[uint64]bool{}}, nil
}

// pageSizeOf takes the word of the first valid meta page.
func pageSizeOf(r io.ReaderAt) (size int64, ok bool) {
	for at := int64(0); at <= lastMetaAt; at = max(2*at, smallestPage) {
		if m, ok := readMeta(r, at); ok {
			return m.pageSize, true
		}
	}
	return 0, false
}

type meta struct {
	pageSize                  int64
	root, freelist, end, txid uint64
	plain                     bool // its page says that it is one, which bbolt does not ask
}

func readMeta(r io.ReaderAt, at int64) (meta, bool) {
	b := make([]byte, pageHeaderSize+metaBodySize)
	if _, err := r.ReadAt(b, at); err != nil {
		return meta{}, false
	}
	le := binary.LittleEndian
	body := b[pageHeaderSize:]
	sum := fnv.New64a()
	sum.Write(body[:56])
	m := meta{
		pageSize: int64(le.Uint32(body[8:])), root: le.Uint64(body[16:]), freelist: le.Uint64(body[32:]),
		end: le.Uint64(body[40:]), txid: le.Uint64(body[48:]), plain: le.Uint16(b[8:]) == flagMeta,
	}
	return m, le.Uint32(body) == boltMagic && le.Uint32(body[4:]) == boltVersion && le.Uint64(body[56:]) == sum.Sum64()
}

// page returns the bytes of a page and its overflow, once.
func (f *pageFile) page(id uint64) ([]byte, error) {
	if id < 2 || id >= f.end {
		return nil, errDamaged
	}
	head := make([]byte, pageHeaderSize)
	at := int64(id) * f.pageSize //nolint:gosec // G115: below end, which openPages held against the file size
	if _, err := f.r.ReadAt(head, at); err != nil {
		return nil, errors.New("the file is truncated")
	}
	overflow := uint64(binary.LittleEndian.Uint32(head[12:]))
	if binary.LittleEndian.Uint64(head) != id || overflow >= f.end-id || overflow >= uint64(maxRun/f.pageSize) { //nolint:gosec // G115: page sizes are positive
		return nil, errDamaged
	}
	for n := id; n <= id+overflow; n++ {
		if f.seen[n] {
			return nil, errDamaged
		}
		f.seen[n] = true
	}
	b := make([]byte, (int64(overflow)+1)*f.pageSize) //nolint:gosec // G115: below end
	if _, err := f.r.ReadAt(b, at); err != nil {
		return nil, errors.New("the file is truncated")
	}
	return b, nil
}

// element is one entry of a page.
type element struct {
	bucket     bool
	child      uint64
	key, value []byte
}

// elements checks and returns the entries of a branch or leaf page.
func elements(b []byte) (list []element, branch bool, err error) {
	if len(b) < pageHeaderSize {
		return nil, false, errDamaged
	}
	le := binary.LittleEndian
	flags, count := le.Uint16(b[8:]), int(le.Uint16(b[10:]))
	if (flags != flagBranch && flags != flagLeaf) || pageHeaderSize+count*elementSize > len(b) {
		return nil, false, errDamaged
	}
	branch = flags == flagBranch
	list = make([]element, count)
	for i := range list {
		at := pageHeaderSize + i*elementSize
		head := b[at : at+elementSize]
		var e element
		var pos, keySize, valueSize uint64
		if branch {
			pos, keySize, e.child = uint64(le.Uint32(head)), uint64(le.Uint32(head[4:])), le.Uint64(head[8:])
		} else {
			e.bucket = le.Uint32(head)&flagBucket != 0
			pos, keySize, valueSize = uint64(le.Uint32(head[4:])), uint64(le.Uint32(head[8:])), uint64(le.Uint32(head[12:]))
		}
		from := uint64(at) + pos
		if keySize == 0 || from < uint64(pageHeaderSize+count*elementSize) || from+keySize+valueSize > uint64(len(b)) {
			return nil, false, errDamaged
		}
		// With their capacity cut, so that an append by a caller stays its own.
		mid, end := from+keySize, from+keySize+valueSize
		e.key, e.value = b[from:mid:mid], b[mid:end:end]
		list[i] = e
	}
	return list, branch, nil
}

// walk gives the entries of a tree in the order of their keys, which it checks.
type walk struct {
	f    *pageFile
	last []byte
	each func(element) error
}

// bucket walks a bucket by its header, as it stands in its parent.
func (f *pageFile) bucket(header []byte, each func(element) error) error {
	if len(header) < bucketHeaderSize {
		return errDamaged
	}
	w := &walk{f: f, each: each}
	root := binary.LittleEndian.Uint64(header)
	if root != 0 {
		return w.tree(root, nil, 0)
	}
	// A small bucket is a leaf page inside its header's value.
	return w.page(header[bucketHeaderSize:], nil, maxDepth)
}

func (w *walk) tree(id uint64, below []byte, depth int) error {
	if depth >= maxDepth {
		return errDamaged
	}
	b, err := w.f.page(id)
	if err != nil {
		return err
	}
	return w.page(b, below, depth)
}

// page walks one page, whose keys must all be below the bound.
func (w *walk) page(b, below []byte, depth int) error {
	list, branch, err := elements(b)
	if err != nil {
		return err
	}
	for i, e := range list {
		bound := below
		if i+1 < len(list) {
			bound = list[i+1].key
		}
		if branch {
			if w.last != nil && bytes.Compare(e.key, w.last) <= 0 || (bound != nil && bytes.Compare(e.key, bound) >= 0) {
				return errDamaged
			}
			if err := w.tree(e.child, bound, depth+1); err != nil {
				return err
			}
			continue
		}
		if w.last != nil && bytes.Compare(e.key, w.last) <= 0 || below != nil && bytes.Compare(e.key, below) >= 0 {
			return errDamaged
		}
		w.last = e.key
		if err := w.each(e); err != nil {
			return err
		}
	}
	return nil
}

// backwards gives the entries of a bucket from the last one on, as long as each
// says so. It does not check their order.
func (f *pageFile) backwards(header []byte, each func(element) bool) error {
	if len(header) < bucketHeaderSize {
		return errDamaged
	}
	b := header[bucketHeaderSize:]
	if root := binary.LittleEndian.Uint64(header); root != 0 {
		var err error
		if b, err = f.page(root); err != nil {
			return err
		}
	}
	_, err := f.pageBackwards(b, each, 0)
	return err
}

func (f *pageFile) pageBackwards(b []byte, each func(element) bool, depth int) (more bool, err error) {
	list, branch, err := elements(b)
	if err != nil || depth >= maxDepth {
		return false, errDamaged
	}
	for i := len(list) - 1; i >= 0; i-- {
		if !branch {
			if !each(list[i]) {
				return false, nil
			}
			continue
		}
		child, err := f.page(list[i].child)
		if err != nil {
			return false, err
		}
		if more, err := f.pageBackwards(child, each, depth+1); !more {
			return false, err
		}
	}
	return true, nil
}
